// The barriers of a ring of stages (ring.hpp).
#pragma once

#include <cstdint>

#include "device/ring.hpp"
#include "device/warp.hpp"

namespace nf4 {

// The barriers of a ring whose places have one of each kind.
struct StageBarriers {
  uint32_t begin;  // shared address

  __device__ uint32_t full(int place) const { return begin + place * kStageBarrierBytes; }
  __device__ uint32_t empty(int place) const { return full(place) + kEmptyBarrier; }
};

// Calls init(stage) for each of so many stages, on one thread, and deals them to the warps of the block. Lanes of one
// warp would initialize their barriers one after the other, 50 cycles each.
template <class Init>
__device__ __forceinline__ void init_stages(int stages, const Init& init) {
  if (threadIdx.x % kWarpSize != 0) return;
  const int warps = static_cast<int>(blockDim.x) / kWarpSize;
  for (int stage = static_cast<int>(threadIdx.x) / kWarpSize; stage < stages; stage += warps) init(stage);
}

}  // namespace nf4
