// pack_absmax.two_pass and unpack_absmax.elementwise: nested quantization of absmax, and its inverse.
//
// Packing needs the mean of all scales before it can code the first. One block sums them in fp64 in a fixed order, so
// the offset is the same on every run; then one block per group finds the group's scale and codes it against the map.
#include <cub/block/block_reduce.cuh>

#include "device/launch.cuh"
#include "device/math.hpp"
#include "families.hpp"

namespace nf4 {
namespace {

constexpr int kMeanThreads = 1024;
constexpr int kGroupThreads = 256;

__global__ void __launch_bounds__(kMeanThreads) mean(float* __restrict__ offset,        // [1]
                                                     const float* __restrict__ absmax,  // [count]
                                                     int64_t count) {
  using Reduce = cub::BlockReduce<double, kMeanThreads>;
  __shared__ typename Reduce::TempStorage storage;
  double sum = 0.0;
#pragma unroll 8
  for (int64_t i = threadIdx.x; i < count; i += kMeanThreads) sum += static_cast<double>(absmax[i]);
  sum = Reduce(storage).Sum(sum);
  if (threadIdx.x == 0) *offset = count > 0 ? static_cast<float>(sum / static_cast<double>(count)) : 0.0f;
}

__global__ void __launch_bounds__(kGroupThreads) code_groups(uint8_t* __restrict__ codes,  // [count]
                                                             float* __restrict__ absmax2,  // [ceil(count / blocksize)]
                                                             const float* __restrict__ offset,  // [1]
                                                             const float* __restrict__ absmax,  // [count]
                                                             int64_t count,
                                                             const float* __restrict__ map,  // [256]
                                                             int log2_blocksize) {
  using Reduce = cub::BlockReduce<uint32_t, kGroupThreads>;
  __shared__ typename Reduce::TempStorage storage;
  __shared__ float shared_map[256];
  __shared__ uint32_t shared_largest;
  for (int i = threadIdx.x; i < 256; i += kGroupThreads) shared_map[i] = map[i];
  const float mean = *offset;
  const int64_t blocksize = int64_t{1} << log2_blocksize;
  for (int64_t begin = blockIdx.x * blocksize; begin < count; begin += gridDim.x * blocksize) {
    const int64_t end = begin + blocksize < count ? begin + blocksize : count;
    uint32_t largest = 0;  // magnitudes compare as their bits do, NaN above all
    for (int64_t i = begin + threadIdx.x; i < end; i += kGroupThreads) {
      const uint32_t magnitude = float_to_bits(absmax[i] - mean) & 0x7fffffffu;
      largest = magnitude > largest ? magnitude : largest;
    }
    largest = Reduce(storage).Reduce(largest, [](uint32_t a, uint32_t b) { return a > b ? a : b; });
    if (threadIdx.x == 0) {
      shared_largest = largest;
      absmax2[begin >> log2_blocksize] = bits_to_float(largest);
    }
    __syncthreads();
    const float scale = bits_to_float(shared_largest);
    for (int64_t i = begin + threadIdx.x; i < end; i += kGroupThreads) {
      codes[i] = static_cast<uint8_t>(nearest_in_map(shared_map, (absmax[i] - mean) / scale));
    }
    __syncthreads();  // before the next group writes `storage` and `shared_largest`
  }
}

int launch_pack_absmax(const PackAbsmaxArgs& args, const Device&, int, Stream stream) {
  const int error = launch(mean, 1, kMeanThreads, stream, args.offset, args.absmax, args.count);
  if (error != cudaSuccess || args.count == 0) return error;
  return launch(code_groups, grid_for(ceil_div(args.count, int64_t{1} << args.log2_blocksize)), kGroupThreads, stream,
                args.codes, args.absmax2, args.offset, args.absmax, args.count, args.map, args.log2_blocksize);
}

__global__ void __launch_bounds__(kGroupThreads) unpack_absmax(float* __restrict__ out,  // [count]
                                                               const __grid_constant__ Absmax absmax, int64_t count) {
  const int64_t stride = int64_t{gridDim.x} * kGroupThreads;
  for (int64_t i = int64_t{blockIdx.x} * kGroupThreads + threadIdx.x; i < count; i += stride)
    out[i] = absmax_at(absmax, i);
}

int launch_unpack_absmax(const UnpackAbsmaxArgs& args, const Device&, int, Stream stream) {
  return launch(unpack_absmax, grid_for(ceil_div(args.count, kGroupThreads)), kGroupThreads, stream, args.out,
                args.absmax, args.count);
}

constexpr Variant kVariants[] = {
    {"pack_absmax.two_pass", "mean by one block in fp64, then a block per group", "exact", Op::pack_absmax, false, 1,
     no_config, always_supported, nullptr, erased<PackAbsmaxArgs, launch_pack_absmax>},
    {"unpack_absmax.elementwise", "a thread per scale", "exact", Op::unpack_absmax, false, 1, no_config,
     always_supported, nullptr, erased<UnpackAbsmaxArgs, launch_unpack_absmax>},
};

}  // namespace

std::span<const Variant> absmax_variants() { return kVariants; }

}  // namespace nf4
