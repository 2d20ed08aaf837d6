#include <algorithm>

#include "ceilings.hpp"
#include "cuda_check.hpp"
#include "statistics.hpp"

namespace nf4bench {
namespace {

constexpr int kThreads = 256;
constexpr int kLoads = 8;  // 16-byte loads in flight per thread
constexpr int64_t kBlockVectors = kThreads * kLoads;

// Reads kBlockVectors vectors a block. The store never happens, but the compiler cannot know.
__global__ void __launch_bounds__(kThreads) read_stream(const uint4* from, uint32_t* sink) {
  const int64_t base = blockIdx.x * kBlockVectors + threadIdx.x;
  uint4 v[kLoads];
#pragma unroll
  for (int i = 0; i < kLoads; ++i) v[i] = __ldcs(from + base + i * kThreads);
  uint32_t sum = 0;
#pragma unroll
  for (int i = 0; i < kLoads; ++i) sum += v[i].x ^ v[i].y ^ v[i].z ^ v[i].w;
  if (sum == 0x12345678u && v[0].x == sum) *sink = sum;
}

__global__ void __launch_bounds__(kThreads) copy_stream(uint4* to, const uint4* from) {
  const int64_t base = blockIdx.x * kBlockVectors + threadIdx.x;
  uint4 v[kLoads];
#pragma unroll
  for (int i = 0; i < kLoads; ++i) v[i] = __ldcs(from + base + i * kThreads);
#pragma unroll
  for (int i = 0; i < kLoads; ++i) __stcs(to + base + i * kThreads, v[i]);
}

}  // namespace

Ceilings cuda_ceilings(Device& device) {
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  cuda_check(cudaMemGetInfo(&free_bytes, &total_bytes), "cudaMemGetInfo");
  constexpr int64_t kBlockBytes = kBlockVectors * static_cast<int64_t>(sizeof(uint4));
  const int64_t wanted = std::min<int64_t>(int64_t{1} << 31, static_cast<int64_t>(free_bytes / 4));
  const auto blocks = static_cast<unsigned>(wanted / kBlockBytes);
  const size_t bytes = blocks * static_cast<size_t>(kBlockBytes);

  const Buffer from(device, bytes);
  const Buffer to(device, bytes);
  device.fill_bytes(from.get(), static_cast<int64_t>(bytes), 1);
  const auto rate = [&](double moved, const Launch& launch) {
    return moved / quantile(device.time(launch, 1, true), 0.5);
  };
  const auto total = static_cast<double>(bytes);
  Ceilings out;
  out.read = rate(total, [&](int, nf4_stream_t stream) {
    read_stream<<<blocks, kThreads, 0, stream>>>(from.as<uint4>(), to.as<uint32_t>());
  });
  out.write = rate(total, [&](int, nf4_stream_t stream) {
    cuda_check(cudaMemsetAsync(to.get(), 0x5a, bytes, stream), "cudaMemsetAsync");
  });
  out.copy = rate(2 * total, [&](int, nf4_stream_t stream) {
    copy_stream<<<blocks, kThreads, 0, stream>>>(to.as<uint4>(), from.as<uint4>());
  });
  return out;
}

}  // namespace nf4bench
