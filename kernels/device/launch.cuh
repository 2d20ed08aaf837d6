// Launching a kernel, and sizing its grid.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <utility>

namespace nf4 {

// 10 * major + minor of what device code is being compiled for.
#if defined(__CUDA_ARCH__)
constexpr int kCompiledArchitecture = __CUDA_ARCH__ / 10;
#else
constexpr int kCompiledArchitecture = 1000;
#endif

// A grid of one block per tile; kernels stride over tiles, so a count beyond the hardware's limit is right too.
inline unsigned grid_for(int64_t tiles) { return static_cast<unsigned>(std::min<int64_t>(tiles, 0x7fffffff)); }

// How many blocks a kernel that strides over tiles is launched with: one for each tile, or as many as the device holds
// at a time.
enum class Grid { tiles, resident };

constexpr const char* name_of(Grid grid) { return grid == Grid::tiles ? "tiles" : "resident"; }

inline unsigned grid_for(int64_t tiles, Grid grid, int64_t resident) {
  return grid_for(grid == Grid::tiles ? tiles : std::min(tiles, resident));
}

// The blocks that an SM shall hold, for __launch_bounds__: `wanted`, as far as the threads find room.
constexpr int resident_blocks(int threads, int wanted) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
  constexpr int kThreads = 1024;
#else
  constexpr int kThreads = 1536;
#endif
  return std::min(wanted, kThreads / threads);
}

// cudaLaunchKernelEx returns this launch's own error, where <<<>>> would leave it to be found later.
template <class... Params, class... Args>
int launch(void (*kernel)(Params...), dim3 grid, dim3 block, cudaStream_t stream, Args&&... args) {
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.stream = stream;
  return static_cast<int>(cudaLaunchKernelEx(&config, kernel, std::forward<Args>(args)...));
}

// The same for blocks that need dynamic shared memory and, from compute capability 9.0 on, come in clusters or may
// start before the kernels before in the stream have completed.
struct Blocks {
  int64_t count;
  int threads;
  int shared_bytes;
  int cluster;     // blocks
  bool dependent;  // programmatic dependent launch
};

template <class... Params, class... Args>
int launch(void (*kernel)(Params...), const Blocks& blocks, cudaStream_t stream, Args&&... args) {
  cudaLaunchAttribute attributes[2]{};
  cudaLaunchConfig_t config{};
  config.gridDim = static_cast<unsigned>(blocks.count);
  config.blockDim = static_cast<unsigned>(blocks.threads);
  config.dynamicSmemBytes = static_cast<size_t>(blocks.shared_bytes);
  config.stream = stream;
  config.attrs = attributes;
  if (blocks.cluster > 1) {
    attributes[config.numAttrs].id = cudaLaunchAttributeClusterDimension;
    attributes[config.numAttrs++].val.clusterDim = {static_cast<unsigned>(blocks.cluster), 1, 1};
  }
  if (blocks.dependent) {
    attributes[config.numAttrs].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[config.numAttrs++].val.programmaticStreamSerializationAllowed = 1;
  }
  return static_cast<int>(cudaLaunchKernelEx(&config, kernel, std::forward<Args>(args)...));
}

// Lets a kernel use `bytes` of dynamic shared memory on device `ordinal`, the calling thread's: asks CUDA once, and
// again when more is wanted.
template <auto kKernel>
int allow_shared_memory(int ordinal, int bytes) {
  static std::array<std::atomic<int>, 64> allowed{};
  std::atomic<int>& known = allowed[static_cast<size_t>(ordinal) % allowed.size()];
  if (known.load(std::memory_order_relaxed) >= bytes) return cudaSuccess;
  const cudaError_t error = cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (error == cudaSuccess) known.store(bytes, std::memory_order_relaxed);
  return error;
}

}  // namespace nf4
