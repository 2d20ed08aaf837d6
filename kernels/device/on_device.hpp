// Asking CUDA about a device that need not be the calling thread's.
#pragma once

#include <cuda_runtime_api.h>

namespace nf4 {

// Runs `query`, which returns a cudaError_t, with `ordinal` as the calling thread's device, which is put back.
template <class Query>
cudaError_t on_device(int ordinal, Query&& query) {
  int previous = 0;
  cudaError_t error = cudaGetDevice(&previous);
  if (error != cudaSuccess) return error;
  if (previous != ordinal && (error = cudaSetDevice(ordinal)) != cudaSuccess) return error;
  error = query();
  const cudaError_t restored = previous != ordinal ? cudaSetDevice(previous) : cudaSuccess;
  return error != cudaSuccess ? error : restored;
}

}  // namespace nf4
