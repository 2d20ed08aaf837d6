#include <algorithm>

#include "device/ceilings.hpp"
#include "device/cuda_check.hpp"
#include "report/statistics.hpp"

namespace nf4bench {
namespace {

constexpr int kThreads = 256;
constexpr int kLoads = 8;                             // 16-byte loads in flight per thread
constexpr int64_t kChunkVectors = kThreads * kLoads;  // what a block takes at a time

// Reads every chunk. The store never happens, but the compiler cannot know.
__global__ void __launch_bounds__(kThreads) read_stream(const uint4* from, int64_t chunks, uint32_t* sink) {
  uint32_t sum = 0;
  for (int64_t chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
    const uint4* const base = from + chunk * kChunkVectors + threadIdx.x;
    uint4 v[kLoads];
#pragma unroll
    for (int i = 0; i < kLoads; ++i) v[i] = __ldcs(base + i * kThreads);
#pragma unroll
    for (int i = 0; i < kLoads; ++i) sum += v[i].x ^ v[i].y ^ v[i].z ^ v[i].w;
  }
  if (sum == 0x12345678u && threadIdx.x == sum) *sink = sum;
}

__global__ void __launch_bounds__(kThreads) copy_stream(uint4* to, const uint4* from, int64_t chunks) {
  for (int64_t chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
    const int64_t base = chunk * kChunkVectors + threadIdx.x;
    uint4 v[kLoads];
#pragma unroll
    for (int i = 0; i < kLoads; ++i) v[i] = __ldcs(from + base + i * kThreads);
#pragma unroll
    for (int i = 0; i < kLoads; ++i) __stcs(to + base + i * kThreads, v[i]);
  }
}

}  // namespace

Ceilings cuda_ceilings(Device& device) {
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  int multiprocessors = 0;
  cuda_check(cudaMemGetInfo(&free_bytes, &total_bytes), "cudaMemGetInfo");
  cuda_check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device.ordinal()),
             "cudaDeviceGetAttribute");
  constexpr int64_t kChunkBytes = kChunkVectors * static_cast<int64_t>(sizeof(uint4));
  const int64_t wanted = std::min<int64_t>(int64_t{1} << 31, static_cast<int64_t>(free_bytes / 4));
  const int64_t chunks = std::max<int64_t>(1, wanted / kChunkBytes);
  const auto bytes = static_cast<size_t>(chunks * kChunkBytes);

  const Buffer from(device, bytes);
  const Buffer to(device, bytes);
  device.fill_bytes(from.get(), static_cast<int64_t>(bytes), 1);
  const auto rate = [&](double moved, const Launch& launch) {
    return moved / quantile(device.time(launch, 1, true, kThorough), 0.5);
  };
  const auto total = static_cast<double>(bytes);
  Ceilings out;
  out.write = rate(total, [&](int, nf4_stream_t stream) {
    cuda_check(cudaMemsetAsync(to.get(), 0x5a, bytes, stream), "cudaMemsetAsync");
  });
  // Which grid is faster, a block a chunk or as many as are resident, depends on the device: the ceiling is the better
  // one.
  for (const int64_t grid : {chunks, int64_t{8} * multiprocessors}) {
    const auto blocks = static_cast<unsigned>(grid);
    out.read = std::max(out.read, rate(total, [&](int, nf4_stream_t stream) {
                          read_stream<<<blocks, kThreads, 0, stream>>>(from.as<uint4>(), chunks, to.as<uint32_t>());
                        }));
    out.copy = std::max(out.copy, rate(2 * total, [&](int, nf4_stream_t stream) {
                          copy_stream<<<blocks, kThreads, 0, stream>>>(to.as<uint4>(), from.as<uint4>(), chunks);
                        }));
  }
  return out;
}

}  // namespace nf4bench
