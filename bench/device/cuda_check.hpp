// Turns a CUDA error into an exception.
#pragma once

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

namespace nf4bench {

inline void cuda_check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  throw std::runtime_error(std::string(what) + ": " + cudaGetErrorName(status) + ", " + cudaGetErrorString(status));
}

}  // namespace nf4bench
