// Where several CTAs have a part of a tile, and whoever comes last adds them up: a counter in the workspace for each
// warp that has rows of its own. Nobody waits for anybody.
//
// A counter holds the launch's number (launch_number.hpp) and how many have come. What was there before is another's:
// at the end of a launch all counters that it used are 0 again, so the number may come again when a graph is replayed.
//
// What a warp finds out is put to the vote: only then does the compiler take it for the same in all lanes, and keeps in
// uniform registers what is needed after a branch on it.
#pragma once

#include <cstdint>

#include "device/ptx.cuh"
#include "device/warp.hpp"

namespace nf4 {

// Counts one in; true for the last of `parts`. By one lane. By additions, since of those that compare and swap at the
// same time all but one have to try again.
__device__ __forceinline__ bool count_part(uint64_t* counter, uint64_t launch, int parts) {
  auto* const word = reinterpret_cast<unsigned long long*>(counter);
  const unsigned long long none = launch << 16;
  unsigned come = 1;
  atomicMax(word, none);  // in place of what is less, as nearly all is that was there before
  unsigned long long old = atomicAdd(word, 1ull);
  if (old >> 16 != launch) {  // it was more; whom this takes away with it, it counts in again
    old = atomicExch(word, none);
    if (old >> 16 == launch) come += static_cast<unsigned>(old & 0xffff);
    old = atomicAdd(word, static_cast<unsigned long long>(come));
  }
  if (static_cast<unsigned>(old & 0xffff) + come != static_cast<unsigned>(parts)) return false;
  *reinterpret_cast<volatile unsigned long long*>(word) = 0;
  return true;
}

// Whether all `others` have come; then they are found by this warp, and the counter is as if it had come too.
__device__ __forceinline__ bool parts_there(uint64_t* counter, uint64_t launch, int others) {
  auto* const word = reinterpret_cast<volatile uint64_t*>(counter);
  const bool there = __all_sync(~0u, *word == (launch << 16 | static_cast<uint64_t>(others))) != 0;
  if (there) {
    *word = 0;
    __threadfence();
  }
  return there;
}

// Counts a warp in that has left its part in the workspace; the last of `parts` finds all of them there.
__device__ __forceinline__ bool part_arrives(uint64_t* counter, uint64_t launch, int parts) {
  __threadfence();
  __syncwarp();
  int last = 0;
  if (threadIdx.x % kWarpSize == 0) last = count_part(counter, launch, parts);
  last = __any_sync(~0u, last);
  if (last != 0) __threadfence();
  return last != 0;
}

}  // namespace nf4
