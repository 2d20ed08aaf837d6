// The kernel of gemm_experts.slots: products with routed experts in fp32 on the CUDA cores, for any K, blocksize and
// alignment.
//
// A warp multiplies one row of W of an expert by the x of up to `Slots` slots: it decodes each weight once for all of
// them. The slots of a block are neighbours in the order of experts, and those of each expert among them are taken
// together; where all are of other experts, that is one at a time. Where rows allow it each lane takes 32 consecutive
// weights at a time: one 16-byte load of codes and one scale. Otherwise lanes take single elements. The lanes' sums
// meet in a butterfly of shuffles, in a fixed order, so a slot's result depends on nothing but its own operands.
#pragma once

#include "device/chunk.cuh"
#include "device/table.cuh"
#include "device/warp.hpp"
#include "format/codebook.hpp"
#include "gemm/experts_slots_layout.hpp"

namespace nf4 {

constexpr int kExpertsSpan = 32;  // weights per lane and step; divides every blocksize, so a span lies in one block

// Adds to sums[s] what this lane's spans of a row of W, which begins at element `begin` of all of W, make with rows[s]
// of x, for s < count.
template <int Slots, class T>
__device__ void add_spans(float (&sums)[Slots], const T* const (&rows)[Slots], int count, const Weight& weight,
                          int64_t begin, const SharedTable& table, int lane) {
  for (int64_t k = lane * kExpertsSpan; k < weight.cols; k += kWarpSize * kExpertsSpan) {
    const uint4 packed = *reinterpret_cast<const uint4*>(weight.codes + ((begin + k) >> 1));
    const uint32_t words[4] = {packed.x, packed.y, packed.z, packed.w};
    float dots[Slots] = {};
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      float values[kChunk];
#pragma unroll
      for (int i = 0; i < kChunk; ++i) values[i] = table[code_at(words[w], i)];
#pragma unroll
      for (int s = 0; s < Slots; ++s) {
        if (s >= count) continue;
        const Chunk<T> chunk = load_chunk(rows[s] + k + w * kChunk);
#pragma unroll
        for (int i = 0; i < kChunk; ++i) dots[s] = fmaf(values[i], to_float(chunk.values[i]), dots[s]);
      }
    }
    const float absmax = absmax_at(weight.absmax, (begin + k) >> weight.log2_blocksize);
#pragma unroll
    for (int s = 0; s < Slots; ++s) sums[s] = fmaf(absmax, dots[s], sums[s]);
  }
}

// The same for any K and any alignment, element by element.
template <int Slots, class T>
__device__ void add_elements(float (&sums)[Slots], const T* const (&rows)[Slots], int count, const Weight& weight,
                             int64_t begin, const SharedTable& table, int lane) {
  for (int64_t k = lane; k < weight.cols; k += kWarpSize) {
    const int64_t i = begin + k;
    const float value = table[code_at(weight.codes, i)] * absmax_at(weight.absmax, i >> weight.log2_blocksize);
#pragma unroll
    for (int s = 0; s < Slots; ++s) {
      if (s < count) sums[s] = fmaf(value, to_float(rows[s][k]), sums[s]);
    }
  }
}

// Spans: K is a multiple of a span, and codes, x and its rows are aligned to 16 bytes.
template <class T, int Slots, bool Spans>
__global__ void __launch_bounds__(kExpertsSlotsWarps* kWarpSize)
    gemm_experts_slots(T* __restrict__ y,        // [routing.slots, n]
                       int64_t ldy,              // elements
                       const T* __restrict__ x,  // [routing.slots / routing.top_k, weight.cols]
                       int64_t ldx,              // elements
                       int64_t n,                // rows of W of an expert
                       const __grid_constant__ Weight weight,
                       const T* __restrict__ bias,  // [weight.rows] or null
                       const __grid_constant__ Routing routing, const __grid_constant__ ExpertsSlotsPlan plan) {
  static_assert(Slots <= kWarpSize, "a lane writes the output of each");
  const SharedTable table = SharedTable::make();
  const int lane = threadIdx.x % kWarpSize;
  const int warp = threadIdx.x / kWarpSize;
  const int64_t first = plan.chunk(blockIdx.x) * Slots;
  const int64_t end = min(first + Slots, routing.slots);
  for (int64_t group = plan.first_group(blockIdx.x); group < plan.groups; group += plan.distance) {
    const int64_t row = group * kExpertsSlotsWarps + warp;
    if (row >= n) break;  // the whole warp
    for (int64_t position = first; position < end;) {
      // The slots that come next and are of one expert, and their rows of x.
      const ExpertRun run = run_at(routing, position, end);
      const bool routed = run.expert != kNoExpert;
      const int count = static_cast<int>(run.end - position);
      int slots[Slots];
      const T* rows[Slots];
#pragma unroll
      for (int s = 0; s < Slots; ++s) {
        slots[s] = s < count ? static_cast<int>(slot_at(routing, position + s)) : -1;
        rows[s] = x + (slots[s] >= 0 ? row_of_x(routing, slots[s]) * ldx : 0);
      }
      // Multiply, and add up over the lanes.
      const int64_t matrix_row = routed ? run.expert * n + row : 0;
      float sums[Slots] = {};
      if (routed) {
        if constexpr (Spans) {
          add_spans(sums, rows, count, weight, matrix_row * weight.cols, table, lane);
        } else {
          add_elements(sums, rows, count, weight, matrix_row * weight.cols, table, lane);
        }
      }
#pragma unroll
      for (int s = 0; s < Slots; ++s) {
        for (int distance = kWarpSize / 2; distance > 0; distance /= 2)
          sums[s] += __shfl_xor_sync(~0u, sums[s], distance);
      }
      // Bias, scale, rounding: lane s for slot s. No expert: zeros.
      const float addend = routed && bias != nullptr ? to_float(bias[matrix_row]) : 0.0f;
#pragma unroll
      for (int s = 0; s < Slots; ++s) {
        if (lane != s || slots[s] < 0) continue;
        const float scale = routed && routing.scale != nullptr ? routing.scale[slots[s]] : 1.0f;
        y[int64_t{slots[s]} * ldy + row] = from_float<T>((sums[s] + addend) * scale);
      }
      position = run.end;
    }
  }
}

}  // namespace nf4
