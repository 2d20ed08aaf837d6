// gemm.scaled_wgmma: the product on the warpgroup's tensor core instructions for many rows of x, up to 256 a tile.
// Weights are decoded and scaled in registers, on their way from the native layout to the tensor cores, so nothing is
// unpacked to memory. Compute capability 9.0a.
//
// Product. W is the A operand of wgmma.m64nNk16, from registers, x is B, from shared memory, both with K in its own
// order. Lane (g, t) of a warp needs, of each 16 columns of rows g and g + 8, columns 2t, 2t + 1 and 2t + 8, 2t + 9:
// bytes t and t + 4 of the 8 bytes of codes. So of a block of 64 columns, 8 words, it needs byte t of every word:
//
//     A register of step j    row    word       columns of the block
//     a0                      g      2j         16j + 2t, + 1
//     a1                      g + 8  2j         16j + 2t, + 1
//     a2                      g      2j + 1     16j + 2t + 8, + 9
//     a3                      g + 8  2j + 1     16j + 2t + 8, + 9      (g = lane / 4, t = lane % 4)
//
// The pair table gives two codebook values in f16, times kScaledTableFactor, by which all 16 are nearly f16 numbers
// (off by 2^-12.4 at most, 2^-13.8 in the mean). They become fp32, are multiplied by the block's absmax over
// kScaledTableFactor, and rounded once to x's type: what unpacking gives, but for those 2^-12.4. All products of a row
// meet in one accumulator, so the tensor cores work on one block while the warpgroup decodes the next.
//
// Work. A CTA has a tile of 128 rows of W by up to 256 rows of x, or 128 or 192 by up to 128: 64 rows of W for each of
// two or three warpgroups. It walks along K, and keeps the sums in registers. Producer warps fill a ring of stages
// (warp specialization, a multistage pipeline). The CTAs of a cluster split K (split-K); in the end their sums meet in
// shared memory, and are added up in order (epilogue). CTAs that share rows of W come one after the other, so that
// their codes are read from memory once.
//
// The warpgroups take turns (ping-pong) in giving work to the tensor cores, half of a decoding apart: then what lies
// between one's products has those of the others beside it. Left to themselves they would end and begin together.
//
// Stage, of 1 or 2 blocks. x [blocks][rows of x][64 elements], rows of 128 bytes: piece c (16 bytes) of row r is at
// place c ^ (r % 8), as wgmma wants it. Codes [rows of W][32 bytes a block]: piece c of row r is at place c ^ (r / 2 %
// 4), or c ^ (r / 4 % 2) for 1 block, so that the 8 rows of which a warp reads one piece lie in different banks. Both
// come by tensor copies (TMA). Scales, in fp32, lie in the holes of the pair table, 32 rows to a hole; the producer
// warps that do not copy bring them.
#pragma once

#include <cuda.h>

#include <algorithm>
#include <cstdint>

#include "device/launch.cuh"
#include "device/ptx.cuh"
#include "device/ring.cuh"
#include "device/warp.hpp"
#include "device/wgmma.cuh"
#include "format/absmax.hpp"
#include "format/number.hpp"
#include "gemm/named_barriers.hpp"
#include "gemm/pair_table.cuh"
#include "gemm/scale_pair.cuh"
#include "gemm/scaled_wgmma_layout.hpp"
#include "gemm/sum_tile.cuh"

namespace nf4 {

// What a CTA has to do, and where it keeps things.
template <class Shape>
struct ScaledShare {
  const ScaledPlan& plan;
  uint8_t* shared;
  int rank;       // in the cluster
  int col_begin;  // of x
  int64_t row;
  int stage_begin, stages;

  __device__ ScaledShare(const ScaledPlan& the_plan, uint8_t* the_shared) : plan(the_plan), shared(the_shared) {
    const int tile = static_cast<int>(blockIdx.x) / plan.cluster;
    rank = static_cast<int>(blockIdx.x) % plan.cluster;
    col_begin = tile % plan.col_tiles * Shape::kCols;
    row = int64_t{tile / plan.col_tiles} * Shape::kRows;
    stage_begin = plan.stages.begin(rank);
    stages = plan.stages.begin(rank + 1) - stage_begin;
  }

  // A tile by one CTA.
  __device__ ScaledShare(const ScaledPlan& the_plan, uint8_t* the_shared, int64_t the_row, int the_col)
      : plan(the_plan), shared(the_shared), rank(0), col_begin(the_col), row(the_row), stage_begin(0) {
    stages = plan.stages.begin(1);
  }

  __device__ int col(int stage) const { return (stage_begin + stage) * Shape::kStageCols; }
  __device__ StageBarriers barriers() const { return {shared_address(shared + plan.barriers)}; }
  // It is this warpgroup's turn.
  __device__ uint32_t turn(int warpgroup) const { return barriers().full(plan.ring) + warpgroup * 8; }
  __device__ uint8_t* x(int slot) const { return shared + PairTable::kBytes + slot * Shape::kStageBytes; }
  __device__ uint8_t* codes(int slot) const { return x(slot) + Shape::kXBytes; }
  // Scale `i` of row `of` of the CTA's. Those of 16 rows from a multiple of 16 on follow one another.
  __device__ float* scale(int slot, int i, int of) const {
    const int hole = (slot * Shape::kScales + i) * (Shape::kRows / kScaledHoleRows) + of / kScaledHoleRows;
    return reinterpret_cast<float*>(shared + hole * PairTable::kEntryBytes + PairTable::kUsedBytes) +
           of % kScaledHoleRows;
  }
  // [Shape::kCols][Shape::kSumPitch], where the ring was.
  __device__ float* sums() const { return reinterpret_cast<float*>(shared + PairTable::kBytes); }
};

// Copies codes and x to the ring, as one thread.
template <class Shape>
__device__ void scaled_copy(const ScaledShare<Shape>& share, const CUtensorMap& codes_map, const CUtensorMap& x_map) {
  const ScaledPlan& plan = share.plan;
  const auto copy_codes = [&](int stage, int slot) {
    barrier_expect(share.barriers().full(slot), Shape::kCodesBytes + Shape::kXBytes);
    copy_tensor(shared_address(share.codes(slot)), &codes_map, share.col(stage) / 2, static_cast<int>(share.row),
                share.barriers().full(slot));
  };
  const int early = plan.constant_weights ? min(plan.ring, share.stages) : 0;  // stages whose codes come before any x
  for (int stage = 0; stage < early; ++stage) copy_codes(stage, stage);
  // PDL (griddepcontrol): wait for the kernels before, and let the next one start.
  wait_for_dependencies();
  launch_dependents();
  RingPlace place{0, 1};
  for (int stage = 0; stage < share.stages; ++stage) {
    // Wait until the place is empty; the first time round it is at once.
    barrier_wait(share.barriers().empty(place.slot), place.parity);
    // Issue the TMA of codes and x.
    if (stage >= early) copy_codes(stage, place.slot);
#pragma unroll
    for (int b = 0; b < Shape::kBlocks; ++b)
      copy_tensor(shared_address(share.x(place.slot)) + b * Shape::kXBlockBytes, &x_map,
                  share.col(stage) + b * kPairBlock, share.col_begin, share.barriers().full(place.slot));
    barrier_arrive(share.barriers().full(place.slot));
    place.advance(plan.ring);
  }
}

// Brings scales to the ring, as one of kScaledScaleWarps warps. Those of a stage are read while the one before is
// stored. `scale_at` gives the scale of a block of the format.
template <class Shape, class ScaleAt>
__device__ __forceinline__ void scaled_bring_scales(const ScaledShare<Shape>& share, const Weight& weight, int lane,
                                                    const ScaleAt& scale_at) {
  constexpr int kLanes = kScaledScaleWarps * kWarpSize;
  constexpr int kRows = Shape::kRows;
  constexpr int kLaneRows = (kRows + kLanes - 1) / kLanes;
  const ScaledPlan& plan = share.plan;
  int64_t elements[kLaneRows];  // of W, where the next stage begins
#pragma unroll
  for (int r = 0; r < kLaneRows; ++r)
    elements[r] = min(share.row + lane + r * kLanes, weight.rows - 1) * weight.cols + share.col(0);
  int cols = static_cast<int>(weight.cols) - share.col(0);  // from there to the end of W
  float next[kLaneRows][Shape::kScales];
  const auto read = [&] {
#pragma unroll
    for (int r = 0; r < kLaneRows; ++r) {
#pragma unroll
      for (int i = 0; i < Shape::kScales; ++i) {
        next[r][i] = 0.0f;
        if (lane + r * kLanes < kRows && i * Shape::kFormatCols < cols)
          next[r][i] = scale_at((elements[r] + i * Shape::kFormatCols) >> weight.log2_blocksize);
      }
      elements[r] += Shape::kStageCols;
    }
    cols -= Shape::kStageCols;
  };
  if (!plan.constant_weights) wait_for_dependencies();
  RingPlace place{0, 1};
  read();
  for (int stage = 0; stage < share.stages; ++stage) {
    // Wait until the place is empty, store the scales that were read a stage ahead, and arrive.
    barrier_wait(share.barriers().empty(place.slot), place.parity);
#pragma unroll
    for (int r = 0; r < kLaneRows; ++r) {
#pragma unroll
      for (int i = 0; i < Shape::kScales; ++i) {
        const int row = lane + r * kLanes;
        if (row < kRows) *share.scale(place.slot, i, row) = next[r][i] * (1.0f / kScaledTableFactor);
      }
    }
    barrier_arrive_warp(share.barriers().full(place.slot));
    // Read those of the next stage.
    read();
    place.advance(plan.ring);
  }
}

// A thread's sums, in the order of store_sums().
template <class Shape>
using ScaledSums = float[Shape::kCols / 2];

// The first of a consumer thread's rows, in the CTA.
__device__ __forceinline__ int scaled_row() {
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  return warp * 16 + static_cast<int>(threadIdx.x) % kWarpSize / 4;
}

// Multiplies all stages by the rows of the warpgroup.
template <class T, class Shape>
__device__ __forceinline__ void scaled_consume(const ScaledShare<Shape>& share, int warpgroup,
                                               ScaledSums<Shape>& sums) {
  constexpr int kSteps = kPairBlock / 16;
  constexpr int kStages = 2 / Shape::kBlocks;  // at a time, so that each block has its operand A at compile time
  constexpr int kBlockScales = kPairBlock / Shape::kFormatCols;
  const ScaledPlan& plan = share.plan;
  const PairTable::Lane table(share.shared);
  const uint32_t selector = PairTable::Lane::byte_selector(static_cast<int>(threadIdx.x % 4));
  const int row = scaled_row();
  const uint32_t code_offset = row * Shape::kCodesRowBytes + (Shape::kBlocks == 2 ? row / 2 % 4 : row / 4 % 2) * 16;
  const bool last = warpgroup == Shape::kConsumers - 1;
  const uint32_t turn = share.turn(warpgroup), next_turn = share.turn(last ? 0 : warpgroup + 1);

  uint32_t a[2][kSteps][4];  // of the block under way, and of the next
  bool passes = last;        // the turn to the next, halfway through the next decoding; the first is warpgroup 0's
  uint32_t turn_parity = 0;
  uint32_t done = 0;  // the barrier of the stage that was multiplied last
  RingPlace place;
  const auto end = [&] {
    wgmma_wait();
    if (passes) barrier_arrive_warp(next_turn);
  };
  for (int first = 0; first < share.stages; first += kStages) {
#pragma unroll
    for (int s = 0; s < kStages; ++s) {
      if (s > 0 && first + s >= share.stages) {
        end();
        return;
      }
      // Wait for the stage.
      barrier_wait(share.barriers().full(place.slot), place.parity);
      const uint32_t codes = shared_address(share.codes(place.slot)) + code_offset;
      const uint32_t x = wgmma_lower(shared_address(share.x(place.slot)));
#pragma unroll
      for (int block = 0; block < Shape::kBlocks; ++block) {
        // Load codes and scales of a block.
        uint32_t(&operand)[kSteps][4] = a[s * Shape::kBlocks + block];
        uint32_t words[2][8];  // rows g and g + 8
        float scales[2][kBlockScales];
#pragma unroll
        for (int lower = 0; lower < 2; ++lower) {
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            const uint4 quad = load_shared_quad((codes ^ (block * 2 + half) * 16) + lower * 8 * Shape::kCodesRowBytes);
            words[lower][half * 4] = quad.x;
            words[lower][half * 4 + 1] = quad.y;
            words[lower][half * 4 + 2] = quad.z;
            words[lower][half * 4 + 3] = quad.w;
          }
#pragma unroll
          for (int i = 0; i < kBlockScales; ++i)
            scales[lower][i] = share.scale(place.slot, block * kBlockScales + i, row)[lower * 8];
        }
        // Look up operand A in the pair table and apply the scales, while the wgmma of the block before are in flight;
        // halfway through, pass the turn to the next warpgroup (ping-pong).
#pragma unroll
        for (int step = 0; step < kSteps; ++step) {
          if (step == kSteps / 2 && passes) barrier_arrive_warp(next_turn);
#pragma unroll
          for (int i = 0; i < 4; ++i)
            operand[step][i] = scale_pair<T>(table.look_up(words[i % 2][step * 2 + i / 2], selector),
                                             scales[i % 2][step * kBlockScales / kSteps]);
          wgmma_settle(operand[step]);
        }
        // The stage is there since long; but across a loop ptxas does not move what was computed above, to where it
        // would no longer overlap with the instructions under way.
        barrier_wait(share.barriers().full(place.slot), place.parity);
        // Wait for the wgmma, and release the stage that they were the last of.
        wgmma_wait();
        if (block == 0 && done != 0) barrier_arrive_warp(done);
        // Wait for the turn, and issue the wgmma of the block.
        barrier_wait(turn, turn_parity);
        turn_parity ^= 1;
        passes = true;
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < kSteps; ++step)
          wgmma<T, Shape::kCols>(sums, operand[step], x + wgmma_step(block * Shape::kXBlockBytes + step * 32), true);
        wgmma_commit();
        __syncwarp();  // or the compiler has the next look-ups delay the instructions that it moves behind them
      }
      done = share.barriers().empty(place.slot);
      place.advance(plan.ring);
    }
  }
  end();
}

// Leaves a thread's sums in shared memory.
template <class Shape>
__device__ __forceinline__ void scaled_store(const ScaledShare<Shape>& share, const ScaledSums<Shape>& sums) {
  float* const to = share.sums() + scaled_row();
  store_sums(to, Shape::kSumPitch, sums);
}

// Adds up the sums of the cluster, and writes y.
template <class T, class Shape>
__device__ void scaled_finish(const ScaledShare<Shape>& share, T* y, int64_t ldy, int m, int64_t rows, const T* bias) {
  const Partials partials{share.sums(), Shape::kSumPitch, 0, 1, share.plan.cluster, share.rank, 1.0f};
  write_tile(partials, y + share.col_begin * ldy, ldy, share.row, Shape::kRows, rows,
             min(m - share.col_begin, Shape::kCols), bias);
}

template <class T, class Shape>
__global__ void __launch_bounds__(Shape::kThreads, 1)
    gemm_scaled_wgmma(T* y,         // [m, weight.rows]
                      int64_t ldy,  // elements
                      int m, const __grid_constant__ Weight weight,
                      const T* bias,  // [weight.rows] or null
                      const __grid_constant__ ScaledPlan plan, const __grid_constant__ CUtensorMap codes_map,
                      const __grid_constant__ CUtensorMap x_map) {
  if constexpr (kHasWgmma) {
    extern __shared__ __align__(1024) uint8_t shared[];
    const ScaledShare<Shape> share(plan, shared);
    const int warp = uniform(static_cast<int>(threadIdx.x) / kWarpSize);
    const int warpgroup = warp / kWarpgroupWarps;

    // The course of warp_specialized(), written out: by way of it the loop is compiled into slower code. Up to
    // wait_for_dependencies() nothing may depend on what the kernels before wrote.
    init_stages(plan.ring, [&](int slot) {
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
          scaled_bring_scales(share, weight, lane,
                              [&](int64_t block) { return static_cast<const float*>(absmax.values)[block]; });
        } else {
          scaled_bring_scales(share, weight, lane, [&](int64_t block) { return absmax_at(absmax, block); });
        }
      } else if (threadIdx.x % kWarpSize == 0) {
        scaled_copy(share, codes_map, x_map);
      }
      __syncwarp();
      barrier_pass(kReadBarrier, Shape::kThreads);
    } else {
      take_registers<Shape::kConsumerRegisters>();
      PairTable::fill(shared, plan.codebook, Shape::kConsumers * kWarpgroupWarps);
      barrier_sync(kTableBarrier, Shape::kThreads);
      ScaledSums<Shape> sums{};
      scaled_consume<T>(share, warpgroup, sums);
      barrier_sync(kReadBarrier, Shape::kThreads);  // all stages have come, and nobody reads them any more
      scaled_store(share, sums);
      wait_for_dependencies();  // before y is written, here too
    }

    __syncthreads();
    if (plan.cluster > 1) cluster_barrier();
    scaled_finish<T>(share, y, ldy, m, weight.rows, bias);
    if (plan.cluster > 1) cluster_rendezvous();  // nobody leaves while others read its sums
  }
}

}  // namespace nf4
