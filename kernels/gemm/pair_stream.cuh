// gemm.pair_stream: the fused product on the tensor cores for more rows of x than shared memory holds, 8, 16, 32 or 64
// a pass. Codes and x stream through one ring of stages (a multistage pipeline), which producer warps fill and consumer
// warps multiply (warp specialization); codes are decoded by the pair table. Compute capability 9.0.
//
// Product. As in pair.cuh: W is the A operand of mma.m16n8k16 in its native layout, x is B with K permuted alike
// inside a block of 64, a block's products meet in fresh accumulators that its absmax multiplies in fp32. Here x fills
// the columns: column c of an operand is a row of x, and lane (g, t) needs elements 16t to 16t + 15 of row g of a
// block.
//
// Work. A CTA has one tile, as many rows of one W (see group.hpp) as give each of the clusters that run at once the
// same, for all rows of the pass, and walks along K, 256 columns a stage. A warp has 32 rows of the tile; where they do
// not divide it, the last warp begins earlier, and what it has in common with the one before is that one's. A warp
// keeps the sums of its rows in registers, so an operand B that it has read serves two of A. Teams of `warps` warps
// take the stages in turn, which puts more warps to work where registers allow. The CTAs of a cluster split K
// (split-K). In the end the sums of all teams and CTAs meet in shared memory, and are added up in order (epilogue).
//
// Stage. Codes [rows of the tile][128 bytes], then x [4 blocks][rows of x][64 elements], which is 128 bytes too. Both
// come by tensor copies (TMA): piece c of row r is at place c ^ (r % 8) (swizzle). What is past the ends of W and x is
// zeros. The scales of a stage, 4 floats to a row of W, lie in the holes of the pair table, 8 rows to a hole.
//
//     read       lanes that are served at once   what they read                         places
//     codes      16: 4 rows, all t               8 bytes each of two pieces of a row    as in pair.cuh
//     x          8: rows 2i, 2i + 1, all t       pieces 2t of both, then 2t + 1         even ones, odd ones
//     a scale    32: 8 rows, all t the same      4 bytes                                4 apart
//
// so nothing meets in a bank.
#pragma once

#include <cuda.h>

#include <algorithm>
#include <cstdint>

#include "device/launch.cuh"
#include "device/math.hpp"
#include "device/ptx.cuh"
#include "device/ring.cuh"
#include "device/warp.hpp"
#include "dispatch.hpp"
#include "format/absmax.hpp"
#include "gemm/group.hpp"
#include "gemm/named_barriers.hpp"
#include "gemm/pair_fragment.cuh"
#include "gemm/pair_scales.cuh"
#include "gemm/pair_stream_layout.hpp"
#include "gemm/pair_table.cuh"
#include "gemm/sum_tile.cuh"
#include "gemm/warp_specialized.cuh"

namespace nf4 {

constexpr int kStreamArchitecture = 90;

template <int ColTiles, class S>
struct StreamShape : StreamSizes<ColTiles, S::kAsync> {
  using Scales = S;  // how they are brought
};

struct StreamMaps {
  CUtensorMap codes[kMostProducts];
  CUtensorMap x;
};

// What a CTA has to do, and where it keeps things. What is read and written in a stage has 32-bit addresses.
template <class Shape>
struct StreamShare {
  const StreamPlan& plan;
  uint8_t* shared;
  uint32_t base;  // its address
  int rank;       // in the cluster
  int product;
  int64_t row;  // the tile's first, of the product's W
  int stage_begin, stages;

  __device__ StreamShare(const StreamPlan& the_plan, const GroupTiles<kMostProducts>& tiles, uint8_t* the_shared)
      : plan(the_plan), shared(the_shared) {
    base = keep(shared_address(shared));
    rank = static_cast<int>(blockIdx.x) % plan.cluster;
    const int tile = static_cast<int>(blockIdx.x) / plan.cluster;
    product = tiles.product(tile);
    row = int64_t{tiles.in_product(tile, product)} * plan.rows;
    stage_begin = plan.stages.begin(rank);
    stages = plan.stages.begin(rank + 1) - stage_begin;
  }

  __device__ int consumers() const { return plan.warps * plan.teams; }
  __device__ int block(int stage) const { return (stage_begin + stage) * kStreamBlocks; }
  __device__ uint32_t full(int turn) const { return base + plan.barriers + turn * 8; }
  __device__ uint32_t empty(int turn) const { return full(plan.turns + turn); }
  __device__ int codes_bytes() const { return plan.rows * kPairBoxBytes; }
  __device__ int scales_bytes() const {
    return plan.rows / kStreamHoleRows * PairTable::kEntryBytes;
  }  // with what is between
  __device__ uint32_t codes(int slot) const {
    return base + PairTable::kBytes + slot * (codes_bytes() + Shape::kXBytes);
  }
  __device__ uint32_t x(int slot) const { return codes(slot) + codes_bytes(); }
  __device__ uint32_t scales(int slot, int tile_row) const {
    return base + slot * scales_bytes() + tile_row / kStreamHoleRows * PairTable::kEntryBytes + PairTable::kUsedBytes +
           tile_row % kStreamHoleRows * (kStreamBlocks * 4);
  }
  __device__ uint32_t map() const { return base + plan.map; }
  // The sums of a team's tile, where the ring was.
  __device__ float* sums(int team) const {
    return reinterpret_cast<float*>(shared + PairTable::kBytes) + team * Shape::kCols * sum_pitch(plan.rows);
  }
};

// Fills the ring, as one of Shape::kProducers warps. In a group codes are copied by the first one, x by the last,
// scales by all. Scales that are not copied are read a stage of the group ahead. The weight is a copy: by reference it
// would be read from the launch's parameters at every use.
template <class Shape>
__device__ void stream_produce(const StreamShare<Shape>& share, const Weight weight, const CUtensorMap& codes_map,
                               const CUtensorMap& x_map, int producer) {
  using Scales = typename Shape::Scales;
  const StreamPlan& plan = share.plan;
  constexpr int kGroups = Shape::kGroups;
  constexpr int kStep = Shape::kGroupWarps * kWarpSize;
  constexpr int kStepBytes = kStep / kStreamHoleRows * PairTable::kEntryBytes;  // between their scales
  // Rows of the tile that a lane brings scales of, kStep apart.
  constexpr int kLaneRows = static_cast<int>(ceil_div(Shape::kMostConsumers * kStreamRows, kStep));
  const int lane = static_cast<int>(keep(threadIdx.x % kWarpSize));
  const int group = producer / Shape::kGroupWarps;
  const int member = producer % Shape::kGroupWarps;
  const bool copies_codes = member == 0 && lane == 0;
  const bool copies_x = member == Shape::kGroupWarps - 1 && lane == 0;
  const int first_row = member * kWarpSize + lane;
  const int rows = static_cast<int>(min(int64_t{plan.rows}, weight.rows - share.row)) - first_row;
  const int row_blocks = static_cast<int>(weight.cols / kPairBlock);
  const int first_block = (static_cast<int>(share.row) + first_row) * row_blocks + share.block(0);  // in W
  const uint32_t first_scales = share.scales(0, first_row);
  const auto each_row = [&](const auto& f) {
#pragma unroll
    for (int i = 0; i < kLaneRows; ++i) {
      if (i * kStep >= rows) break;
      f(i);
    }
  };

  Scales scales[kLaneRows];  // of the next stage, unless they are copied
  float offset = 0.0f;
  const auto read_scales = [&](int stage) {
    int block = first_block + stage * kStreamBlocks;
    const int inside = row_blocks - share.block(stage);
    Scales::dispatch(plan.quads, weight, [&](auto format) {
      each_row([&](int i) {
        scales[i].read(format, weight, block, inside);
        block += kStep * row_blocks;
      });
    });
  };
  const auto store_scales = [&](int stage, int slot) {
    int block = first_block + stage * kStreamBlocks;
    const int inside = row_blocks - share.block(stage);
    const uint32_t to = first_scales + slot * share.scales_bytes();
    Scales::dispatch(plan.quads, weight, [&](auto format) {
      each_row([&](int i) {
        if constexpr (Scales::kAsync) {
          Scales::copy(format, weight, block, inside, to + i * kStepBytes);
        } else {
          scales[i].store(format, weight, share.map(), offset, to + i * kStepBytes);
        }
        block += kStep * row_blocks;
      });
    });
  };
  const auto bring_codes = [&](int stage, int slot, uint32_t full) {
    if (!copies_codes) return;
    barrier_expect(full, share.codes_bytes());
#pragma unroll 1
    for (int row = 0; row < plan.rows; row += plan.box_rows)
      copy_tensor(share.codes(slot) + row * kPairBoxBytes, &codes_map, share.block(stage) * kPairBlockBytes,
                  static_cast<int>(share.row) + row, full);
  };
  const auto bring_x = [&](int stage, int slot, uint32_t full) {
    if (!copies_x) return;
    barrier_expect(full, Shape::kXBytes);
#pragma unroll
    for (int b = 0; b < kStreamBlocks; ++b)
      copy_tensor(share.x(slot) + b * Shape::kXBlockBytes, &x_map, (share.block(stage) + b) * kPairBlock, 0, full);
  };

  // Constant weights: as many stages of them as the ring holds come before any x.
  if (!plan.constant_weights) wait_for_dependencies();
  const int early = plan.constant_weights ? min(plan.ring, share.stages) : 0;  // stages
  if (!Scales::kAsync && weight.absmax.dtype == Dtype::u8) {
    for (int i = producer * kWarpSize + lane; i < kMapSize; i += Shape::kProducers * kWarpSize)
      store_shared(share.map() + i * 4, float_to_bits(__ldg(weight.absmax.map + i)));
    offset = __ldg(weight.absmax.offset);
    barrier_sync(kProducersBarrier, Shape::kProducers * kWarpSize);
  }
  if (!Scales::kAsync && group < share.stages) read_scales(group);
  for (int stage = group; stage < early; stage += kGroups) {
    const uint32_t full = share.full(stage);
    bring_codes(stage, stage, full);
    if (Scales::kAsync) {
      store_scales(stage, stage);
      barrier_arrive_copies(full);
    }
  }
  // PDL (griddepcontrol): wait for the kernels before, and let the next one start.
  wait_for_dependencies();
  launch_dependents();

  // Main loop.
  RingPlace place, turn;
  place.advance(plan.ring, group);
  turn.advance(plan.turns, group);
  for (int stage = group; stage < share.stages; stage += kGroups) {
    const uint32_t full = share.full(turn.slot);
    // Wait until the place is empty, and issue the TMA of codes.
    if (stage >= early) {
      const RingPlace before = turn_before(turn, plan.ring, plan.turns);
      barrier_wait(share.empty(before.slot), before.parity);
      bring_codes(stage, place.slot, full);
    }
    // Issue the TMA of x, and store or copy the scales.
    bring_x(stage, place.slot, full);
    if (stage >= early || !Scales::kAsync) store_scales(stage, place.slot);
    if (stage >= early && Scales::kAsync) barrier_arrive_copies(full);
    // Arrive: the stage is full once its copies have come.
    barrier_arrive_warp(full, lane);
    // Read the scales of the group's next stage.
    if (!Scales::kAsync && stage + kGroups < share.stages) read_scales(stage + kGroups);
    place.advance(plan.ring, kGroups);
    turn.advance(plan.turns, kGroups);
  }
}

// Multiplies the stages of the warp's team by the warp's rows, and leaves the sums in shared memory.
template <class T, class Shape>
__device__ void stream_consume(const StreamShare<Shape>& share) {
  const StreamPlan& plan = share.plan;
  const int lane = static_cast<int>(keep(threadIdx.x % kWarpSize));
  const int warp = uniform(threadIdx.x / kWarpSize);
  const int team = warp / plan.warps;
  const int own_row = warp % plan.warps * kStreamRows;
  const int warp_row = min(own_row, plan.rows - kStreamRows);
  const int g = lane / 4;
  const int t = lane % 4;
  const int g_row = operand_row(g);
  const PairTable::Lane table(share.shared);
  // Of the first block: the next are 2 pieces further on, before pieces are exchanged.
  const int code_offset = (warp_row + g_row) * kPairBoxBytes + (t / 2 ^ g_row) * 16 + t % 2 * 8;
  const int x_offset = g * kPairBoxBytes + (2 * t ^ g) * 16;  // of the first piece; the second is its neighbour

  float sums[2][Shape::kColTiles][4] = {};  // row g_row in [0] and [1], g_row + 8 in [2] and [3]
  RingPlace place, turn;
  place.advance(plan.ring, team);
  turn.advance(plan.turns, team);
  for (int stage = team; stage < share.stages; stage += plan.teams) {
    // Wait for the stage.
    barrier_wait(share.full(turn.slot), turn.parity);
    const uint32_t codes = share.codes(place.slot) + code_offset;
    uint32_t x = share.x(place.slot) + x_offset;
    uint32_t scales = share.scales(place.slot, warp_row) + g_row * (kStreamBlocks * 4);
#pragma unroll 1
    for (int block = 0; block < kStreamBlocks; ++block) {
      // Load codes and scales of a block.
      const uint32_t block_codes = codes ^ block * kPairBlockBytes;
      uint32_t words[2][2][2];  // of codes: tile, row g_row or g_row + 8, half of the block
      float tile_scales[2][2];
#pragma unroll
      for (int tile = 0; tile < 2; ++tile) {
#pragma unroll
        for (int lower = 0; lower < 2; ++lower) {
          const int eighth = tile * 2 + lower;  // of 8 rows
          const uint2 pair = load_shared_pair(block_codes + eighth * 8 * kPairBoxBytes);
          words[tile][lower][0] = pair.x;
          words[tile][lower][1] = pair.y;
          tile_scales[tile][lower] = bits_to_float(load_shared(scales + eighth * PairTable::kEntryBytes));
        }
      }
      float dots[2][Shape::kColTiles][4] = {};
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        // Load operand B, look up operand A in the pair table, and multiply (mma).
        uint4 b[Shape::kColTiles];
#pragma unroll
        for (int c = 0; c < Shape::kColTiles; ++c) b[c] = load_shared_quad((x ^ half * 16) + c * 8 * kPairBoxBytes);
        const auto step = [&](auto byte) {
          constexpr int kByte = decltype(byte)::value;
          uint32_t a[2][4];
#pragma unroll
          for (int tile = 0; tile < 2; ++tile) {
            const uint32_t upper = words[tile][0][half];
            const uint32_t lower = words[tile][1][half];
            a[tile][0] = table.look_up<kByte>(upper);
            a[tile][1] = table.look_up<kByte>(lower);
            a[tile][2] = table.look_up<kByte + 1>(upper);
            a[tile][3] = table.look_up<kByte + 1>(lower);
          }
#pragma unroll
          for (int c = 0; c < Shape::kColTiles; ++c) {
            const uint32_t b0 = kByte == 0 ? b[c].x : b[c].z;
            const uint32_t b1 = kByte == 0 ? b[c].y : b[c].w;
#pragma unroll
            for (int tile = 0; tile < 2; ++tile) mma<T>(dots[tile][c], a[tile], b0, b1);
          }
        };
        step(Constant<0>{});
        step(Constant<2>{});
      }
      // Apply the scale of the block to its products.
#pragma unroll
      for (int tile = 0; tile < 2; ++tile) {
#pragma unroll
        for (int c = 0; c < Shape::kColTiles; ++c) {
#pragma unroll
          for (int e = 0; e < 4; ++e)
            sums[tile][c][e] = fmaf(dots[tile][c][e], tile_scales[tile][e / 2], sums[tile][c][e]);
        }
      }
      x += Shape::kXBlockBytes;
      scales += sizeof(float);
    }
    // Release the stage.
    barrier_arrive_warp(share.empty(turn.slot), lane);
    place.advance(plan.ring, plan.teams);
    turn.advance(plan.turns, plan.teams);
  }

  // Store the sums where the ring was.
  consumed(static_cast<int>(blockDim.x));
  float* const to = share.sums(team) + warp_row + g_row;
#pragma unroll
  for (int tile = 0; tile < 2; ++tile) {
#pragma unroll
    for (int c = 0; c < Shape::kColTiles; ++c) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int row = tile * 16 + e / 2 * 8;
        if (warp_row + row >= own_row) to[(c * 8 + 2 * t + e % 2) * sum_pitch(plan.rows) + row] = sums[tile][c][e];
      }
    }
  }
}

// Adds up the sums of all teams of the cluster, and writes y.
template <class T, class Shape>
__device__ void stream_finish(const StreamShare<Shape>& share, const GroupProduct& product, int m) {
  const StreamPlan& plan = share.plan;
  const int pitch = sum_pitch(plan.rows);
  const Partials partials{share.sums(0), pitch,      Shape::kCols * pitch, plan.teams,
                          plan.cluster,  share.rank, kCodebookInverse<T>};
  write_tile(partials, static_cast<T*>(product.y), product.ldy, share.row, plan.rows, product.weight.rows, m,
             static_cast<const T*>(product.bias));
}

template <class T, class Shape>
__global__ void __launch_bounds__(Shape::kThreads, 1)
    gemm_pair_stream(int m,  // 1 to Shape::kCols
                     const __grid_constant__ Group<kMostProducts> group, const __grid_constant__ StreamPlan plan,
                     const __grid_constant__ StreamMaps maps) {
  if constexpr (kCompiledArchitecture >= kStreamArchitecture) {
    extern __shared__ __align__(1024) uint8_t shared[];
    const StreamShare<Shape> share(plan, group.tiles, shared);
    const GroupProduct& product = group.products[share.product];
    const int warp = uniform(threadIdx.x / kWarpSize);

    const auto init = [&] {
      init_stages(2 * plan.turns, [&](int barrier) {
        const int fill = Shape::kGroupWarps * (kWarpArrivals + (Shape::Scales::kAsync ? kWarpSize : 0));
        barrier_init(share.full(barrier), barrier < plan.turns ? fill : plan.warps * kWarpArrivals);
      });
    };
    const auto produce = [&] {
      stream_produce(share, product.weight, maps.codes[share.product], maps.x, warp - share.consumers());
    };
    const auto prepare = [&] { PairTable::fill(shared, plan.codebook, share.consumers()); };
    const auto consume = [&] { stream_consume<T>(share); };
    const auto finish = [&] { stream_finish<T>(share, product, m); };
    warp_specialized<RegisterSplit<0, 0>>(warp >= share.consumers(), static_cast<int>(blockDim.x), plan.cluster, init,
                                          produce, prepare, consume, finish);
  }
}

}  // namespace nf4
