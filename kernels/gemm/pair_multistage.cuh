// gemm.pair_multistage: the fused product on the tensor cores for 8, 16 or 32 rows of x in one pass over W, by the
// means of compute capability 8.0. Codes, scales and x come by cp.async through rings of stages (a multistage
// pipeline), which every warp fills with a part of what comes, and multiplies; codes are decoded by the pair table.
//
// Product. As in pair.cuh: W is the A operand of mma.m16n8k16 in its native layout, x is B with K permuted alike inside
// a block of 64, a block's products meet in fresh accumulators that its absmax multiplies in fp32. Column c of an
// operand B is a row of x; lane (g, t) needs elements 16t to 16t + 15 of row g of a block. A warp has 32 rows of W, and
// keeps the operands A of a block in registers while x passes by.
//
// Work. A tile is so many rows of one W (see group.hpp), 32 for each of `groups` of warps. A stage is 256 columns of a
// tile, so that a row's codes are one line of 128 bytes: a cp.async costs L1's data pipe a wavefront for each line that
// it touches, however little it takes of it. The warps of a group are `teams`, which take blocks of 64 columns in turn.
// A CTA goes through its steps, a stage of a tile each, tile by tile, without a stop: at the end of a tile (or of the
// CTA's part of it) the sums of a group meet in the place of the codes that the group has just read, team after team,
// and the last team writes them while the others go on. A tile that several CTAs have a part of is added up by whoever
// comes last, in order, from the workspace (stream-K).
//
// Rings. Two producer warps bring codes and scales, two others x (warp specialization); the three have rings of their
// own, so that each is as far ahead as there is room. A consumer takes the codes and scales of its block into
// registers, lets the stage go, and multiplies. A block of x is one team's.
//
//     in shared memory   lines (128 bytes)                  16-byte pieces
//     codes              a row of W, 256 columns            piece c of row r at place c ^ (r % 8)
//     x                  a row of x, 64 columns             the same
//     scales, fp32       4 rows of W, 2 stages              piece s of row r at place (2 (r % 4) + s) ^ (r / 4 % 2)
//
//     read       lanes that are served at once   what they read                         places
//     codes      16: 4 rows, all t               8 bytes each of two pieces of a row    as in pair.cuh
//     x          8: rows 2i, 2i + 1, all t       pieces 2t of both, then 2t + 1         even ones, odd ones
//     a scale    32: 8 rows, all t the same      4 bytes                                16 apart
//
// so nothing meets in a bank.
#pragma once

#include <algorithm>
#include <cstdint>

#include "device/launch.cuh"
#include "device/ptx.cuh"
#include "device/ring.cuh"
#include "device/warp.hpp"
#include "dispatch.hpp"
#include "format/number.hpp"
#include "gemm/cp_async_lines.cuh"
#include "gemm/group.hpp"
#include "gemm/hole_lines.hpp"
#include "gemm/meeting.cuh"
#include "gemm/pair_fragment.cuh"
#include "gemm/pair_multistage_layout.hpp"
#include "gemm/pair_scales.cuh"
#include "gemm/pair_table.cuh"

namespace nf4 {

constexpr int kMultistageArchitecture = 80;
constexpr int kMultistageTableBarrier = 15;  // the pair table is filled; those before are the groups'

// A stage of a tile.
struct MultistageStep {
  int tile;
  int stage;

  __device__ void advance(int stages) {
    if (++stage == stages) {
      stage = 0;
      ++tile;
    }
  }
};

// What a launch multiplies W by.
template <class T>
struct MultistageX {
  const T* values;  // [rows][ld]
  int64_t ld;
  int rows;
};

// What a CTA has to do, and where it keeps things: 32-bit addresses in shared memory.
struct MultistageShare {
  const MultistagePlan& plan;
  uint32_t base;  // of shared memory
  int cta;
  int first;  // step, of the launch
  int steps;
  int lane;
  int warp;         // consumers are first
  int group, team;  // of a consumer

  __device__ MultistageShare(const MultistagePlan& the_plan, const uint8_t* shared) : plan(the_plan) {
    base = shared_address(shared);
    cta = static_cast<int>(blockIdx.x);
    first = plan.begin(cta);
    steps = plan.begin(cta + 1) - first;
    lane = static_cast<int>(threadIdx.x % kWarpSize);
    warp = uniform(static_cast<int>(threadIdx.x / kWarpSize));
    group = warp % plan.groups;
    team = warp / plan.groups;
  }

  __device__ MultistageStep first_step() const { return {first / plan.stages, first % plan.stages}; }

  // The barriers of all rings, one after the other.
  __device__ StageBarriers stages() const { return {base + plan.barriers}; }
  __device__ StageBarriers xs() const { return {stages().full(plan.ring)}; }
  // The sums of a team of the group, in order, are where the next one reads them.
  __device__ uint32_t handed_on(int of_team) const {
    return xs().full(plan.x_ring) + (group * plan.teams + of_team) * 8;
  }

  __device__ uint32_t map(int product) const {
    return base + plan.maps + product * (kMapSize * static_cast<int>(sizeof(float)));
  }
  // 4 sums of a lane, where the codes of its group are.
  __device__ uint32_t sum(int slot, int fragment) const {
    const int line = group * kMultistageWarpRows + fragment * 4 + lane / 8;
    return base + plan.codes.at(slot) + line * kLinePitch + lane % 8 * 16;
  }
};

// Where the scales of a row of the tile lie in a slot, of the first or second stage of the two.
__device__ __forceinline__ uint32_t multistage_scale(unsigned row, unsigned half) {
  return row / 4 * kLinePitch + ((row % 4 * 2 + half) ^ row / 4 % 2) * 16;
}

// Brings scales, of two steps at a time, of which even lanes have the first and odd ones the second: 4 blocks each. One
// of Sizes::kWeightProducers warps, which take rows in turn.
template <class Sizes, class Scales>
class MultistageScaleSource {
 public:
  __device__ MultistageScaleSource(const MultistageShare& share, const Group<kMostProducts>& group, int producer,
                                   int lane)
      : share_(share),
        group_(group),
        lane_(lane),
        first_row_(producer * (kWarpSize / 2) + lane / 2),
        own_(share.first_step()),
        step_(lane % 2) {
    if (step_ == 1) own_.advance(share.plan.stages);
    read();
  }

  // The next two steps, if there are any. Their place is free once the stage is that comes to the place of the first.
  __device__ void bring() {
    const uint32_t to = share_.base + share_.plan.scales.at(slot_);
    with_rows([&](auto format, const Weight& weight, int product, int i, unsigned row, int block, int inside) {
      const uint32_t place = to + multistage_scale(row, lane_ % 2);
      if constexpr (Scales::kAsync) {
        Scales::copy(format, weight, block, inside, place);
      } else {
        scales_[i].store(format, weight, share_.map(product), offset_, place);
      }
    });
    if (++slot_ == share_.plan.scale_ring) slot_ = 0;
    own_.advance(share_.plan.stages);
    own_.advance(share_.plan.stages);
    step_ += 2;
  }
  // Reads what is stored next.
  __device__ void read() {
    if constexpr (!Scales::kAsync) {
      with_rows([&](auto format, const Weight& weight, int, int i, unsigned, int block, int inside) {
        if (i == 0 && weight.absmax.dtype == Dtype::u8) offset_ = __ldg(weight.absmax.offset);
        scales_[i].read(format, weight, block, inside);
      });
    }
  }

 private:
  static constexpr int kRows = Sizes::kWeightProducers * kWarpSize / 2;  // at a time, of all
  static constexpr int kMostTimes = kMultistageMostGroups * kMultistageWarpRows / kRows;

  // Calls f(format, weight, product, i, row, block, inside) for the lane's rows of its step.
  template <class F>
  __device__ void with_rows(const F& f) {
    const MultistagePlan& plan = share_.plan;
    if (step_ >= share_.steps) return;
    const int product = group_.tiles.product(own_.tile);
    const Weight& weight = group_.products[product].weight;
    const int tile_row = group_.tiles.in_product(own_.tile, product) * plan.rows;
    const int rows = static_cast<int>(min(int64_t{plan.rows}, weight.rows - tile_row));
    const int column = own_.stage * kMultistageBlocks;
    int block = (tile_row + first_row_) * plan.blocks + column;
    Scales::dispatch(plan.quads, weight, [&](auto format) {
#pragma unroll
      for (int i = 0; i < kMostTimes; ++i) {
        const int row = first_row_ + i * kRows;
        if (row >= rows) break;
        f(format, weight, product, i, static_cast<unsigned>(row), block, plan.blocks - column);
        block += kRows * plan.blocks;
      }
    });
  }
  const MultistageShare& share_;
  const Group<kMostProducts>& group_;
  int lane_;
  int first_row_;  // of the tile, that the lane has
  MultistageStep own_;
  int step_;
  int slot_ = 0;
  float offset_ = 0.0f;
  Scales scales_[Scales::kAsync ? 1 : kMostTimes];  // read before they are stored, unless they are copied
};

// A producer of codes and scales: it has an equal share of each 32 lines.
template <class Sizes, class Scales>
__device__ __forceinline__ void multistage_bring_weights(const MultistageShare& share,
                                                         const Group<kMostProducts>& group, int producer) {
  const MultistagePlan& plan = share.plan;
  constexpr int kTimes = kMultistageWarpRows / kCopyLines / Sizes::kWeightProducers;
  static_assert(kTimes % 2 == 0);
  const int lane = static_cast<int>(keep(share.lane));
  const int first_line = producer * kCopyLines * kTimes + lane / kLinePieces;
  const uint32_t place_of_lane = share.base + producer * kCopyLines * kTimes * kLinePitch + line_place(lane);
  MultistageScaleSource<Sizes, Scales> scales(share, group, producer, lane);
  MultistageStep at = share.first_step();
  RingPlace place{0, 1};
  const uint8_t* codes = nullptr;  // the lane's piece, of its first row of the tile
  int64_t row_bytes = 0;
  int lines = 0;  // of the tile, from the lane's first on
  for (int step = 0; step < share.steps; ++step) {
    if (step == 0 || at.stage == 0) {
      const int product = group.tiles.product(at.tile);
      const Weight& weight = group.products[product].weight;
      const int64_t row = int64_t{group.tiles.in_product(at.tile, product)} * plan.rows + first_line;
      row_bytes = weight.cols / 2;
      lines = static_cast<int>(min(int64_t{plan.rows} - first_line, weight.rows - row));
      codes = weight.codes + row * row_bytes + lane % kLinePieces * 16;
    }
    const int column = at.stage * kPairBoxBytes;
    const uint8_t* from = codes + column;
    uint32_t to = place_of_lane + plan.codes.at(place.slot);
    const bool inside = column + lane % kLinePieces * 16 < row_bytes;
    barrier_wait(share.stages().empty(place.slot), place.parity);
#pragma unroll 1
    for (int left = inside ? lines : 0; left > 0; left -= kMultistageWarpRows) {
      copy_lines<kTimes>(to, from, kCopyLines * row_bytes, left);
      from += kMultistageWarpRows * row_bytes;
      to += kMultistageWarpRows * kLinePitch;
    }
    if (step % 2 == 0) scales.bring();
    barrier_arrive_copies(share.stages().full(place.slot));
    if (!Scales::kAsync) barrier_arrive_warp(share.stages().full(place.slot), lane);
    if (step % 2 == 0) scales.read();
    at.advance(plan.stages);
    place.advance(plan.ring);
  }
  wait_all_copies();
}

// A producer of x: every Sizes::kXProducers-th block is its. Past the end of a row there are zeros, up to the end of
// its last stage, and so there are for scales: blocks that are not there add nothing.
template <class T, class Sizes>
__device__ __forceinline__ void multistage_bring_x(const MultistageShare& share, const MultistageX<T>& x,
                                                   int producer) {
  const MultistagePlan& plan = share.plan;
  const int lane = static_cast<int>(keep(share.lane));
  const int64_t pitch = x.ld * static_cast<int>(sizeof(T));
  const auto* const from =
      reinterpret_cast<const uint8_t*>(x.values) + lane / kLinePieces * pitch + lane % kLinePieces * 16;
  const uint32_t place_of_lane = share.base + line_place(lane);
  const int lines = x.rows - lane / kLinePieces;
  const int64_t copy_bytes = kCopyLines * pitch;
  const int end = plan.stages * kMultistageBlocks;
  int block = share.first_step().stage * kMultistageBlocks + producer;
  RingPlace place{0, 1};
  place.advance(plan.x_ring, producer);
  for (int left = share.steps * (kMultistageBlocks / Sizes::kXProducers); left > 0; --left) {
    barrier_wait(share.xs().empty(place.slot), place.parity);
    const bool inside = block < plan.blocks;
    copy_lines<2 * Sizes::kColTiles>(place_of_lane + plan.x.at(place.slot),
                                     from + int64_t{inside ? block : 0} * kPairBlockXBytes, copy_bytes, lines, inside);
    barrier_arrive_copies(share.xs().full(place.slot));
    place.advance(plan.x_ring, Sizes::kXProducers);
    block += Sizes::kXProducers;
    if (block >= end) block -= end;
  }
  wait_all_copies();
}

// The sums of a warp: row 16 tile + operand_row(g) of its rows in [0] and [1], the row 8 further in [2] and [3], by
// rows 2t and 2t + 1 of 8 rows of x.
template <int ColTiles>
using MultistageSums = float[kMultistageRowTiles][ColTiles][4];

template <int ColTiles, class F>
__device__ __forceinline__ void each_fragment(MultistageSums<ColTiles>& sums, const F& f) {
#pragma unroll
  for (int tile = 0; tile < kMultistageRowTiles; ++tile) {
#pragma unroll
    for (int c = 0; c < ColTiles; ++c) f(tile * ColTiles + c, sums[tile][c]);
  }
}

// Adds up the sums of all teams of the group, in order, in the place of the codes at `slot`: the last team has them
// then. `parity` tells this time from the one before.
template <int ColTiles>
__device__ __forceinline__ void multistage_exchange(const MultistageShare& share, int slot, uint32_t parity,
                                                    MultistageSums<ColTiles>& sums) {
  static_assert(kMultistageRowTiles * ColTiles * 4 <= kMultistageWarpRows, "as many lines as the codes have");
  const bool last = share.team == share.plan.teams - 1;
  if (share.team > 0) barrier_wait(share.handed_on(share.team - 1), parity);
  each_fragment<ColTiles>(sums, [&](int fragment, float(&sum)[4]) {
    const uint32_t place = share.sum(slot, fragment);
    if (share.team > 0) {
      const uint4 before = load_shared_quad(place);
      sum[0] += bits_to_float(before.x);
      sum[1] += bits_to_float(before.y);
      sum[2] += bits_to_float(before.z);
      sum[3] += bits_to_float(before.w);
    }
    if (!last)
      store_shared_quad(place, make_uint4(float_to_bits(sum[0]), float_to_bits(sum[1]), float_to_bits(sum[2]),
                                          float_to_bits(sum[3])));
  });
  if (!last) barrier_arrive_warp(share.handed_on(share.team), share.lane);
}

// Where a tile is divided: leaves the warp's part of it in the workspace. The last to come finds all parts added up in
// `sums`, the others false.
template <int ColTiles>
__device__ __forceinline__ bool multistage_meet(const MultistageShare& share, int tile, int begin,
                                                MultistageSums<ColTiles>& sums) {
  constexpr int kFloats = MultistageSizes<ColTiles>::kPartFloats;
  const MultistagePlan& plan = share.plan;
  const int first = plan.shares.taker(tile * plan.stages);  // CTA
  const int last = plan.shares.taker((tile + 1) * plan.stages - 1);
  // A CTA has two parts of tiles at most: what it begins with, and what it ends with.
  const auto part = [&](int cta, bool begins) {
    return plan.parts + (int64_t{cta} * 2 + (begins ? 0 : 1)) * plan.groups * kFloats + share.group * kFloats +
           share.lane * 4;
  };
  float* const own = part(share.cta, begin == share.first);
  each_fragment<ColTiles>(sums, [&](int fragment, float(&sum)[4]) {
    *reinterpret_cast<float4*>(own + fragment * (4 * kWarpSize)) = make_float4(sum[0], sum[1], sum[2], sum[3]);
  });
  if (!part_arrives(plan.counters + first * plan.groups + share.group, plan.launch, last - first + 1)) return false;
  each_fragment<ColTiles>(sums, [&](int, float(&sum)[4]) { sum[0] = sum[1] = sum[2] = sum[3] = 0.0f; });
#pragma unroll 1
  for (int cta = first; cta <= last; ++cta) {
    const float* const from = part(cta, cta != first || plan.begin(cta) == tile * plan.stages);
    each_fragment<ColTiles>(sums, [&](int fragment, float(&sum)[4]) {
      const uint4 v = load_global_quad(from + fragment * (4 * kWarpSize));
      sum[0] += bits_to_float(v.x);
      sum[1] += bits_to_float(v.y);
      sum[2] += bits_to_float(v.z);
      sum[3] += bits_to_float(v.w);
    });
  }
  return true;
}

// Writes y.
template <class T, int ColTiles>
__device__ __forceinline__ void multistage_write(const MultistageShare& share, const Group<kMostProducts>& group,
                                                 int tile, int m, MultistageSums<ColTiles>& sums) {
  const int product = group.tiles.product(tile);
  const GroupProduct& to = group.products[product];
  auto* const y = static_cast<T*>(to.y);
  const auto* const bias = static_cast<const T*>(to.bias);
  const int64_t warp_row = int64_t{group.tiles.in_product(tile, product)} * share.plan.rows +
                           share.group * kMultistageWarpRows + operand_row(share.lane / 4);
#pragma unroll
  for (int eighth = 0; eighth < 2 * kMultistageRowTiles; ++eighth) {
    const int64_t row = warp_row + eighth * 8;
    if (row >= to.weight.rows) continue;
    const float add = bias != nullptr ? to_float(bias[row]) : 0.0f;
#pragma unroll
    for (int c = 0; c < ColTiles; ++c) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int col = c * 8 + share.lane % 4 * 2 + e;
        // Rounded before the bias is added, see kCodebookInverse.
        float total = __fmul_rn(sums[eighth / 2][c][eighth % 2 * 2 + e], kCodebookInverse<T>);
        if (bias != nullptr) total += add;
        if (col < m) y[col * to.ldy + row] = from_float<T>(total);
      }
    }
  }
}

// The operands A and scales of a block, for a warp.
struct MultistageOperand {
  uint2 codes[kMultistageRowTiles][2];  // of row operand_row(g) and the row 8 further
  float scales[kMultistageRowTiles][2];
};

// Multiplies a block by the block of x at `x`, which is the lane's address in it.
template <class T, int ColTiles>
__device__ __forceinline__ void multistage_multiply(const uint8_t* table, const MultistageOperand& w, uint32_t x,
                                                    uint32_t lane4, MultistageSums<ColTiles>& sums) {
  uint32_t a[kMultistageRowTiles][4][4];
#pragma unroll
  for (int tile = 0; tile < kMultistageRowTiles; ++tile) {
    const auto step = [&](auto byte, uint32_t upper, uint32_t lower, uint32_t(&to)[4]) {
      constexpr int kByte = decltype(byte)::value;
      to[0] = PairTable::look_up<kByte>(table, upper, lane4);
      to[1] = PairTable::look_up<kByte>(table, lower, lane4);
      to[2] = PairTable::look_up<kByte + 1>(table, upper, lane4);
      to[3] = PairTable::look_up<kByte + 1>(table, lower, lane4);
    };
    const uint2 upper = w.codes[tile][0], lower = w.codes[tile][1];
    step(Constant<0>{}, upper.x, lower.x, a[tile][0]);
    step(Constant<2>{}, upper.x, lower.x, a[tile][1]);
    step(Constant<0>{}, upper.y, lower.y, a[tile][2]);
    step(Constant<2>{}, upper.y, lower.y, a[tile][3]);
  }
#pragma unroll
  for (int c = 0; c < ColTiles; ++c) {
    // No x is loaded before this: far ahead, as the compiler would, it takes registers that others need.
    if (ColTiles > 2 && (c == 1 || c == 2)) __syncwarp();
    const uint4 low = load_shared_quad(x + c * (8 * kLinePitch));
    const uint4 high = load_shared_quad((x ^ 16) + c * (8 * kLinePitch));
    const uint32_t b[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
    float dots[kMultistageRowTiles][4] = {};
#pragma unroll
    for (int step = 0; step < 4; ++step) {
#pragma unroll
      for (int tile = 0; tile < kMultistageRowTiles; ++tile)
        mma<T>(dots[tile], a[tile][step], b[2 * step], b[2 * step + 1]);
    }
#pragma unroll
    for (int tile = 0; tile < kMultistageRowTiles; ++tile) {
#pragma unroll
      for (int e = 0; e < 4; ++e) sums[tile][c][e] = fmaf(dots[tile][e], w.scales[tile][e / 2], sums[tile][c][e]);
    }
  }
}

// Goes on by so many places, no more than the ring has.
__device__ __forceinline__ void multistage_advance(RingPlace& place, int ring, int by) {
  place.slot += by;
  const bool wraps = place.slot >= ring;
  place.slot -= wraps ? ring : 0;
  place.parity ^= wraps ? 1 : 0;
}

// Multiplies the blocks of the warp's team by the rows of its group.
template <class T, int ColTiles>
__device__ __forceinline__ void multistage_consume(const MultistageShare& share, const uint8_t* table, int m,
                                                   const Group<kMostProducts>& group) {
  const MultistagePlan& plan = share.plan;
  const int lane = static_cast<int>(keep(share.lane));
  const unsigned g = lane / 4, t = lane % 4;
  const unsigned g_row = operand_row(static_cast<int>(g));
  const unsigned warp_row = share.group * kMultistageWarpRows + g_row;
  // The first block's; the others are pieces further on, before pieces are exchanged. What a step has in common is
  // worked out before, and kept.
  const uint32_t code_offset = keep(share.base + warp_row * kLinePitch + (t / 2 ^ g_row) * 16 + t % 2 * 8);
  const uint32_t x_offset = keep(share.base + g * kLinePitch + (2 * t ^ g) * 16);
  const uint32_t scale_offset = keep(share.base + multistage_scale(warp_row, 0));
  const uint32_t lane4 = lane * 4;

  MultistageSums<ColTiles> sums = {};
  const MultistageStep first = share.first_step();
  // From here on what changes from step to step is in the warp's own registers: uniform ones take longer to work out.
  const auto kept = [](int value) { return static_cast<int>(keep(value)); };
  int steps = kept(share.steps);                           // left
  int left = kept(min(plan.stages - first.stage, steps));  // of the CTA's part of the tile
  int tile = first.tile;
  RingPlace place, x_place;
  place.slot = kept(0);
  x_place.slot = kept(share.team);
  int own = kept(share.team);  // the team's next block, counted from the step's first
  int scale_slot = kept(0);
  uint32_t codes = code_offset + plan.codes.at(0);
  uint32_t scales = scale_offset + plan.scales.at(0);
#pragma unroll 1
  for (; steps > 0; --steps) {
    // Wait for the stage.
    const uint32_t full = share.stages().full(place.slot);
    barrier_wait(full, place.parity);
    if (own >= kMultistageBlocks && left > 1) barrier_arrive_warp(full + kEmptyBarrier, lane);
#pragma unroll 1
    for (; own < kMultistageBlocks; own += plan.teams) {
      // Load codes and scales.
      MultistageOperand w;
      const uint32_t block_codes = codes ^ own * kPairBlockBytes;
      const uint32_t block_scales = scales + own * static_cast<int>(sizeof(float));
      const uint32_t block_x = x_offset + plan.x.at(x_place.slot);
#pragma unroll
      for (int eighth = 0; eighth < 2 * kMultistageRowTiles; ++eighth) {
        w.codes[eighth / 2][eighth % 2] = load_shared_pair(block_codes + eighth * 8 * kLinePitch);
        w.scales[eighth / 2][eighth % 2] = bits_to_float(load_shared(block_scales + eighth * 2 * kLinePitch));
      }
      // Release the stage.
      if (own + plan.teams >= kMultistageBlocks && left > 1) barrier_arrive_warp(full + kEmptyBarrier, lane);
      // Wait for x, multiply, and release it.
      const uint32_t x_full = share.xs().full(x_place.slot);
      barrier_wait(x_full, x_place.parity);
      multistage_multiply<T, ColTiles>(table, w, block_x, lane4, sums);
      barrier_arrive_warp(x_full + kEmptyBarrier, lane);
      multistage_advance(x_place, plan.x_ring, plan.teams);
    }
    own -= kMultistageBlocks;
    if (--left == 0) {
      // The sums go where the group's codes were, once all teams have read those.
      barrier_sync(1 + share.group, plan.teams * kWarpSize);
      multistage_exchange<ColTiles>(share, place.slot, (tile - share.first_step().tile) & 1, sums);
      barrier_arrive_warp(full + kEmptyBarrier, lane);
      if (share.team == plan.teams - 1) {
        const int begin = max(tile * plan.stages, share.first);
        const int end = min((tile + 1) * plan.stages, share.first + share.steps);
        if (end - begin == plan.stages || multistage_meet<ColTiles>(share, tile, begin, sums))
          multistage_write<T, ColTiles>(share, group, tile, m, sums);
      }
      each_fragment<ColTiles>(sums, [&](int, float(&sum)[4]) { sum[0] = sum[1] = sum[2] = sum[3] = 0.0f; });
      ++tile;
      left = min(plan.stages, steps - 1);
    }
    multistage_advance(place, plan.ring, 1);
    codes = code_offset + plan.codes.at(place.slot);
    // The second stage of two has its scales beside the first one's.
    scales ^= 16;
    if ((share.steps - steps) % 2 == 1) {
      if (++scale_slot == plan.scale_ring) scale_slot = 0;
      scales = scale_offset + plan.scales.at(scale_slot);
    }
  }
}

template <class T, int ColTiles, class Scales>
__global__ void __launch_bounds__(MultistageSizes<ColTiles>::kThreads, 1)
    gemm_pair_multistage(const __grid_constant__ MultistageX<T> x, const __grid_constant__ Group<kMostProducts> group,
                         const __grid_constant__ MultistagePlan plan) {
  if constexpr (kCompiledArchitecture >= kMultistageArchitecture) {
    using Sizes = MultistageSizes<ColTiles>;
    extern __shared__ __align__(1024) uint8_t shared[];
    const MultistageShare share(plan, shared);
    const int consumers = plan.consumers();
    // Behind those of the rings, see handed_on().
    init_stages(plan.ring + plan.x_ring + (consumers + 1) / 2, [&](int i) {
      const bool of_x = i >= plan.ring, link = i >= plan.ring + plan.x_ring;
      const int copies = of_x ? kWarpSize : Sizes::kWeightProducers * kWarpSize;
      const int stores = of_x || Scales::kAsync ? 0 : Sizes::kWeightProducers * kWarpArrivals;
      barrier_init(share.stages().full(i), link ? kWarpArrivals : copies + stores);
      barrier_init(share.stages().empty(i), (link ? 1 : of_x ? plan.groups : consumers) * kWarpArrivals);
    });
    if (!Scales::kAsync) {
      for (int p = 0; p < group.count; ++p) {
        if (group.products[p].weight.absmax.dtype != Dtype::u8) continue;
        for (int i = static_cast<int>(threadIdx.x); i < kMapSize; i += static_cast<int>(blockDim.x))
          store_shared(share.map(p) + i * static_cast<int>(sizeof(float)),
                       float_to_bits(__ldg(group.products[p].weight.absmax.map + i)));
      }
    }
    __syncthreads();
    const int producer = share.warp - consumers;
    if (producer >= Sizes::kWeightProducers) {
      multistage_bring_x<T, Sizes>(share, x, producer - Sizes::kWeightProducers);
    } else if (producer >= 0) {
      multistage_bring_weights<Sizes, Scales>(share, group, producer);
    } else {
      PairTable::fill(shared, plan.codebook, consumers);
      barrier_sync(kMultistageTableBarrier, consumers * kWarpSize);
      multistage_consume<T, ColTiles>(share, shared, x.rows, group);
    }
  }
}

}  // namespace nf4
