#include "architecture.hpp"

#include <cuda_runtime.h>

namespace nf4 {
namespace {

__global__ void witness() {}

}  // namespace

int compiled_architecture(int ordinal, int* architecture) {
  int previous = 0;
  cudaError_t error = cudaGetDevice(&previous);
  if (error != cudaSuccess) return error;
  if (previous != ordinal && (error = cudaSetDevice(ordinal)) != cudaSuccess) return error;
  cudaFuncAttributes attributes{};
  error = cudaFuncGetAttributes(&attributes, witness);
  *architecture = attributes.ptxVersion;
  const cudaError_t restored = previous != ordinal ? cudaSetDevice(previous) : cudaSuccess;
  return error != cudaSuccess ? error : restored;
}

}  // namespace nf4
