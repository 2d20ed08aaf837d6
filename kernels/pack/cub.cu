// pack.cub: quantization to NF4, the block's absmax by CUB.
//
// A thread holds 8 consecutive elements in registers. The blocksize / 8 threads of a block of the format reduce the
// largest magnitude: within a warp, several format blocks to a CUDA block, up to blocksize 256; across one CUDA block
// above. Each thread then codes its 8 elements into one 32-bit word.
#include <cub/block/block_reduce.cuh>
#include <cub/warp/warp_reduce.cuh>

#include "device/chunk.cuh"
#include "device/launch.cuh"
#include "device/math.hpp"
#include "device/warp.hpp"
#include "dispatch.hpp"
#include "families.hpp"
#include "format/codebook.hpp"

namespace nf4 {
namespace {

struct Max {
  __device__ uint32_t operator()(uint32_t a, uint32_t b) const { return a > b ? a : b; }
};

// The threads of one format block, and how they find their maximum.
template <int Blocksize>
struct Group {
  static constexpr int kThreads = Blocksize / kChunk;
  static constexpr bool kInWarp = kThreads <= kWarpSize;
  static constexpr int kBlockThreads = kInWarp ? 256 : kThreads;

  // The maximum over the group, in each of its threads. Every thread of the CUDA block must call it.
  static __device__ uint32_t max(uint32_t value) {
    if constexpr (kInWarp) {
      using Reduce = cub::WarpReduce<uint32_t, kThreads>;
      __shared__ typename Reduce::TempStorage storage[kBlockThreads / kThreads];
      value = Reduce(storage[threadIdx.x / kThreads]).Reduce(value, Max{});
      return __shfl_sync(~0u, value, 0, kThreads);
    } else {
      using Reduce = cub::BlockReduce<uint32_t, kBlockThreads>;
      __shared__ typename Reduce::TempStorage storage;
      __shared__ uint32_t result;
      value = Reduce(storage).Reduce(value, Max{});
      if (threadIdx.x == 0) result = value;
      __syncthreads();
      value = result;
      __syncthreads();  // before the next tile writes `storage` and `result`
      return value;
    }
  }
};

template <class T, int Log2Blocksize, bool Vectorized>
__global__ void __launch_bounds__(Group<1 << Log2Blocksize>::kBlockThreads)
    pack_cub(uint8_t* __restrict__ codes,  // [ceil(rows * cols / 2)]
             float* __restrict__ absmax,   // [ceil(rows * cols / blocksize)]
             const T* __restrict__ w,      // [rows, cols]
             int64_t ldw,                  // elements; equals cols if Vectorized
             int64_t rows, int64_t cols) {
  using Group = Group<1 << Log2Blocksize>;
  const int64_t elements = rows * cols;
  const int64_t tile = int64_t{Group::kBlockThreads} * kChunk;
  for (int64_t base = blockIdx.x * tile; base < elements; base += gridDim.x * tile) {
    const int64_t i = base + threadIdx.x * kChunk;
    float values[kChunk];
    if (Vectorized && i + kChunk <= elements) {
      const Chunk<T> chunk = load_chunk(w + i);
#pragma unroll
      for (int j = 0; j < kChunk; ++j) values[j] = to_float(chunk.values[j]);
    } else {
#pragma unroll
      for (int j = 0; j < kChunk; ++j) {
        values[j] = i + j < elements ? to_float(w[(i + j) / cols * ldw + (i + j) % cols]) : 0.0f;
      }
    }

    // Magnitudes compare as their bits do, and so a NaN wins over Inf, and Inf over every number.
    uint32_t largest = 0;
#pragma unroll
    for (int j = 0; j < kChunk; ++j) largest = Max{}(largest, float_to_bits(values[j]) & 0x7fffffffu);
    largest = Group::max(largest);
    if (i >= elements) continue;

    const float scale = bits_to_float(largest);
    if (threadIdx.x % Group::kThreads == 0) absmax[i >> Log2Blocksize] = scale;
    uint32_t word = 0;
#pragma unroll
    for (int j = 0; j < kChunk; ++j) {
      const uint32_t code = i + j < elements ? encode(values[j] / scale) : kZeroCode;
      word |= code << (j * 4 ^ 4);
    }
    if (Vectorized && i + kChunk <= elements) {
      *reinterpret_cast<uint32_t*>(codes + (i >> 1)) = word;
    } else {
      for (int j = 0; j < kChunk && i + j < elements; j += 2)
        codes[(i + j) >> 1] = static_cast<uint8_t>(word >> (j * 4));
    }
  }
}

int launch_pack_cub(const PackArgs& args, const Device&, int, Stream stream) {
  const bool vectorized = args.ldw == args.cols && reinterpret_cast<uintptr_t>(args.w) % 16 == 0 &&
                          reinterpret_cast<uintptr_t>(args.codes) % 4 == 0;
  return with_dtype(args.dtype, [&](auto type) {
    using T = decltype(type);
    return with_constant<5, 12>(args.log2_blocksize, [&](auto constant) {
      constexpr int kLog2Blocksize = decltype(constant)::value;
      constexpr int kThreads = Group<1 << kLog2Blocksize>::kBlockThreads;
      const auto kernel = vectorized ? pack_cub<T, kLog2Blocksize, true> : pack_cub<T, kLog2Blocksize, false>;
      return launch(kernel, grid_for(ceil_div(args.rows * args.cols, kThreads * kChunk)), kThreads, stream, args.codes,
                    args.absmax, static_cast<const T*>(args.w), args.ldw, args.rows, args.cols);
    });
  });
}

constexpr Variant kVariants[] = {
    {"pack.cub", "8 weights a thread, absmax by CUB's warp or block reduction", "exact", Op::pack, false, 1, no_config,
     always_supported, nullptr, erased<PackArgs, launch_pack_cub>},
};

}  // namespace

std::span<const Variant> pack_cub_variants() { return kVariants; }

}  // namespace nf4
