// The last step of a product whose sums were split: among teams of warps, which took different parts of K, and among
// the CTAs of a cluster. Each team left its sums in shared memory.
#pragma once

#include <cstdint>

#include "device/ptx.cuh"
#include "format/number.hpp"
#include "gemm/quad_walk.hpp"

namespace nf4 {

struct Partials {
  const float* sums;  // of the CTA's first team, [rows of x][pitch]; at the same place in all CTAs of the cluster
  int pitch;          // floats
  int team_pitch;     // floats, from a team's sums to the next one's
  int teams;          // of a CTA
  int cluster;        // CTAs
  int rank;           // of this CTA
  float factor;       // of the results to the sums
};

namespace totals {

// 4 floats of shared memory, of this CTA or of one of the cluster: zeros unless `there`. The loads of several parts
// have no branches between them, so that all are under way at once.
template <bool Remote>
__device__ __forceinline__ void load_sums(float (&v)[4], uint32_t address, int rank, bool there) {
  if constexpr (Remote) {
    asm volatile(
        "{ .reg .pred p; .reg .b32 there; setp.ne.b32 p, %6, 0; mapa.shared::cluster.u32 there, %4, %5; "
        "mov.f32 %0, 0f00000000; mov.f32 %1, 0f00000000; mov.f32 %2, 0f00000000; mov.f32 %3, 0f00000000; "
        "@p ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [there]; }"
        : "=&f"(v[0]), "=&f"(v[1]), "=&f"(v[2]), "=&f"(v[3])
        : "r"(address), "r"(rank), "r"(static_cast<int>(there))
        : "memory");
  } else {
    asm volatile(
        "{ .reg .pred p; setp.ne.b32 p, %5, 0; "
        "mov.f32 %0, 0f00000000; mov.f32 %1, 0f00000000; mov.f32 %2, 0f00000000; mov.f32 %3, 0f00000000; "
        "@p ld.shared.v4.f32 {%0, %1, %2, %3}, [%4]; }"
        : "=&f"(v[0]), "=&f"(v[1]), "=&f"(v[2]), "=&f"(v[3])
        : "r"(address), "r"(static_cast<int>(there))
        : "memory");
  }
}

constexpr int kRows = QuadWalk::kRows;
constexpr int kParts = 4;  // of each sum, under way at a time, since one from another CTA takes its time

template <class T>
struct alignas(kRows * sizeof(T)) Quad {
  T rows[kRows];
};

// What write_totals() does, for sums of this CTA alone or of others too.
template <bool Remote, class T>
__device__ __forceinline__ void write(const Partials& partials, T* y, int64_t ldy, int rows, int cols, const T* bias) {
  const int parts = partials.teams * partials.cluster;
  // Whether quads of y can be stored whole.
  const bool aligned =
      (reinterpret_cast<uintptr_t>(y) | static_cast<uintptr_t>(ldy * sizeof(T))) % sizeof(Quad<T>) == 0;
  QuadWalk walk(rows, static_cast<int>(threadIdx.x), static_cast<int>(blockDim.x), partials.cluster, partials.rank);
  uint32_t from = shared_address(partials.sums);
  T* to = y;
  const auto move = [&](int cols_on, int rows_on) {
    from += (cols_on * partials.pitch + rows_on) * sizeof(float);
    to += cols_on * ldy + rows_on;
  };
  for (move(walk.col(), walk.row()); walk.col() < cols; walk.advance(move)) {
    const int row = walk.row();
    float total[kRows] = {};
    int rank = 0, team = 0;
    for (int first = 0; first < parts; first += kParts) {
      float values[kParts][kRows];
#pragma unroll
      for (int p = 0; p < kParts; ++p) {
        load_sums<Remote>(values[p], from + team * partials.team_pitch * sizeof(float), rank, first + p < parts);
        if (++team == partials.teams) {
          team = 0;
          ++rank;
        }
      }
#pragma unroll
      for (int p = 0; p < kParts; ++p) {
#pragma unroll
        for (int i = 0; i < kRows; ++i) total[i] += values[p][i];
      }
    }
    Quad<T> out;
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      total[i] = __fmul_rn(total[i], partials.factor);  // rounded before the bias is added, see kCodebookInverse
      if (bias != nullptr && row + i < rows) total[i] += to_float(bias[row + i]);
      out.rows[i] = from_float<T>(total[i]);
    }
    if (aligned && row + kRows <= rows) {
      *reinterpret_cast<Quad<T>*>(to) = out;
    } else {
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        if (row + i < rows) to[i] = out.rows[i];
      }
    }
  }
}

}  // namespace totals

// Adds up the sums of `rows` rows of W, 1 or more, and `cols` rows of x, always in the same order, and writes those to
// y that fall to this CTA: y and bias begin at the first row of W and the first row of x. All threads of the CTA take
// part. Sums and pitches are multiples of 4 floats.
template <class T>
__device__ __forceinline__ void write_totals(const Partials& partials, T* y, int64_t ldy, int rows, int cols,
                                             const T* bias) {
  if (partials.cluster == 1) {
    totals::write<false>(partials, y, ldy, rows, cols, bias);
  } else {
    totals::write<true>(partials, y, ldy, rows, cols, bias);
  }
}

}  // namespace nf4
