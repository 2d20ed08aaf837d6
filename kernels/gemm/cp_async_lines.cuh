// Copying lines of 128 bytes to shared memory by cp.async, 4 of them a warp: each lane has a piece of 16 bytes. Piece c
// of line r comes to place c ^ (r % 8), so that rows can be read together without meeting in a bank.
#pragma once

#include <cstdint>

#include "device/ptx.cuh"
#include "device/warp.hpp"
#include "gemm/hole_lines.hpp"
#include "gemm/pair_sizes.hpp"

namespace nf4 {

constexpr int kLinePieces = kPairBoxBytes / 16;
constexpr int kCopyLines = kWarpSize / kLinePieces;  // of a warp's copy

// Where a lane copies its piece of the first line to; those of the lines 4 and 8 further on are exchanged alike, and as
// the first one's.
__device__ __forceinline__ uint32_t line_place(int lane) {
  const unsigned line = lane / kLinePieces, piece = lane % kLinePieces;
  return line * kLinePitch + (piece ^ line) * 16;
}

// Copies `Times` by 4 lines: this lane's piece of line lane / 8 and every 4th after it, which are `step` bytes apart;
// only the first `lines` from there on, zeros if not `valid`.
template <int Times>
__device__ __forceinline__ void copy_lines(uint32_t to, const uint8_t* from, int64_t step, int lines,
                                           bool valid = true) {
  const uint32_t places[2] = {to, to ^ kCopyLines * 16};
#pragma unroll
  for (int i = 0; i < Times; ++i) {
    if (i * kCopyLines < lines) copy_async(places[i % 2] + i * kCopyLines * kLinePitch, from, valid);
    from += step;
  }
}

}  // namespace nf4
