#include "device/architecture.hpp"

#include <cuda_runtime.h>

#include "device/on_device.hpp"

namespace nf4 {
namespace {

__global__ void witness() {}

}  // namespace

int compiled_architecture(int ordinal, int* architecture) {
  return on_device(ordinal, [&] {
    cudaFuncAttributes attributes{};
    const cudaError_t error = cudaFuncGetAttributes(&attributes, witness);
    *architecture = attributes.ptxVersion;
    return error;
  });
}

int resident_clusters(int ordinal, std::array<int, 4>* clusters) {
  return on_device(ordinal, [&] {
    cudaDeviceProp device{};
    cudaError_t error = cudaGetDeviceProperties(&device, ordinal);
    *clusters = {device.multiProcessorCount, 0, 0, 0};
    if (error != cudaSuccess || device.major < 9) return error;
    const auto shared = static_cast<int>(device.sharedMemPerBlockOptin);
    error = cudaFuncSetAttribute(witness, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
    for (int i = 1; i < 4 && error == cudaSuccess; ++i) {
      cudaLaunchAttribute attribute{};
      attribute.id = cudaLaunchAttributeClusterDimension;
      attribute.val.clusterDim = {1u << i, 1, 1};
      cudaLaunchConfig_t config{};
      config.gridDim = 1u << i;
      config.blockDim = 512;
      config.dynamicSmemBytes = static_cast<size_t>(shared);
      config.attrs = &attribute;
      config.numAttrs = 1;
      error = cudaOccupancyMaxActiveClusters(&(*clusters)[static_cast<size_t>(i)], witness, &config);
    }
    return error;
  });
}

}  // namespace nf4
