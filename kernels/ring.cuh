// A ring of stages in shared memory: who waits for what is said by barriers of each stage, `full` and `empty`.
#pragma once

#include <cstdint>

#include "launch.cuh"

namespace nf4 {

// Calls init(stage) for each of so many stages, on one thread, and deals them to the warps of the block. Lanes of one
// warp would initialize their barriers one after the other, 50 cycles each.
template <class Init>
__device__ __forceinline__ void init_stages(int stages, const Init& init) {
  if (threadIdx.x % kWarpSize != 0) return;
  const int warps = static_cast<int>(blockDim.x) / kWarpSize;
  for (int stage = static_cast<int>(threadIdx.x) / kWarpSize; stage < stages; stage += warps) init(stage);
}

// A place in a ring, and the parity of the phase that its barriers are in. Who fills it begins with parity 1: waiting
// for a stage to be empty then takes no time in the first round.
struct RingPlace {
  int slot = 0;
  uint32_t parity = 0;

  __device__ void advance(int ring, int stages = 1) {
    for (slot += stages; slot >= ring; slot -= ring) parity ^= 1;
  }
};

}  // namespace nf4
