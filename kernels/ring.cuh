// A ring of stages in shared memory: who waits for what is said by barriers of each stage, `full` and `empty`.
#pragma once

#include <cstdint>

namespace nf4 {

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
