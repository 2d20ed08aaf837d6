// Where a kernel looks up the 16 values of the codebook: the two ways that the paper "Fast NF4 Dequantization Kernels
// for LLM Inference" (arXiv 2604.02556) compares.
#pragma once

#include <cstdint>

#include "format/codebook.hpp"

namespace nf4 {

static __device__ const float kDeviceCodebook[16] = {
    kCodebook[0],  kCodebook[1],  kCodebook[2],  kCodebook[3],  kCodebook[4],  kCodebook[5],
    kCodebook[6],  kCodebook[7],  kCodebook[8],  kCodebook[9],  kCodebook[10], kCodebook[11],
    kCodebook[12], kCodebook[13], kCodebook[14], kCodebook[15],
};

// Every look-up is a load from global memory, served by L1 after the first.
struct GlobalTable {
  static __device__ GlobalTable make() { return {}; }
  __device__ float operator[](uint32_t code) const { return __ldg(kDeviceCodebook + code); }
};

// The table is copied to 64 bytes of shared memory once per block. Every thread of the block must call make().
struct SharedTable {
  const float* values;

  static __device__ SharedTable make() {
    __shared__ float values[16];
    if (threadIdx.x < 16) values[threadIdx.x] = kDeviceCodebook[threadIdx.x];
    __syncthreads();
    return {values};
  }
  __device__ float operator[](uint32_t code) const { return values[code]; }
};

}  // namespace nf4
