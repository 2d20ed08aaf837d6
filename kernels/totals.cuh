// The last step of a product whose sums were split: among teams of warps, which took different parts of K, and among
// the CTAs of a cluster. Each team left its sums in shared memory.
#pragma once

#include <cstdint>

#include "launch.cuh"
#include "number.hpp"
#include "ptx.cuh"

namespace nf4 {

struct Partials {
  const float* sums;  // of the CTA's first team, [rows of x][pitch]; at the same place in all CTAs of the cluster
  int pitch;          // floats
  int team_pitch;     // floats, from a team's sums to the next one's
  int teams;          // of a CTA
  int cluster;        // CTAs
  int rank;           // of this CTA
};

// Adds up the sums of `rows` rows of W and `cols` rows of x, always in the same order, and writes those to y that fall
// to this CTA: y and bias begin at the first row of W and the first row of x. All threads of the CTA take part. A lane
// has several sums of several teams under way, since one from another CTA takes its time.
template <class T>
__device__ __forceinline__ void write_totals(const Partials& partials, T* y, int64_t ldy, int rows, int cols,
                                             const T* bias) {
  constexpr int kRows = 4;   // of a lane
  constexpr int kParts = 4;  // of each, at a time
  const int warps = static_cast<int>(blockDim.x) / kWarpSize;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int runs = (rows + kRows * kWarpSize - 1) / (kRows * kWarpSize);  // of a row of x, a warp takes one at a time
  const int parts = partials.teams * partials.cluster;
  for (int item = static_cast<int>(threadIdx.x) / kWarpSize;; item += warps) {
    const int col = partials.rank + item / runs * partials.cluster;
    if (col >= cols) break;
    const int begin = item % runs * kRows * kWarpSize + lane;
    const float* const sums = partials.sums + col * partials.pitch + begin;
    float totals[kRows] = {};
    int rank = 0, team = 0;
    for (int first = 0; first < parts; first += kParts) {
      float values[kParts][kRows];
#pragma unroll
      for (int p = 0; p < kParts; ++p) {
#pragma unroll
        for (int i = 0; i < kRows; ++i) {
          values[p][i] = 0.0f;
          if (rank >= partials.cluster || begin + i * kWarpSize >= rows) continue;  // past the last part, or row
          const float* const from = sums + team * partials.team_pitch + i * kWarpSize;
          values[p][i] = partials.cluster == 1 ? *from : load_at_rank(shared_address(from), rank);
        }
        if (++team == partials.teams) {
          team = 0;
          ++rank;
        }
      }
#pragma unroll
      for (int p = 0; p < kParts; ++p) {
#pragma unroll
        for (int i = 0; i < kRows; ++i) totals[i] += values[p][i];
      }
    }
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const int row = begin + i * kWarpSize;
      if (row < rows) y[col * ldy + row] = from_float<T>(bias != nullptr ? totals[i] + to_float(bias[row]) : totals[i]);
    }
  }
}

}  // namespace nf4
