// Sums over the lanes of a warp.
#pragma once

#include "device/warp.hpp"

namespace nf4 {

// The sum of the values that the lanes up to this one have.
__device__ __forceinline__ int sum_up_to(int value, int lane) {
#pragma unroll
  for (int distance = 1; distance < kWarpSize; distance *= 2) {
    const int before = __shfl_up_sync(~0u, value, distance);
    if (lane >= distance) value += before;
  }
  return value;
}

}  // namespace nf4
