// gemm.scaled_mma: the fused product for many rows of x, 64 or 128 in one pass over W, on the tensor cores, by the
// means of compute capability 8.0. Weights are decoded by the pair table and scaled in registers, x streams through
// shared memory.
//
// Product. W is the A operand of mma.m16n8k16 in its native layout, x is B with K permuted alike inside a block of 64:
// lane (g, t) needs elements 16t to 16t + 15 of a row of W in a block, and of row g of 8 rows of x. A pair of codebook
// values comes from the table in f16, is multiplied by its block's absmax in fp32, and rounded once to x's type. So all
// products of a row add up in one set of accumulators. A warp has 32 rows of W by all rows of x, and goes through a
// block in two halves, 8 elements of each lane: while it multiplies one, it decodes the next.
//
// Work. A tile is 32 rows of W for each of `groups` warps, by so many rows of x as are multiplied at a time. A step is
// a stage of a tile, 256 columns, the last of a row perhaps fewer. CTAs have steps alike, or whole tiles; a tile that
// several have a part of is added up by whoever comes last, in order, from the workspace (see pair_multistage.cuh).
//
// What streams. Codes and scales are for one warp alone, so it reads its own from global memory: codes a block ahead, 8
// bytes of a row a lane; scales a stage ahead, those of a row a lane, which hands them to the others of its four. x is
// for all warps, and comes by cp.async through a ring of blocks, which the warps fill in turn.
//
// Rows of W. Row 4g + e of a warp's is row g of the e-th 8 rows of its operands A: so a lane writes 4 rows of y
// together.
//
//     in shared memory   lines (128 bytes)            16-byte pieces
//     x                  a row of x, 64 columns       piece c of row r at place c ^ (r % 8)
//
//     read       lanes that are served at once   what they read                         places
//     x          8: rows 2i, 2i + 1, all t       pieces 2t of both, then 2t + 1         even ones, odd ones
//
// so nothing meets in a bank.
#pragma once

#include <climits>
#include <cstdint>

#include "device/launch.cuh"
#include "device/ptx.cuh"
#include "device/ring.cuh"
#include "device/warp.hpp"
#include "format/number.hpp"
#include "gemm/cp_async_lines.cuh"
#include "gemm/group.hpp"
#include "gemm/hole_lines.hpp"
#include "gemm/pair_multistage.cuh"
#include "gemm/pair_table.cuh"
#include "gemm/row_scales.cuh"
#include "gemm/scale_pair.cuh"
#include "gemm/scaled_mma_layout.hpp"

namespace nf4 {

constexpr int kScaledMmaEighths = 2 * kMultistageRowTiles;  // 8 rows of W each, of a warp

// The tiles of a launch.
struct ScaledMmaTiles {
  const Group<kMostProducts>& group;
  const ScaledMmaPlan& plan;

  // What of W a tile has.
  struct Rows {
    int product;
    int first;  // row
    int count;
  };
  __device__ Rows rows(int tile) const {
    const int row_tile = tile / anew(plan.col_tiles);
    const int product = group.tiles.product(row_tile);
    const int first = group.tiles.in_product(row_tile, product) * plan.rows;
    return {product, first, static_cast<int>(min(int64_t{plan.rows}, group.products[product].weight.rows - first))};
  }
  __device__ int col(int tile, int cols) const { return tile % anew(plan.col_tiles) * cols; }
};

// The blocks that a CTA has of a tile, from `begin` on; none of those after its last tile.
struct ScaledMmaBlocks {
  int begin, end;

  __device__ ScaledMmaBlocks(const MultistageShare& share, int tile) {
    const MultistagePlan& plan = share.plan;
    begin = max(share.first - tile * plan.stages, 0) * kMultistageBlocks;
    end = min(min(share.first + share.steps - tile * plan.stages, plan.stages) * kMultistageBlocks, plan.blocks);
  }
  __device__ int count() const { return end - begin; }
};

// Fills the ring of x: the warps bring blocks in turn, one each.
//
// Each waits until the place is empty. Whoever does has read the block that was there before, so it cannot take a phase
// of the barrier for the last but one (see ring.hpp).
template <class T, class Sizes>
class ScaledMmaX {
 public:
  __device__ ScaledMmaX(const MultistageShare& share, const ScaledMmaTiles& tiles, const MultistageX<T>& x)
      : share_(share), tiles_(tiles), x_(x), next_(share.group), until_(share.group - ahead()) {
    while (until_ < 0) bring();
  }

  // Before a block is multiplied.
  __device__ __forceinline__ void next() {
    if (until_-- == 0) bring();
  }

 private:
  // Blocks that are under way while one is multiplied. Two blocks are of those that are multiplied: one by the fastest
  // warp, and one by the slowest.
  __device__ int ahead() const { return max(share_.plan.x_ring - 2, 1); }

  // All but two numbers are worked out anew: a warp's turn is rare, and registers are few.
  __device__ void bring() {
    const ScaledMmaPlan& plan = tiles_.plan;
    int tile = anew(share_.first) / plan.stages, block = next_;
    ScaledMmaBlocks blocks(share_, tile);
    if (block >= blocks.count()) {  // of the tiles after the first all blocks are the CTA's, but for the last one's
      block -= blocks.count();
      const int row = anew(plan.blocks);
      tile += 1 + block / row;
      block %= row;
      blocks = ScaledMmaBlocks(share_, tile);
      if (block >= blocks.count()) {
        until_ = INT_MAX;
        return;
      }
    }
    const int lane = anew(share_.lane), line = lane / kLinePieces;
    const int col = tiles_.col(tile, Sizes::kCols);
    const int64_t pitch = x_.ld * static_cast<int>(sizeof(T));
    const auto* const from = reinterpret_cast<const uint8_t*>(x_.values) + (col + line) * pitch +
                             int64_t{blocks.begin + block} * kPairBlockXBytes + lane % kLinePieces * 16;
    const int ring = anew(plan.x_ring), slot = next_ % ring;
    barrier_wait(share_.xs().empty(slot), (next_ / ring & 1) ^ 1);
    copy_lines<2 * Sizes::kColTiles>(share_.base + line_place(lane) + plan.x.at(slot), from, kCopyLines * pitch,
                                     x_.rows - col - line);
    barrier_arrive_copies(share_.xs().full(slot));
    next_ += plan.groups;
    until_ += plan.groups;
  }

  const MultistageShare& share_;
  const ScaledMmaTiles& tiles_;
  const MultistageX<T>& x_;
  int next_;   // block of the CTA's, that this warp brings
  int until_;  // blocks are multiplied before
};

// Reads the codes of a warp, block after block of all that the CTA has.
class ScaledMmaCodes {
 public:
  __device__ ScaledMmaCodes(const MultistageShare& share, const ScaledMmaTiles& tiles)
      : share_(share), tiles_(tiles), tile_(share.first_step().tile - 1), left_(0) {}

  // Of each eighth of the warp's rows the 8 bytes of the lane. Past the end what was there last.
  __device__ __forceinline__ void read(uint2 (&codes)[kScaledMmaEighths]) {
    if (left_ == 0) enter();
#pragma unroll
    for (int e = 0; e < kScaledMmaEighths; ++e) {
      codes[e] = stream_global_pair(e == 0 ? row_ : row_ + further_[e - 1]);
    }
    row_ += kPairBlockBytes;
    --left_;
  }

 private:
  __device__ __forceinline__ void enter() {
    const ScaledMmaBlocks blocks(share_, tile_ + 1);
    left_ = blocks.count();
    if (left_ <= 0) {
      left_ = 1;
      row_ -= kPairBlockBytes;
      return;
    }
    const ScaledMmaTiles::Rows rows = tiles_.rows(++tile_);
    const Weight& weight = tiles_.group.products[rows.product].weight;
    const int row_bytes = static_cast<int>(weight.cols / 2);
    const int lane = anew(share_.lane);
    const int row = min(anew(share_.group) * kMultistageWarpRows + lane / 4 * kScaledMmaEighths, rows.count - 1);
    row_ = weight.codes + (int64_t{rows.first} + row) * row_bytes + blocks.begin * kPairBlockBytes + lane % 4 * 8;
#pragma unroll
    for (int e = 1; e < kScaledMmaEighths; ++e) further_[e - 1] = min(e, rows.count - 1 - row) * row_bytes;
  }

  const MultistageShare& share_;
  const ScaledMmaTiles& tiles_;
  int tile_;
  int left_;                                 // blocks of the tile
  const uint8_t* row_;                       // the lane's 8 bytes in the first of its rows,
  uint32_t further_[kScaledMmaEighths - 1];  // and so many bytes further on in the others
};

// Reads the scales of a warp's rows, block after block of all that the CTA has, and brings codes to the L2 cache.
class ScaledMmaScales {
 public:
  __device__ ScaledMmaScales(const MultistageShare& share, const ScaledMmaTiles& tiles)
      : share_(share), tiles_(tiles), at_(share.first_step()), steps_(share.steps), left_(0) {
    read_stage();
  }

  // What the values of the pair table are multiplied by. Past the end what was there last.
  __device__ __forceinline__ void read(float (&scales)[kScaledMmaEighths]) {
    if (left_ == 0) next_stage();
#pragma unroll
    for (int e = 0; e < kScaledMmaEighths; ++e)
      scales[e] = __shfl_sync(~0u, of_row_[0], static_cast<int>(threadIdx.x % kWarpSize & ~3u) + e);
#pragma unroll
    for (int i = 0; i < kMultistageBlocks - 1; ++i) of_row_[i] = of_row_[i + 1];
    --left_;
  }

 private:
  // Calls f(weight, product, row, block, inside) for the lane's row of the next stage: block is the stage's first,
  // counted from the beginning of W, and the row has so many from there on.
  template <class F>
  __device__ __forceinline__ void with_row(const F& f) {
    const ScaledMmaTiles::Rows rows = tiles_.rows(at_.tile);
    const int row = rows.first + min(anew(share_.group) * kMultistageWarpRows + anew(share_.lane), rows.count - 1);
    const int block = at_.stage * kMultistageBlocks;
    f(tiles_.group.products[rows.product].weight, rows.product, row, row * share_.plan.blocks + block,
      share_.plan.blocks - block);
  }
  // Reads the scales of the next stage, and begins to bring its codes.
  __device__ __forceinline__ void read_stage() {
    if (steps_ == 0) return;
    with_row([&](const Weight& weight, int, int row, int block, int inside) {
      prefetch_l2(weight.codes + row * (weight.cols / 2) + at_.stage * kPairBoxBytes);
      ahead_.read(share_.plan.quads, weight, block, inside);
    });
  }
  __device__ __forceinline__ void next_stage() {
    left_ = kMultistageBlocks;
    if (steps_ == 0) return;
    with_row([&](const Weight& weight, int product, int, int block, int inside) {
      ahead_.decode(share_.plan.quads, weight, block, inside, share_.map(product), of_row_);
      left_ = min(kMultistageBlocks, inside);
    });
#pragma unroll
    for (int i = 0; i < kMultistageBlocks; ++i) of_row_[i] *= 1.0f / kScaledTableFactor;
    at_.advance(share_.plan.stages);
    --steps_;
    read_stage();
  }

  const MultistageShare& share_;
  const ScaledMmaTiles& tiles_;
  MultistageStep at_;  // that is read
  int steps_;          // from there on
  int left_;           // blocks of the stage under way
  RowScales ahead_;
  float of_row_[kMultistageBlocks];  // of the blocks to come, for row `lane` of the warp's
};

// The operands A of half a block, 8 elements of each lane.
using ScaledMmaOperand = uint32_t[kMultistageRowTiles][2][4];

// Decodes and scales element `i` of 16 of them.
template <class T>
__device__ __forceinline__ void scaled_mma_decode(const uint8_t* table, uint32_t lane4,
                                                  const uint32_t (&words)[kScaledMmaEighths],
                                                  const float (&scales)[kScaledMmaEighths], int i,
                                                  ScaledMmaOperand& a) {
  const int tile = i / 8, step = i / 4 % 2, r = i % 4;
  const int eighth = 2 * tile + r % 2;
  a[tile][step][r] = scale_pair<T>(PairTable::look_up(table, words[eighth], lane4, 2 * step + r / 2), scales[eighth]);
}

// Multiplies half a block by x at `x`, the lane's address in the block of x, and decodes what comes next meanwhile.
template <class T, int ColTiles>
__device__ __forceinline__ void scaled_mma_multiply(const ScaledMmaOperand& a, uint32_t x,
                                                    MultistageSums<ColTiles>& sums, const uint8_t* table,
                                                    uint32_t lane4, const uint32_t (&words)[kScaledMmaEighths],
                                                    const float (&scales)[kScaledMmaEighths], ScaledMmaOperand& next) {
  constexpr int kElements = 8 * kMultistageRowTiles;
  uint4 quads[2];
  quads[0] = load_shared_quad(x);
#pragma unroll
  for (int c = 0; c < ColTiles; ++c) {
    if (c + 1 < ColTiles) quads[(c + 1) % 2] = load_shared_quad(x + (c + 1) * (8 * kLinePitch));
    const uint4 quad = quads[c % 2];
    const uint32_t b[4] = {quad.x, quad.y, quad.z, quad.w};
#pragma unroll
    for (int step = 0; step < 2; ++step) {
#pragma unroll
      for (int tile = 0; tile < kMultistageRowTiles; ++tile)
        mma<T>(sums[tile][c], a[tile][step], b[2 * step], b[2 * step + 1]);
    }
#pragma unroll
    for (int i = c * kElements / ColTiles; i < (c + 1) * kElements / ColTiles; ++i)
      scaled_mma_decode<T>(table, lane4, words, scales, i, next);
  }
}

// Writes y.
template <class T, int ColTiles>
__device__ __forceinline__ void scaled_mma_write(const MultistageShare& share, const ScaledMmaTiles& tiles, int tile,
                                                 int m, MultistageSums<ColTiles>& sums) {
  const ScaledMmaTiles::Rows rows = tiles.rows(tile);
  const GroupProduct& to = tiles.group.products[rows.product];
  const auto* const bias = static_cast<const T*>(to.bias);
  const int in_tile = share.group * kMultistageWarpRows + share.lane / 4 * kScaledMmaEighths;
  const int count = rows.count - in_tile;  // of rows from the lane's first on
  if (count <= 0) return;
  const int64_t row = int64_t{rows.first} + in_tile;
  float add[kScaledMmaEighths];
#pragma unroll
  for (int e = 0; e < kScaledMmaEighths; ++e) add[e] = bias != nullptr && e < count ? to_float(bias[row + e]) : 0.0f;
  const int first_col = tiles.col(tile, 8 * ColTiles) + share.lane % 4 * 2;
  T* y = static_cast<T*>(to.y) + first_col * to.ldy + row;
  const bool together = count >= kScaledMmaEighths && reinterpret_cast<uintptr_t>(y) % 8 == 0 && to.ldy % 4 == 0;
#pragma unroll
  for (int c = 0; c < ColTiles; ++c) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (first_col + c * 8 + i < m) {
        T* const at = y + (c * 8 + i) * to.ldy;
        uint32_t bits[kScaledMmaEighths];
#pragma unroll
        for (int e = 0; e < kScaledMmaEighths; ++e) {
          float total = sums[e / 2][c][e % 2 * 2 + i];
          if (bias != nullptr) total += add[e];
          bits[e] = from_float<T>(total).bits;
        }
        if (together) {
          *reinterpret_cast<uint2*>(at) = make_uint2(bits[0] | bits[1] << 16, bits[2] | bits[3] << 16);
        } else {
#pragma unroll
          for (int e = 0; e < kScaledMmaEighths; ++e) {
            if (e < count) at[e] = T{static_cast<uint16_t>(bits[e])};
          }
        }
      }
    }
  }
}

// Multiplies the rows of a warp.
template <class T, int ColTiles>
__device__ __forceinline__ void scaled_mma_multiply_all(const MultistageShare& share, const ScaledMmaTiles& tiles,
                                                        const uint8_t* table, const MultistageX<T>& of_x) {
  const ScaledMmaPlan& plan = tiles.plan;
  const int lane = share.lane;
  const unsigned g = lane / 4, t = lane % 4;
  const uint32_t x_offset = keep(share.base + g * kLinePitch + (2 * t ^ g) * 16);
  const uint32_t lane4 = lane * 4;

  ScaledMmaX<T, ScaledMmaSizes<ColTiles>> xs(share, tiles, of_x);
  ScaledMmaCodes codes(share, tiles);
  ScaledMmaScales scales(share, tiles);
  uint2 word[kScaledMmaEighths];  // of the block that comes next, then of the one that is decoded
  uint32_t first[kScaledMmaEighths], second[kScaledMmaEighths];
  float scale[kScaledMmaEighths];
  const auto next_block = [&] {
#pragma unroll
    for (int e = 0; e < kScaledMmaEighths; ++e) {
      first[e] = word[e].x;
      second[e] = word[e].y;
    }
    scales.read(scale);
  };
  ScaledMmaOperand a, b;  // of the first and the second half of a block
  codes.read(word);
  next_block();
#pragma unroll
  for (int i = 0; i < 8 * kMultistageRowTiles; ++i) scaled_mma_decode<T>(table, lane4, first, scale, i, a);
  codes.read(word);

  MultistageSums<ColTiles> sums = {};
  RingPlace place;
#pragma unroll 1
  for (int tile = share.first_step().tile;; ++tile) {
    int left = ScaledMmaBlocks(share, tile).count();
    if (left <= 0) break;
#pragma unroll 1
    for (; left > 0; --left) {
      xs.next();
      const uint32_t full = share.xs().full(place.slot);
      const uint32_t x = x_offset + plan.x.at(place.slot);
      barrier_wait(full, place.parity);
      scaled_mma_multiply<T, ColTiles>(a, x, sums, table, lane4, second, scale, b);
      next_block();
      scaled_mma_multiply<T, ColTiles>(b, x ^ 16, sums, table, lane4, first, scale, a);
      barrier_arrive_warp(full + kEmptyBarrier, lane);
      codes.read(word);
      multistage_advance(place, plan.x_ring, 1);
    }
    MultistageShare own = share;
    own.lane = anew(share.lane);
    own.group = anew(share.group);
    own.cta = anew(share.cta);
    const int begin = max(tile * plan.stages, own.first);
    const int end = min((tile + 1) * plan.stages, own.first + own.steps);
    if (end - begin == plan.stages || multistage_meet<ColTiles>(own, tile, begin, sums))
      scaled_mma_write<T, ColTiles>(own, tiles, tile, of_x.rows, sums);
    each_fragment<ColTiles>(sums, [&](int, float(&sum)[4]) { sum[0] = sum[1] = sum[2] = sum[3] = 0.0f; });
  }
}

template <class T, int ColTiles>
__global__ void __launch_bounds__(ScaledMmaSizes<ColTiles>::kThreads, 1)
    gemm_scaled_mma(const __grid_constant__ MultistageX<T> x, const __grid_constant__ Group<kMostProducts> group,
                    const __grid_constant__ ScaledMmaPlan plan) {
  if constexpr (kCompiledArchitecture >= kMultistageArchitecture) {
    using Sizes = ScaledMmaSizes<ColTiles>;
    extern __shared__ __align__(1024) uint8_t shared[];
    const MultistageShare share(plan, shared);
    const ScaledMmaTiles tiles{group, plan};
    init_stages(plan.x_ring, [&](int i) {
      barrier_init(share.xs().full(i), kWarpSize);
      barrier_init(share.xs().empty(i), plan.groups * kWarpArrivals);
    });
    for (int p = 0; p < group.count; ++p) {
      if (group.products[p].weight.absmax.dtype != Dtype::u8) continue;
      for (int i = static_cast<int>(threadIdx.x); i < kMapSize; i += static_cast<int>(blockDim.x))
        store_shared(share.map(p) + i * static_cast<int>(sizeof(float)),
                     float_to_bits(__ldg(group.products[p].weight.absmax.map + i)));
    }
    PairTable::fill(shared, plan.codebook, plan.groups);
    __syncthreads();
    scaled_mma_multiply_all<T, ColTiles>(share, tiles, shared, x);
    wait_all_copies();
  }
}

}  // namespace nf4
