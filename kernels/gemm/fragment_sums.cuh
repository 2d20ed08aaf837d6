// The sums of warps that have different parts of K of the same rows, in the fragments of mma.m16n8k16: added up warp
// after warp, in order, by way of shared memory.
#pragma once

#include <cstdint>

#include "device/ptx.cuh"
#include "format/number.hpp"

namespace nf4 {

// Calls f(fragment, sum) for each fragment of a lane, 4 sums.
template <int RowTiles, int ColTiles, class F>
__device__ __forceinline__ void each_fragment(float (&sums)[RowTiles][ColTiles][4], const F& f) {
#pragma unroll
  for (int tile = 0; tile < RowTiles; ++tile) {
#pragma unroll
    for (int c = 0; c < ColTiles; ++c) f(tile * ColTiles + c, sums[tile][c]);
  }
}

// Adds to a lane's fragment what the warp before, if this is not the first, left at `place`, and leaves the result
// there unless this is the last.
__device__ __forceinline__ void hand_on(uint32_t place, float (&sum)[4], bool first, bool last) {
  if (!first) {
    const uint4 before = load_shared_quad(place);
    sum[0] += bits_to_float(before.x);
    sum[1] += bits_to_float(before.y);
    sum[2] += bits_to_float(before.z);
    sum[3] += bits_to_float(before.w);
  }
  if (!last)
    store_shared_quad(
        place, make_uint4(float_to_bits(sum[0]), float_to_bits(sum[1]), float_to_bits(sum[2]), float_to_bits(sum[3])));
}

}  // namespace nf4
