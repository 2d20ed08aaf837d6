// gemm_experts.scaled_wgmma: products with routed experts for many slots an expert, on the warpgroup's tensor core
// instructions. Compute capability 9.0a.
//
// Product. That of gemm.scaled_wgmma (scaled_wgmma.cuh), by tiles of 128 rows of an expert's W and up to 256 of its
// slots: with them it shares how codes, x and scales come, how warpgroups multiply, and the layout of shared memory.
// The rows of all experts are one matrix [E N, K], so a tile's are those from row e N + n on; where that goes beyond
// the expert's, other rows are multiplied too, and not written. Its rows of x follow one another, gathered by the
// launch before where they do not lie so, and the same holds of them.
//
// Routing. The host knows how many slots and experts there are, no more. Each warp finds the CTA's tile for itself, in
// the ends of the experts: see experts_scaled_layout.hpp. Where there is none the CTA has nothing to multiply. Chunks
// of few slots, as an expert's last one may be, are multiplied in narrower tiles, which take less time. All tiles add
// up in the same order, so a slot's bits do not depend on that.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "device/launch.cuh"
#include "device/scan.cuh"
#include "gemm/experts_scaled_layout.hpp"
#include "gemm/scaled_wgmma.cuh"

namespace nf4 {

constexpr int kGatherWarps = 8;

// Copies the row of x of each slot to its position, in pieces of 16 bytes. A warp has a position.
__global__ void __launch_bounds__(kGatherWarps* kWarpSize)
    gather_slots(uint4* __restrict__ to,       // [routing.slots][pieces]
                 const uint4* __restrict__ x,  // [routing.slots / routing.top_k][pieces]
                 int64_t pitch,                // pieces from a row of x to the next
                 int pieces,                   // of a row
                 const __grid_constant__ Routing routing) {
  if constexpr (kHasWgmma) {
    constexpr int kAtOnce = 4;  // of a lane
    // PDL: wait for the kernels before, and let the next one start.
    wait_for_dependencies();
    launch_dependents();
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
    const int position = static_cast<int>(blockIdx.x) * kGatherWarps + static_cast<int>(threadIdx.x) / kWarpSize;
    if (position >= expert_end(routing, routing.experts - 1)) return;
    const int64_t slot = slot_at(routing, position);
    if (slot < 0) return;
    const uint4* const from = x + row_of_x(routing, slot) * pitch;
    to += int64_t{position} * pieces;
    for (int first = lane; first < pieces; first += kAtOnce * kWarpSize) {
      uint4 values[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        if (first + i * kWarpSize < pieces) values[i] = from[first + i * kWarpSize];
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        if (first + i * kWarpSize < pieces) to[first + i * kWarpSize] = values[i];
      }
    }
  }
}

// The CTA's tile, found by a warp, whose lanes have an equal part of the experts.
__device__ __forceinline__ ExpertsScaledTile experts_scaled_tile(const Routing& routing,
                                                                 const ExpertsScaledPlan& plan) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize, tile = static_cast<int>(blockIdx.x);
  const auto experts = static_cast<int>(routing.experts);
  const int per_lane = (experts + kWarpSize - 1) / kWarpSize;
  const int begin = min(lane * per_lane, experts), end = min(begin + per_lane, experts);
  const int chunks = chunks_of(routing, begin, end, plan.cols);
  const int up_to = sum_up_to(chunks, lane);
  const unsigned behind = __ballot_sync(~0u, up_to > tile / plan.row_tiles);
  if (behind == 0) return {};
  const int finder = __ffs(static_cast<int>(behind)) - 1;
  ExpertsScaledTile found;
  if (lane == finder) found = tile_among(routing, plan, begin, end, up_to - chunks, tile);
  return {__shfl_sync(~0u, found.expert, finder), __shfl_sync(~0u, found.row, finder),
          __shfl_sync(~0u, found.first, finder), __shfl_sync(~0u, found.slots, finder)};
}

__device__ __forceinline__ ExpertsScaledSlot& experts_scaled_slot(uint8_t* shared, int i) {
  const int hole = kExpertsScaledFirstHole + i / kExpertsScaledHoleSlots;
  return reinterpret_cast<ExpertsScaledSlot*>(shared + hole * PairTable::kEntryBytes +
                                              PairTable::kUsedBytes)[i % kExpertsScaledHoleSlots];
}

// Lists the tile's slots, by the consumers.
__device__ __forceinline__ void experts_scaled_list(uint8_t* shared, const Routing& routing,
                                                    const ExpertsScaledTile& tile) {
  const auto i = static_cast<int>(threadIdx.x);
  if (i >= tile.slots) return;
  const auto slot = static_cast<int32_t>(slot_at(routing, tile.first + i));
  experts_scaled_slot(shared, i) = {slot, routing.scale != nullptr && slot >= 0 ? routing.scale[slot] : 1.0f};
}

// Writes the rows of y of the tile's slots, by all threads. `of_all` is the tile's first row among those of all
// experts.
template <class T, class Shape>
__device__ __forceinline__ void experts_scaled_finish(const ScaledShare<Shape>& share, const GemmExpertsArgs& args,
                                                      int64_t of_all, const ExpertsScaledTile& tile) {
  constexpr int kQuad = QuadWalk::kRows;
  using Quad = totals::Quad<T>;
  const int rows = min(static_cast<int>(args.n) - tile.row, Shape::kRows);
  const T* const bias = args.bias != nullptr ? static_cast<const T*>(args.bias) + of_all : nullptr;
  T* const y = static_cast<T*>(args.y) + tile.row;
  const bool aligned =
      (reinterpret_cast<uintptr_t>(y) | static_cast<uintptr_t>(args.ldy * sizeof(T))) % sizeof(Quad) == 0;
  QuadWalk walk(rows, static_cast<int>(threadIdx.x), static_cast<int>(blockDim.x), 1, 0);
  for (; walk.col() < tile.slots; walk.advance([](int, int) {})) {
    const ExpertsScaledSlot slot = experts_scaled_slot(share.shared, walk.col());
    if (slot.number < 0) continue;
    const int row = walk.row();
    const float4 sums = *reinterpret_cast<const float4*>(share.sums() + walk.col() * Shape::kSumPitch + row);
    float total[kQuad] = {sums.x, sums.y, sums.z, sums.w};
    Quad out;
#pragma unroll
    for (int i = 0; i < kQuad; ++i) {
      if (bias != nullptr && row + i < rows) total[i] += to_float(bias[row + i]);
      out.rows[i] = from_float<T>(total[i] * slot.factor);
    }
    T* const to = y + slot.number * args.ldy + row;
    if (aligned && row + kQuad <= rows) {
      *reinterpret_cast<Quad*>(to) = out;
    } else {
#pragma unroll
      for (int i = 0; i < kQuad; ++i) {
        if (row + i < rows) to[i] = out.rows[i];
      }
    }
  }
}

// What a launch needs for tiles of one width.
struct ExpertsScaledWay {
  ScaledPlan plan;
  CUtensorMap codes, x;
};

// Multiplies the tile: the course of gemm_scaled_wgmma, of a CTA alone; written out for the reason that is given there.
template <class T, class Shape>
__device__ __forceinline__ void experts_scaled_multiply(const GemmExpertsArgs& args, const ExpertsScaledTile& tile,
                                                        const ExpertsScaledWay& way, uint8_t* shared) {
  static_assert(kScaledMostRing * Shape::kScales * (Shape::kRows / kScaledHoleRows) <= kExpertsScaledFirstHole,
                "scales and slots must fit into the holes");
  const Weight& weight = args.weight;
  const ScaledShare<Shape> share{way.plan, shared};
  const ScaledPart part{tile.expert * args.n + tile.row, tile.first, 0, way.plan.stages, -1};
  const int warp = uniform(static_cast<int>(threadIdx.x) / kWarpSize);
  const int warpgroup = warp / kWarpgroupWarps;
  init_stages(way.plan.ring, [&](int slot) {
    barrier_init(share.barriers().full(slot), 1 + kScaledScaleWarps * kWarpArrivals);
    barrier_init(share.barriers().empty(slot), Shape::kConsumers * kWarpgroupWarps * kWarpArrivals);
  });
  init_stages(Shape::kConsumers,
              [&](int consumer) { barrier_init(share.turn(consumer), kWarpgroupWarps * kWarpArrivals); });
  barrier_init_fence();
  __syncthreads();

  if (warpgroup == Shape::kConsumers) {
    give_up_registers<kScaledProducerRegisters>();
    barrier_pass(kTableBarrier, Shape::kThreads);
    if (warp % kWarpgroupWarps != 0) {
      const int lane = static_cast<int>(threadIdx.x % kWarpgroupThreads) - kWarpSize;
      const Absmax& absmax = weight.absmax;
      if (absmax.dtype == Dtype::f32) {
        scaled_bring_scales(share, ScaledOnePart{part}, weight, lane,
                            [&](int64_t block) { return static_cast<const float*>(absmax.values)[block]; });
      } else {
        scaled_bring_scales(share, ScaledOnePart{part}, weight, lane,
                            [&](int64_t block) { return absmax_at(absmax, block); });
      }
    } else if (threadIdx.x % kWarpSize == 0) {
      scaled_copy(share, ScaledOnePart{part}, way.codes, way.x);
    }
    __syncwarp();
    barrier_pass(kReadBarrier, Shape::kThreads);
  } else {
    take_registers<Shape::kConsumerRegisters>();
    PairTable::fill(shared, way.plan.codebook, Shape::kConsumers * kWarpgroupWarps);
    experts_scaled_list(shared, args.routing, tile);
    barrier_sync(kTableBarrier, Shape::kThreads);
    ScaledSums<Shape> sums{};
    scaled_consume<T>(share, part.stages, warpgroup, sums, [] { return 0; });
    barrier_sync(kReadBarrier, Shape::kThreads);  // all stages have come, and nobody reads them any more
    scaled_store(share, sums);
  }
  __syncthreads();
  experts_scaled_finish<T>(share, args, part.row, tile);
}

// Writes zeros for every slot of no expert that falls to this CTA.
template <class T>
__device__ __forceinline__ void experts_scaled_clear(const GemmExpertsArgs& args) {
  const Routing& routing = args.routing;
  int64_t position = int64_t{expert_end(routing, routing.experts - 1)} + blockIdx.x;
  for (; position < routing.slots; position += gridDim.x) {
    const int64_t slot = slot_at(routing, position);
    if (slot < 0) continue;
    T* const y = static_cast<T*>(args.y) + slot * args.ldy;
    for (int64_t n = threadIdx.x; n < args.n; n += blockDim.x) y[n] = from_float<T>(0.0f);
  }
}

// Blocks of the format have FormatCols columns, or a multiple. The routing has ends; x has a row for each position.
template <class T, int FormatCols>
__global__ void __launch_bounds__(ScaledShape<kExpertsScaledRows, 256, FormatCols>::kThreads, 1)
    gemm_experts_scaled(const __grid_constant__ GemmExpertsArgs args, const __grid_constant__ ExpertsScaledPlan plan,
                        const __grid_constant__ ExpertsScaledWay narrow,
                        const __grid_constant__ ExpertsScaledWay middle,
                        const __grid_constant__ ExpertsScaledWay wide) {
  if constexpr (kHasWgmma) {
    extern __shared__ __align__(1024) uint8_t shared[];
    wait_for_dependencies();  // the routing may be what the kernel before wrote
    const ExpertsScaledTile tile = experts_scaled_tile(args.routing, plan);
    if (tile.expert >= 0) {
      if (tile.slots <= 64) {
        experts_scaled_multiply<T, ScaledShape<kExpertsScaledRows, 64, FormatCols>>(args, tile, narrow, shared);
      } else if (tile.slots <= 128) {
        experts_scaled_multiply<T, ScaledShape<kExpertsScaledRows, 128, FormatCols>>(args, tile, middle, shared);
      } else {
        experts_scaled_multiply<T, ScaledShape<kExpertsScaledRows, 256, FormatCols>>(args, tile, wide, shared);
      }
    }
    experts_scaled_clear<T>(args);
  }
}

}  // namespace nf4
