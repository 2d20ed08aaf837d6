// Where several CTAs have a part of a tile, and whoever comes last adds them up: a counter in the workspace for each
// warp that has rows of its own (count_part.hpp). Nobody waits for anybody.
//
// What a warp finds out is put to the vote: only then does the compiler take it for the same in all lanes, and keeps in
// uniform registers what is needed after a branch on it.
#pragma once

#include <cstdint>

#include "device/ptx.cuh"
#include "device/warp.hpp"
#include "gemm/count_part.hpp"

namespace nf4 {

// A counter in global memory.
struct PartCounter {
  unsigned long long* word;

  __device__ __forceinline__ void maximum(uint64_t value) const { atomicMax(word, value); }
  __device__ __forceinline__ uint64_t add(uint64_t value) const { return atomicAdd(word, value); }
  __device__ __forceinline__ uint64_t exchange(uint64_t value) const { return atomicExch(word, value); }
  __device__ __forceinline__ void store(uint64_t value) const {
    *reinterpret_cast<volatile unsigned long long*>(word) = value;
  }
};

// Whether all `others` have come; then they are found by this warp, and the counter is as if it had come too.
__device__ __forceinline__ bool parts_there(uint64_t* counter, uint64_t launch, int others) {
  auto* const word = reinterpret_cast<volatile uint64_t*>(counter);
  const bool there = __all_sync(~0u, *word == parts_come(launch, others)) != 0;
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
  if (threadIdx.x % kWarpSize == 0)
    last = count_part(PartCounter{reinterpret_cast<unsigned long long*>(counter)}, launch, parts);
  last = __any_sync(~0u, last);
  if (last != 0) __threadfence();
  return last != 0;
}

}  // namespace nf4
