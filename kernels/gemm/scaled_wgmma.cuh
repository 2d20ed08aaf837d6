// gemm.scaled_wgmma: the product on the warpgroup's tensor core instructions for many rows of x, up to 256 a tile; and
// gemm_transposed.scaled_wgmma, the product with W itself, as far as it differs at the end of this comment.
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
// Work. A tile has 128 rows of W by up to 256 rows of x, or 128 or 192 by up to 128: 64 rows of W for each of two or
// three warpgroups. A CTA walks along K of a tile, and keeps the sums in registers. Producer warps fill a ring of
// stages (warp specialization, a multistage pipeline). CTAs that share rows of W run at the same time, so that their
// codes are read from memory once. The work is divided in one of two ways:
//
//     cluster    A cluster has a tile, and its CTAs split K (split-K). In the end their sums meet in shared memory, and
//                are added up in order.
//     even       As many CTAs as the device holds stay (a persistent kernel). Each has whole tiles, then an even share
//                of the stages of those that are left (stream-K). Sums go from registers to y, or, of a tile that
//                several have a part of, to the workspace, where the last to come adds them up, in order. Meanwhile the
//                ring is filled for the next tile.
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
#include "gemm/meeting.cuh"
#include "gemm/named_barriers.hpp"
#include "gemm/pair_table.cuh"
#include "gemm/scale_pair.cuh"
#include "gemm/scaled_wgmma_layout.hpp"
#include "gemm/sum_tile.cuh"

namespace nf4 {

// The only part that a CTA has.
struct ScaledOnePart {
  ScaledPart only;

  __device__ bool get(int i, ScaledPart& part) const {
    part = only;
    return i == 0;
  }
};

// The parts of a CTA that has an even share. Part `i` is worked out from its number alone: consumers have no registers
// in which to keep where they are.
template <class Shape>
struct ScaledParts {
  const ScaledPlan& plan;

  __device__ bool get(int i, ScaledPart& part) const {
    return even_part<Shape>(plan, static_cast<int>(blockIdx.x), i, part);
  }
};

// Where a CTA keeps things.
template <class Shape>
struct ScaledShare {
  const ScaledPlan& plan;
  uint8_t* shared;

  __device__ StageBarriers barriers() const { return {shared_address(shared + plan.barriers)}; }
  // It is this warpgroup's turn.
  __device__ uint32_t turn(int warpgroup) const { return barriers().full(plan.ring) + warpgroup * 8; }
  __device__ uint8_t* x(int slot) const { return shared + PairTable::kBytes + slot * Shape::kStageBytes; }
  __device__ uint8_t* codes(int slot) const { return x(slot) + Shape::kXBytes; }
  // Scale `i` of row `of` of a stage's. Those of 16 rows from a multiple of 16 on follow one another.
  __device__ float* scale(int slot, int i, int of) const {
    const int hole = (slot * Shape::kScales + i) * (Shape::kCodesRows / kScaledHoleRows) + of / kScaledHoleRows;
    return reinterpret_cast<float*>(shared + hole * PairTable::kEntryBytes + PairTable::kUsedBytes) +
           of % kScaledHoleRows;
  }
  // [Shape::kCols][Shape::kSumPitch], where the ring was.
  __device__ float* sums() const { return reinterpret_cast<float*>(shared + PairTable::kBytes); }
};

// Copies codes and x to the ring, as one thread.
template <class Shape, class Parts>
__device__ void scaled_copy(const ScaledShare<Shape>& share, const Parts& parts, const CUtensorMap& codes_map,
                            const CUtensorMap& x_map) {
  const ScaledPlan& plan = share.plan;
  ScaledPart part;
  bool there = parts.get(0, part);
  const auto copy_codes = [&](int stage, int slot) {
    barrier_expect(share.barriers().full(slot), Shape::kCodesBytes + Shape::kXBytes);
    const int k = part.k<Shape>(stage), row = static_cast<int>(part.row);
    copy_tensor(shared_address(share.codes(slot)), &codes_map, (Shape::kTransposed ? row : k) / 2,
                Shape::kTransposed ? k : row, share.barriers().full(slot));
  };
  int early = plan.constant_weights ? min(plan.ring, part.stages) : 0;  // stages whose codes come before any x
  for (int stage = 0; stage < early; ++stage) copy_codes(stage, stage);
  // PDL (griddepcontrol): wait for the kernels before, and let the next one start.
  wait_for_dependencies();
  launch_dependents();
  RingPlace place{0, 1};
  for (int i = 0; there; there = parts.get(++i, part), early = 0) {
    for (int stage = 0; stage < part.stages; ++stage) {
      // Wait until the place is empty; the first time round it is at once.
      barrier_wait(share.barriers().empty(place.slot), place.parity);
      // Issue the TMA of codes and x.
      if (stage >= early) copy_codes(stage, place.slot);
#pragma unroll
      for (int b = 0; b < Shape::kBlocks; ++b)
        copy_tensor(shared_address(share.x(place.slot)) + b * Shape::kXBlockBytes, &x_map,
                    part.k<Shape>(stage) + b * kPairBlock, part.col, share.barriers().full(place.slot));
      barrier_arrive(share.barriers().full(place.slot));
      place.advance(plan.ring);
    }
  }
}

// Brings scales to the ring, as one of kScaledScaleWarps warps. Those of a stage are read while the one before is
// stored. `scale_at` gives the scale of a block of the format.
template <class Shape, class Parts, class ScaleAt>
__device__ __forceinline__ void scaled_bring_scales(const ScaledShare<Shape>& share, const Parts& parts,
                                                    const Weight& weight, int lane, const ScaleAt& scale_at) {
  constexpr int kLanes = kScaledScaleWarps * kWarpSize;
  constexpr int kRows = Shape::kCodesRows;
  constexpr int kLaneRows = (kRows + kLanes - 1) / kLanes;
  const ScaledPlan& plan = share.plan;
  if (!plan.constant_weights) wait_for_dependencies();
  RingPlace place{0, 1};
  ScaledPart part;
  for (int i = 0; parts.get(i, part); ++i) {
    int64_t elements[kLaneRows];  // of W, where the next stage begins
    int left;                     // from there to the end of W: columns, or rows where it is transposed
    if constexpr (Shape::kTransposed) {
#pragma unroll
      for (int r = 0; r < kLaneRows; ++r) elements[r] = (part.k<Shape>(0) + lane + r * kLanes) * weight.cols + part.row;
      left = static_cast<int>(weight.rows) - part.k<Shape>(0);
    } else {
#pragma unroll
      for (int r = 0; r < kLaneRows; ++r)
        elements[r] = min(part.row + lane + r * kLanes, weight.rows - 1) * weight.cols + part.k<Shape>(0);
      left = static_cast<int>(weight.cols) - part.k<Shape>(0);
    }
    // Whether row `r` of the stage's has a scale `i`.
    const auto has = [&](int r, int i) {
      if constexpr (Shape::kTransposed) return r < left && part.row + i * Shape::kFormatCols < weight.cols;
      return i * Shape::kFormatCols < left;
    };
    float next[kLaneRows][Shape::kScales];
    const auto read = [&] {
#pragma unroll
      for (int r = 0; r < kLaneRows; ++r) {
#pragma unroll
        for (int i = 0; i < Shape::kScales; ++i) {
          next[r][i] = 0.0f;
          if (lane + r * kLanes < kRows && has(lane + r * kLanes, i))
            next[r][i] = scale_at((elements[r] + i * Shape::kFormatCols) >> weight.log2_blocksize);
        }
        elements[r] += Shape::kTransposed ? Shape::kStageCols * weight.cols : Shape::kStageCols;
      }
      left -= Shape::kStageCols;
    };
    read();
    for (int stage = 0; stage < part.stages; ++stage) {
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
}

// A thread's sums, in the order of store_sums().
template <class Shape>
using ScaledSums = float[Shape::kCols / 2];

// The rows of W that a consumer thread has, in the CTA's tile: rows g and g + 8 of the warp's 16 of operand A.
template <class Shape>
struct ScaledRows {
  static constexpr int kApart = Shape::kTransposed ? 1 : 8;

  int first;

  __device__ ScaledRows() {
    const int warp = static_cast<int>(threadIdx.x) / kWarpSize, g = static_cast<int>(threadIdx.x) % kWarpSize / 4;
    first = Shape::kTransposed ? warp / 2 * 32 + warp % 2 * 2 + g * 4 : warp * 16 + g;
  }
};

// How a consumer thread reads codes and scales: what is the same for all blocks; and Block, what it has of one.
template <class Shape, bool Transposed = Shape::kTransposed>
struct ScaledCodes {
  static constexpr int kBlockScales = kPairBlock / Shape::kFormatCols;

  const ScaledShare<Shape>& share;
  uint32_t selector;
  int row;
  uint32_t offset;

  __device__ explicit ScaledCodes(const ScaledShare<Shape>& share)
      : share(share),
        selector(PairTable::Lane::byte_selector(static_cast<int>(threadIdx.x % 4))),
        row(ScaledRows<Shape>().first),
        offset(row * Shape::kCodesRowBytes + (Shape::kBlocks == 2 ? row / 2 % 4 : row / 4 % 2) * 16) {}

  struct Block {
    uint32_t words[2][8];  // rows g and g + 8
    float scales[2][kBlockScales];

    __device__ Block(const ScaledCodes& of, int slot, int block) {
      const uint32_t codes = shared_address(of.share.codes(slot)) + of.offset;
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
          scales[lower][i] = of.share.scale(slot, block * kBlockScales + i, of.row)[lower * 8];
      }
    }

    // A register of operand A.
    template <class T>
    __device__ uint32_t operand(const ScaledCodes& of, const PairTable::Lane& table, int step, int i) const {
      return scale_pair<T>(table.look_up(words[i % 2][step * 2 + i / 2], of.selector),
                           scales[i % 2][step * kBlockScales / (kPairBlock / 16)]);
    }
  };
};

// The same of a W that is transposed, see above.
template <class Shape>
struct ScaledCodes<Shape, true> {
  const ScaledShare<Shape>& share;
  uint32_t selector;  // of the warp's byte of two, in two words
  int scale;          // number of the warp's, of a row's in a stage
  uint32_t offset;

  __device__ explicit ScaledCodes(const ScaledShare<Shape>& share) : share(share) {
    const int warp = static_cast<int>(threadIdx.x) / kWarpSize, lane = static_cast<int>(threadIdx.x) % kWarpSize;
    const int piece = warp / 2;  // of 32 columns
    selector = 0x6240 + warp % 2 * 0x1111;
    scale = piece * 32 / Shape::kFormatCols;
    offset = lane * Shape::kCodesRowBytes + (piece ^ lane / 2 % 4) * 16;
    static_assert(Shape::kCodesRowBytes == 64, "which this swizzle is of");
  }

  struct Block {
    uint32_t words[2][2];  // of 32 rows of W, for rows g and g + 8 of operand A: a byte has a pair of each 8
    float2 scales[8];      // of each pair

    __device__ Block(const ScaledCodes& of, int slot, int block) {
      const uint32_t codes = shared_address(of.share.codes(slot)) + of.offset;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const uint4 quad = load_matrices_transposed(codes + (block * 2 + half) * kWarpSize * Shape::kCodesRowBytes);
        const uint32_t front = __byte_perm(quad.x, quad.y, of.selector);
        const uint32_t back = __byte_perm(quad.z, quad.w, of.selector);
        const uint32_t even = __byte_perm(front, back, 0x5410), odd = __byte_perm(front, back, 0x7632);  // rows of W
        words[half][0] = (even & 0xf0f0f0f0) | (odd >> 4 & 0x0f0f0f0f);
        words[half][1] = (even << 4 & 0xf0f0f0f0) | (odd & 0x0f0f0f0f);
      }
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const float* const at = of.share.scale(slot, of.scale, block * kPairBlock + i * 8) + threadIdx.x % 4 * 2;
        scales[i] = *reinterpret_cast<const float2*>(at);
      }
    }

    // A register of operand A.
    template <class T>
    __device__ uint32_t operand(const ScaledCodes&, const PairTable::Lane& table, int step, int i) const {
      const float2 scale = scales[step * 2 + i / 2];
      const uint32_t selector = PairTable::Lane::byte_selector(step % 2 * 2 + i / 2);
      return scale_pair<T>(table.look_up(words[step / 2][i % 2], selector), scale.x, scale.y);
    }
  };
};

// Multiplies all stages of the CTA's parts by the rows of the warpgroup: those of the first, and then as many as
// finish() says, which takes the sums of a part, and leaves zeros unless it is the last, and says 0.
//
// ptxas decides what this is worth. Of a loop over parts around one over stages it makes code where every instruction
// of the tensor cores is waited for, and a loop that comes from the end of a part to its beginning waits once in each
// round. So the next part begins where the one before has ended, with a round of its own.
template <class T, class Shape, class Finish>
__device__ __forceinline__ void scaled_consume(const ScaledShare<Shape>& share, int stages, int warpgroup,
                                               ScaledSums<Shape>& sums, const Finish& finish) {
  constexpr int kSteps = kPairBlock / 16;
  constexpr int kStages = Shape::kStages;  // of a round: each block has its operand A at compile time
  const ScaledPlan& plan = share.plan;
  const PairTable::Lane table(share.shared);
  const ScaledCodes<Shape> codes(share);
  const bool last = warpgroup == Shape::kConsumers - 1;
  const uint32_t turn = share.turn(warpgroup), next_turn = share.turn(last ? 0 : warpgroup + 1);

  uint32_t a[2][kSteps][4];  // of the block under way, and of the next
  bool passes = last;        // the turn to the next, halfway through the next decoding; the first is warpgroup 0's
  uint32_t turn_parity = 0;
  uint32_t done = 0;  // the barrier of the stage that was multiplied last
  RingPlace place;
  const auto round = [&]() __attribute__((always_inline)) {
#pragma unroll
    for (int s = 0; s < kStages; ++s) {
      // Wait for the stage.
      barrier_wait(share.barriers().full(place.slot), place.parity);
      const uint32_t x = wgmma_lower(shared_address(share.x(place.slot)));
#pragma unroll
      for (int block = 0; block < Shape::kBlocks; ++block) {
        // Load codes and scales of a block.
        uint32_t(&operand)[kSteps][4] = a[s * Shape::kBlocks + block];
        const typename ScaledCodes<Shape>::Block loaded(codes, place.slot, block);
        // Look up operand A in the pair table and apply the scales, while the wgmma of the block before are in flight;
        // halfway through, pass the turn to the next warpgroup (ping-pong).
#pragma unroll
        for (int step = 0; step < kSteps; ++step) {
          if (step == kSteps / 2 && passes) barrier_arrive_warp(next_turn);
#pragma unroll
          for (int i = 0; i < 4; ++i) operand[step][i] = loaded.template operand<T>(codes, table, step, i);
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
    stages -= kStages;
  };
#pragma unroll 1
  for (;;) {
    round();
    while (stages == 0) {
      // The end of a part.
      wgmma_wait();
      if (passes) barrier_arrive_warp(next_turn);
      passes = false;
      barrier_arrive_warp(done);
      done = 0;
      stages = finish();
      if (stages == 0) return;
      round();
    }
  }
}

// Leaves a thread's sums in shared memory.
template <class Shape>
__device__ __forceinline__ void scaled_store(const ScaledShare<Shape>& share, const ScaledSums<Shape>& sums) {
  using Rows = ScaledRows<Shape>;
  store_sums<Rows::kApart>(share.sums() + Rows().first, Shape::kSumPitch, sums);
}

// Adds up the sums of the cluster, and writes y.
template <class T, class Shape>
__device__ void scaled_finish(const ScaledShare<Shape>& share, const ScaledPart& part, T* y, int64_t ldy, int m,
                              int64_t rows, const T* bias) {
  const int rank = static_cast<int>(blockIdx.x) % share.plan.cluster;
  const Partials partials{share.sums(), Shape::kSumPitch, 0, 1, share.plan.cluster, rank, 1.0f};
  write_tile(partials, y + part.col * ldy, ldy, part.row, Shape::kRows, rows, min(m - part.col, Shape::kCols), bias);
}

// Where several CTAs have a part of a tile: leaves the warp's in the workspace. The last to come finds all parts added
// up in `sums`, the others false.
template <class Shape>
__device__ __forceinline__ bool scaled_meet(const ScaledPlan& plan, int step, ScaledSums<Shape>& sums) {
  constexpr int kFragments = Shape::kCols / 8;
  constexpr int kFloats = kFragments * 4 * kWarpSize;  // of a warp
  constexpr int kWarps = Shape::kConsumerThreads / kWarpSize;
  const int thread = anew(static_cast<int>(threadIdx.x)), warp = thread / kWarpSize, lane = thread % kWarpSize;
  const int cta = static_cast<int>(blockIdx.x);
  const int rounds = plan.stages / Shape::kStages;  // of a tile
  const int tile_begin = step / rounds * rounds;
  const int first = plan.shares.taker(tile_begin), last = plan.shares.taker(tile_begin + rounds - 1);  // CTAs
  // A CTA has two parts of tiles at most: what its share begins with, and what it ends with.
  const auto part = [&](int of, bool begins) {
    return plan.parts + ((int64_t{of} * 2 + (begins ? 0 : 1)) * kWarps + warp) * kFloats + lane * 4;
  };
  uint64_t* const counter = plan.counters + first * kWarps + warp;
  // Of two parts the order is all the same, so one can stay where it is.
  const bool stays = last - first == 1 && parts_there(counter, plan.launch, 1);
  if (!stays) {
    float* const own = part(cta, step == plan.shares.begin(cta));
#pragma unroll
    for (int f = 0; f < kFragments; ++f)
      *reinterpret_cast<float4*>(own + f * (4 * kWarpSize)) =
          make_float4(sums[4 * f], sums[4 * f + 1], sums[4 * f + 2], sums[4 * f + 3]);
    if (!part_arrives(counter, plan.launch, last - first + 1)) return false;
#pragma unroll
    for (float& sum : sums) sum = 0.0f;
  }
#pragma unroll 1
  for (int of = first; of <= last; ++of) {
    if (stays && of == cta) continue;
    const float* const from = part(of, of != first || plan.shares.begin(of) == tile_begin);
    constexpr int kAhead = 8;  // fragments under way, for which there are registers
#pragma unroll
    for (int f = 0; f < kFragments; f += kAhead) {
      uint4 v[kAhead];
#pragma unroll
      for (int i = 0; i < kAhead; ++i) v[i] = load_global_quad(from + (f + i) * (4 * kWarpSize));
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        float* const sum = sums + 4 * (f + i);
        sum[0] += bits_to_float(v[i].x);
        sum[1] += bits_to_float(v[i].y);
        sum[2] += bits_to_float(v[i].z);
        sum[3] += bits_to_float(v[i].w);
      }
    }
  }
  return true;
}

// Two sums that follow one another along rows of W, rounded, 8 x 8 of them transposed among the lanes of a warp: what
// the lane has of row g of 8 of x, rows 2t and 2t + 1 of 8 of W.
template <class T>
__device__ __forceinline__ uint32_t scaled_round(float first, float second) {
  return transpose_8x8(from_float<T>(first).bits | uint32_t{from_float<T>(second).bits} << 16);
}

// Writes y from a thread's sums. Each lane has 4 rows of W that follow one another, and four lanes a sector of y.
template <class T, class Shape>
__device__ __forceinline__ void scaled_write(const ScaledPart& part, const ScaledSums<Shape>& sums, T* y, int64_t ldy,
                                             int m, int64_t rows, const T* bias) {
  const int thread = anew(static_cast<int>(threadIdx.x)), lane = thread % kWarpSize, g = lane / 4, t = lane % 4;
  const int64_t warp_row = part.row + thread / kWarpSize * 16;
  float add[2];  // for rows g and g + 8
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int64_t row = warp_row + g + i * 8;
    add[i] = bias != nullptr && row < rows ? to_float(bias[row]) : 0.0f;
  }
  const int64_t row = warp_row + (t % 2 == 0 ? 2 * t : 6 + 2 * t);
  const int cols = m - part.col - g;  // of x, from the lane's first on
  T* const to = y + (part.col + g) * ldy + row;
  const auto count = static_cast<int>(max(int64_t{-1}, min(rows - row, int64_t{4})));
  const bool together = count == 4 && reinterpret_cast<uintptr_t>(to) % 8 == 0 && ldy % 4 == 0;
#pragma unroll
  for (int f = 0; f < Shape::kCols / 8; ++f) {
    uint32_t of_row[2];  // rows 2t and 2t + 1 of 8, by row g of 8 of x
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float pair[2] = {sums[4 * f + 2 * i], sums[4 * f + 2 * i + 1]};
      if (bias != nullptr) {
        pair[0] += add[i];
        pair[1] += add[i];
      }
      of_row[i] = scaled_round<T>(pair[0], pair[1]);
    }
    const bool even = t % 2 == 0;
    const uint32_t other = __shfl_xor_sync(~0u, even ? of_row[1] : of_row[0], 1);
    const uint2 quad = even ? make_uint2(of_row[0], other) : make_uint2(other, of_row[1]);
    if (f * 8 < cols) {
      T* const at = to + f * 8 * ldy;
      if (together) {
        *reinterpret_cast<uint2*>(at) = quad;
      } else {
        const uint32_t words[2] = {quad.x, quad.y};
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          if (i < count) at[i] = T{static_cast<uint16_t>(words[i / 2] >> i % 2 * 16)};
        }
      }
    }
  }
}

// The same where W is transposed: `columns` of it. A lane has two pairs of columns, 8t and 8t + 4 from the warp's first
// on; the pairs between them are those of the warp that shares the piece.
template <class T, class Shape>
__device__ __forceinline__ void scaled_write_transposed(const ScaledPart& part, const ScaledSums<Shape>& sums, T* y,
                                                        int64_t ldy, int m, int64_t columns) {
  const int thread = anew(static_cast<int>(threadIdx.x)), lane = thread % kWarpSize, g = lane / 4, t = lane % 4;
  const int warp = thread / kWarpSize;
  const int64_t column = part.row + warp / 2 * 32 + warp % 2 * 2 + 8 * t;
  if (column >= columns) return;      // of which there are whole pieces, or none
  const int cols = m - part.col - g;  // of x, from the lane's first on
  T* const to = y + (part.col + g) * ldy + column;
  const bool together = reinterpret_cast<uintptr_t>(to) % 4 == 0 && ldy % 2 == 0;
#pragma unroll
  for (int f = 0; f < Shape::kCols / 8; ++f) {
    const uint32_t first = scaled_round<T>(sums[4 * f], sums[4 * f + 1]);
    const uint32_t second = scaled_round<T>(sums[4 * f + 2], sums[4 * f + 3]);
    const uint32_t pairs[2] = {__byte_perm(first, second, 0x5410), __byte_perm(first, second, 0x7632)};
    if (f * 8 < cols) {
      T* const at = to + f * 8 * ldy;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        if (together) {
          *reinterpret_cast<uint32_t*>(at + 4 * i) = pairs[i];
        } else {
          at[4 * i] = T{static_cast<uint16_t>(pairs[i])};
          at[4 * i + 1] = T{static_cast<uint16_t>(pairs[i] >> 16)};
        }
      }
    }
  }
}

// Even: see above.
template <class T, class Shape, bool Even>
__global__ void __launch_bounds__(Shape::kThreads, 1)
    gemm_scaled_wgmma(T* y,         // [m, weight.rows], or [m, weight.cols] where W is transposed
                      int64_t ldy,  // elements
                      int m, const __grid_constant__ Weight weight,
                      const T* bias,  // [weight.rows] or null; null where W is transposed
                      const __grid_constant__ ScaledPlan plan, const __grid_constant__ CUtensorMap codes_map,
                      const __grid_constant__ CUtensorMap x_map) {
  if constexpr (kHasWgmma) {
    extern __shared__ __align__(1024) uint8_t shared[];
    const ScaledShare<Shape> share{plan, shared};
    const auto parts = [&] {
      if constexpr (Even) {
        return ScaledParts<Shape>{plan};
      } else {
        return ScaledOnePart{cluster_part<Shape>(plan, static_cast<int>(blockIdx.x))};
      }
    }();
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
          scaled_bring_scales(share, parts, weight, lane,
                              [&](int64_t block) { return static_cast<const float*>(absmax.values)[block]; });
        } else {
          scaled_bring_scales(share, parts, weight, lane, [&](int64_t block) { return absmax_at(absmax, block); });
        }
      } else if (threadIdx.x % kWarpSize == 0) {
        scaled_copy(share, parts, codes_map, x_map);
      }
      __syncwarp();
      if constexpr (!Even) barrier_pass(kReadBarrier, Shape::kThreads);
    } else {
      take_registers<Shape::kConsumerRegisters>();
      PairTable::fill(shared, plan.codebook, Shape::kConsumers * kWarpgroupWarps);
      barrier_sync(kTableBarrier, Shape::kThreads);
      ScaledSums<Shape> sums{};
      int i = 0;
      ScaledPart part;
      parts.get(0, part);
      const auto finish = [&] {
        if constexpr (!Even) return 0;
        wait_for_dependencies();  // before the workspace or y is written, here too
        parts.get(anew(i), part);
        if (part.step < 0 || scaled_meet<Shape>(plan, part.step, sums)) {
          if constexpr (Shape::kTransposed) {
            scaled_write_transposed<T, Shape>(part, sums, y, ldy, m, weight.cols);
          } else {
            scaled_write<T, Shape>(part, sums, y, ldy, m, weight.rows, bias);
          }
        }
#pragma unroll
        for (float& sum : sums) sum = 0.0f;
        return parts.get(++i, part) ? part.stages : 0;
      };
      // In a cluster more CTAs may split K than it has rounds.
      if (Even || part.stages > 0) scaled_consume<T>(share, part.stages, warpgroup, sums, finish);
      if constexpr (!Even) {
        barrier_sync(kReadBarrier, Shape::kThreads);  // all stages have come, and nobody reads them any more
        scaled_store(share, sums);
        wait_for_dependencies();  // before y is written, here too
      }
    }

    if constexpr (!Even) {
      __syncthreads();
      if (plan.cluster > 1) cluster_barrier();
      scaled_finish<T>(share, parts.only, y, ldy, m, Shape::kTransposed ? weight.cols : weight.rows, bias);
      if (plan.cluster > 1) cluster_rendezvous();  // nobody leaves while others read its sums
    }
  }
}

}  // namespace nf4
