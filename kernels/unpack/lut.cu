// unpack.lut_global and unpack.lut_shared: the plain unpack, with the codebook in global or in shared memory.
//
// One thread per chunk of 8 elements: a 4-byte load, 8 look-ups, 8 multiplications by absmax, stores of 16 bytes. A
// last partial chunk, a leading dimension or a misaligned pointer goes element by element.
#include "device/chunk.cuh"
#include "device/launch.cuh"
#include "device/math.hpp"
#include "device/table.cuh"
#include "dispatch.hpp"
#include "families.hpp"
#include "format/codebook.hpp"

namespace nf4 {
namespace {

struct Config {
  int threads;  // per block

  std::string text() const { return "threads=" + std::to_string(threads); }
  bool operator==(const Config&) const = default;
};

constexpr Config kConfigs[] = {{256}, {512}, {128}};

template <class T, class Table, int ConfigIndex, bool Vectorized>
__global__ void __launch_bounds__(kConfigs[ConfigIndex].threads)
    unpack_lut(T* __restrict__ w,  // [weight.rows, weight.cols]
               int64_t ldw,        // elements; equals weight.cols if Vectorized
               const __grid_constant__ Weight weight) {
  constexpr Config config = kConfigs[ConfigIndex];
  const Table table = Table::make();
  const int64_t elements = weight.rows * weight.cols;
  const int64_t stride = int64_t{gridDim.x} * config.threads * kChunk;
  for (int64_t i = (int64_t{blockIdx.x} * config.threads + threadIdx.x) * kChunk; i < elements; i += stride) {
    const float absmax =
        absmax_at(weight.absmax, i >> weight.log2_blocksize);  // of the whole chunk: blocks are multiples of 8
    if (Vectorized && i + kChunk <= elements) {
      const uint32_t codes = *reinterpret_cast<const uint32_t*>(weight.codes + (i >> 1));
      Chunk<T> chunk;
#pragma unroll
      for (int j = 0; j < kChunk; ++j) chunk.values[j] = from_float<T>(table[code_at(codes, j)] * absmax);
      store_chunk(w + i, chunk);
    } else {
      const int64_t end = i + kChunk < elements ? i + kChunk : elements;
      const int64_t gap = Vectorized ? 0 : ldw - weight.cols;  // between rows
      int64_t row_end = Vectorized ? elements : (i / weight.cols + 1) * weight.cols;
      T* to = w + (Vectorized ? i : i + i / weight.cols * gap);
      for (int64_t j = i; j < end; ++j, ++to) {
        if (j == row_end) {
          row_end += weight.cols;
          to += gap;
        }
        *to = from_float<T>(table[code_at(weight.codes, j)] * absmax);
      }
    }
  }
}

template <class Table>
int launch_unpack_lut(const UnpackArgs& args, const Device&, int config, Stream stream) {
  const Weight& weight = args.weight;
  const bool vectorized = args.ldw == weight.cols && reinterpret_cast<uintptr_t>(args.w) % 16 == 0 &&
                          reinterpret_cast<uintptr_t>(weight.codes) % 4 == 0;
  return with_dtype(args.dtype, [&](auto type) {
    using T = decltype(type);
    return with_config<kConfigs>(config, [&](auto index) {
      constexpr int kIndex = decltype(index)::value;
      const auto kernel = vectorized ? unpack_lut<T, Table, kIndex, true> : unpack_lut<T, Table, kIndex, false>;
      const unsigned grid = grid_for(ceil_div(weight.rows * weight.cols, kConfigs[kIndex].threads * kChunk));
      return launch(kernel, grid, kConfigs[kIndex].threads, stream, static_cast<T*>(args.w), args.ldw, weight);
    });
  });
}

template <class Table>
constexpr Variant variant(const char* name, const char* description) {
  return {name,
          description,
          "exact",
          Op::unpack,
          false,
          std::size(kConfigs),
          config_text<kConfigs>,
          always_supported,
          nullptr,
          erased<UnpackArgs, launch_unpack_lut<Table>>};
}

constexpr Variant kVariants[] = {
    variant<SharedTable>("unpack.lut_shared",
                         "a thread per 8 weights, codebook in 64 bytes of shared memory (arXiv 2604.02556)"),
    variant<GlobalTable>("unpack.lut_global", "a thread per 8 weights, codebook in global memory: the baseline"),
};

}  // namespace

std::span<const Variant> unpack_lut_variants() { return kVariants; }

}  // namespace nf4
