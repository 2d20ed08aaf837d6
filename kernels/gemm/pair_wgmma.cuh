// gemm.pair_wgmma: the fused product on the warpgroup's tensor core instructions, for passes of up to 64 rows of x.
// Codes and x stream through one ring of stages (a multistage pipeline), which producer warps fill and consumer
// warpgroups multiply (warp specialization); codes are decoded by the pair table. Compute capability 9.0a.
//
// Product. W is the A operand of wgmma.m64nNk16, from registers, x is B, from shared memory. K may be permuted freely
// inside a run of 32 columns if x is permuted alike, so the native layout of W serves: of 32 columns (16 bytes) of a
// row, lane t of a quad takes the 8 weights in bytes 4t to 4t + 3, one word. Step j = 0, 1 of the two that cover them
// takes bytes 2j and 2j + 1 of the word:
//
//     A register   row    byte of the 16    k of the step      columns of the 32
//     a0           g      4t + 2j           2t, 2t + 1         8t + 4j, + 1
//     a1           g + 8  4t + 2j           2t, 2t + 1         8t + 4j, + 1
//     a2           g      4t + 2j + 1       2t + 8, 2t + 9     8t + 4j + 2, + 3
//     a3           g + 8  4t + 2j + 1       2t + 8, 2t + 9     8t + 4j + 2, + 3      (g = lane / 4, t = lane % 4)
//
// All products of a block of the format (64 columns, or 32 where the blocksize is 32) meet in fresh accumulators, which
// its absmax multiplies in fp32. Larger blocks of the format are treated as several of 64. While the tensor cores work
// on one block, its warpgroup looks up the next.
//
// Work. A CTA has `tiles` times 64 rows of W for all rows of the pass, and walks along K, 128 columns a stage. A
// warpgroup keeps the sums of its 1 or 2 tiles in registers. Teams of warpgroups take pairs of stages in turn, which
// puts more warps to work where tiles are few. The CTAs of a cluster split K (split-K). In the end the sums of all
// teams and CTAs meet in shared memory, and are added up in order (epilogue).
//
// Stage. Codes [rows of the tile][64 bytes] by tensor copies (TMA), swizzled: piece c (16 bytes) of row r is at place c
// ^ (r / 2 % 4), so that the 8 rows of which a warp reads one piece lie in different banks. Then x [2 blocks][rows of
// x][64 elements], each row 128 bytes as wgmma wants it: piece c of row r at place c ^ (r % 8). Producer warps bring x
// by registers, since it has to be permuted. Of 32 columns of a row of x, four lanes hold 8 each, as 4 words, and word
// p goes to piece p, in which lane t has word t:
//
//     columns       8t + 2p, + 1           pieces of 16 bytes: 2 for each step j of the 32 columns
//     k of step     p / 2:  p % 2 * 8 + 2t, + 1
//
// Scales stay out of shared memory: the lanes of a quad read those of their 2 rows for 256 columns, each a quarter,
// while they work on the 256 before, and hand them round by shuffles. Producers have them brought to the L2 cache when
// the stage is asked for.
#pragma once

#include <cuda.h>

#include <algorithm>
#include <cstdint>

#include "device/launch.cuh"
#include "device/ptx.cuh"
#include "device/ring.cuh"
#include "device/tma.hpp"
#include "device/warp.hpp"
#include "device/wgmma.cuh"
#include "dispatch.hpp"
#include "format/absmax.hpp"
#include "format/number.hpp"
#include "gemm/pair_table.cuh"
#include "gemm/pair_wgmma_layout.hpp"
#include "gemm/sum_tile.cuh"
#include "gemm/warp_specialized.cuh"

namespace nf4 {

// What a CTA has to do, and where it keeps things.
template <class Shape>
struct WgmmaShare {
  const WgmmaPlan& plan;
  uint8_t* shared;
  int rank;  // in the cluster
  int64_t row;
  int stage_begin, stages;

  __device__ WgmmaShare(const WgmmaPlan& the_plan, uint8_t* the_shared) : plan(the_plan), shared(the_shared) {
    rank = static_cast<int>(blockIdx.x) % plan.cluster;
    row = int64_t{static_cast<int>(blockIdx.x) / plan.cluster} * plan.rows();
    stage_begin = plan.stages.begin(rank);
    stages = plan.stages.begin(rank + 1) - stage_begin;
  }

  __device__ int consumers() const { return plan.warpgroups * plan.teams; }
  __device__ int64_t col(int stage) const { return int64_t{stage_begin + stage} * kWgmmaStageCols; }
  __device__ StageBarriers barriers() const { return {shared_address(shared + plan.barriers)}; }
  __device__ int codes_bytes() const { return plan.rows() * kWgmmaRowBytes; }
  __device__ uint8_t* codes(int slot) const {
    return shared + PairTable::kBytes + slot * (codes_bytes() + Shape::kXBytes);
  }
  __device__ uint8_t* x(int slot) const { return codes(slot) + codes_bytes(); }
  // Value `i` of the map of nested absmax, in the holes of the pair table.
  __device__ float* map(int i) const {
    return reinterpret_cast<float*>(shared + i / kWarpSize * PairTable::kEntryBytes + PairTable::kUsedBytes) +
           i % kWarpSize;
  }
  // The sums of a team's tiles, where the ring was.
  __device__ float* sums(int team) const {
    return reinterpret_cast<float*>(shared + PairTable::kBytes) + team * Shape::kCols * sum_pitch(plan.rows());
  }
};

// The scale of a block, read ahead: it is kept as it is stored, so nothing waits for it.
struct StoredScale {
  uint32_t level1 = 0;
  float level2 = 0.0f;

  __device__ void read(const Absmax& absmax, int64_t block) {
    if (absmax.dtype == Dtype::u8) {
      level1 = __ldg(static_cast<const uint8_t*>(absmax.values) + block);
      level2 = __ldg(absmax.absmax2 + (block >> absmax.log2_blocksize));
    } else if (absmax.dtype == Dtype::f32) {
      level1 = __ldg(static_cast<const uint32_t*>(absmax.values) + block);
    } else {
      level1 = __ldg(static_cast<const uint16_t*>(absmax.values) + block);
    }
  }
  template <class Shape>
  __device__ float value(const Absmax& absmax, const WgmmaShare<Shape>& share, float offset) const {
    if (absmax.dtype == Dtype::u8) return nested_absmax(*share.map(static_cast<int>(level1 & 255)), level2, offset);
    if (absmax.dtype == Dtype::f16) return to_float(f16{static_cast<uint16_t>(level1)});
    if (absmax.dtype == Dtype::bf16) return to_float(bf16{static_cast<uint16_t>(level1)});
    return __uint_as_float(level1);
  }
};

__device__ __forceinline__ const uint8_t* stored_scale(const Absmax& absmax, int64_t block) {
  const int bytes = absmax.dtype == Dtype::u8 ? 1 : absmax.dtype == Dtype::f32 ? 4 : 2;
  return static_cast<const uint8_t*>(absmax.values) + block * bytes;
}

// Fills the ring, as one of the producer warps.
template <class T, class Shape>
__device__ void wgmma_produce(const WgmmaShare<Shape>& share, const Weight& weight, const CUtensorMap& codes_map,
                              const T* x, int64_t ldx, int m) {
  const WgmmaPlan& plan = share.plan;
  const int lane = threadIdx.x % kWarpSize;
  const int warp = threadIdx.x / kWarpSize % kWarpgroupWarps;
  const int group = warp / Shape::kStageWarps;
  const int part = warp % Shape::kStageWarps;  // of the group
  const int piece = lane % 8;                  // of 16 bytes, of a row in a block

  const auto bring_weights = [&](int stage, int slot) {
    const int64_t col = share.col(stage);
    if (part == 0 && lane == 0) {
      barrier_expect(share.barriers().full(slot), share.codes_bytes());
      const int boxes = (plan.rows() + kMostBoxRows - 1) / kMostBoxRows;
      const int box_rows = plan.rows() / boxes;
      for (int box = 0; box < boxes; ++box)
        copy_tensor(shared_address(share.codes(slot)) + box * box_rows * kWgmmaRowBytes, &codes_map,
                    static_cast<int>(col / 2), static_cast<int>(share.row) + box * box_rows,
                    share.barriers().full(slot));
    }
    if (stage % kWgmmaPairStages != 0) return;
    for (int i = part * kWarpSize + lane; i < plan.rows(); i += Shape::kStageWarps * kWarpSize) {
      const int64_t row = min(share.row + i, weight.rows - 1);
      prefetch_l2(stored_scale(weight.absmax, (row * weight.cols + col) >> weight.log2_blocksize));
    }
  };
  uint4 words[Shape::kLoads];
  // Load l is of rows 4 (l / 2) on of the warp's part, of block l % 2.
  const auto row_of = [&](int load) { return (part * Shape::kLoads + load) / kWgmmaBlocks * 4 + lane / 8; };
  const auto load_x = [&](int stage) {
#pragma unroll
    for (int l = 0; l < Shape::kLoads; ++l) {
      const int row = row_of(l);
      const int64_t col = share.col(stage) + l % kWgmmaBlocks * kPairBlock + piece * 8;
      words[l] = make_uint4(0, 0, 0, 0);
      if (row < m && col < weight.cols) words[l] = load_global_quad(x + row * ldx + col);
    }
  };
  const auto store_x = [&](int slot) {
#pragma unroll
    for (int l = 0; l < Shape::kLoads; ++l) {
      const int row = row_of(l);
      const uint32_t to = shared_address(share.x(slot)) + l % kWgmmaBlocks * Shape::kXBlockBytes +
                          row * kPairBlockXBytes + ((piece / 4 * 4) ^ (row % 8)) * 16 + piece % 4 * 4;
      store_shared(to, words[l].x);
      store_shared(to ^ 16, words[l].y);
      store_shared(to ^ 32, words[l].z);
      store_shared(to ^ 48, words[l].w);
    }
    proxy_fence();
  };

  if (!plan.constant_weights) wait_for_dependencies();
  const int early = min(plan.ring, share.stages);  // stages whose codes are asked for before any x
  for (int stage = group; stage < early; stage += Shape::kGroups) bring_weights(stage, stage);
  // PDL (griddepcontrol): wait for the kernels before, and let the next one start.
  wait_for_dependencies();
  launch_dependents();

  // Main loop.
  RingPlace place{0, 1};
  place.advance(plan.ring, group);
  if (group < share.stages) load_x(group);
  for (int stage = group; stage < share.stages; stage += Shape::kGroups) {
    // Wait until the place is empty; the first time round it is at once.
    barrier_wait(share.barriers().empty(place.slot), place.parity);
    // Issue the TMA of codes, store x, and arrive.
    if (stage >= early) bring_weights(stage, place.slot);
    store_x(place.slot);
    barrier_arrive_warp(share.barriers().full(place.slot));
    // Load x of the group's next stage into registers.
    if (stage + Shape::kGroups < share.stages) load_x(stage + Shape::kGroups);
    place.advance(plan.ring, Shape::kGroups);
  }
}

// A thread's sums of each tile, in the order of store_sums().
template <class Shape>
using WgmmaSums = float[Shape::kMostTiles][Shape::kCols / 2];

// The first of a thread's rows, in the CTA.
__device__ __forceinline__ int wgmma_row(int first_tile) {
  const int g = threadIdx.x % kWarpSize / 4;
  return first_tile * kWgmmaTileRows + threadIdx.x / kWarpSize % kWarpgroupWarps * 16 + g;
}

// Multiplies the stages of the warpgroup's team by its tiles, the first of which is `first_tile` of the CTA's.
template <class T, int BlockCols, int Tiles, class Shape>
__device__ __forceinline__ void wgmma_consume(const WgmmaShare<Shape>& share, const Weight& weight, int team,
                                              int first_tile, WgmmaSums<Shape>& sums) {
  constexpr int kPairCols = kWgmmaPairStages * kWgmmaStageCols;
  constexpr int kSteps = BlockCols / 16;
  constexpr int kBlocks = kWgmmaStageCols / BlockCols;    // of a stage
  constexpr int kLaneScales = kPairCols / BlockCols / 4;  // of a row, that a lane reads
  constexpr int kRuns = BlockCols / 32;                   // of 32 columns in a block
  const WgmmaPlan& plan = share.plan;
  const Absmax& absmax = weight.absmax;
  const PairTable::Lane table(share.shared);
  const int lane = threadIdx.x % kWarpSize;
  const int g = lane / 4;
  const int t = lane % 4;
  const int row = wgmma_row(first_tile);
  const uint32_t code_offset = row * kWgmmaRowBytes + g / 2 % 4 * 16 + t * 4;
  const float offset = absmax.dtype == Dtype::u8 ? __ldg(absmax.offset) : 0.0f;

  // The lane's scales of the next pair of stages, and the element of W where the first of a row's begins.
  StoredScale stored[Tiles][2][kLaneScales];
  int col = static_cast<int>(share.col(team * kWgmmaPairStages)) + t * kLaneScales * BlockCols;
  int64_t elements[Tiles][2];
#pragma unroll
  for (int i = 0; i < 2 * Tiles; ++i)
    elements[i / 2][i % 2] =
        min(share.row + row + i / 2 * kWgmmaTileRows + i % 2 * 8, weight.rows - 1) * weight.cols + col;
  const int end = static_cast<int>(min(share.col(share.stages), weight.cols));
  const auto read_scales = [&] {
#pragma unroll
    for (int tile = 0; tile < Tiles; ++tile) {
#pragma unroll
      for (int lower = 0; lower < 2; ++lower) {
#pragma unroll
        for (int i = 0; i < kLaneScales; ++i) {
          if (col + i * BlockCols < end)
            stored[tile][lower][i].read(absmax, (elements[tile][lower] + i * BlockCols) >> weight.log2_blocksize);
        }
        elements[tile][lower] += plan.teams * kPairCols;
      }
    }
    col += plan.teams * kPairCols;
  };

  float dots[Shape::kCols / 2] = {};  // of the block under way,
  float dot_scales[2] = {};           // and its absmax
  uint32_t a[2][kSteps][4];           // of the block under way, and of the next
  const auto retire = [&](float(&to)[Shape::kCols / 2]) {
#pragma unroll
    for (int i = 0; i < Shape::kCols / 2; ++i) to[i] = fmaf(dots[i], dot_scales[i / 2 % 2], to[i]);
  };

  RingPlace place;
  place.advance(plan.ring, team * kWgmmaPairStages);
  uint32_t done = 0;  // the barrier of the stage that was multiplied last
  read_scales();
  for (int pair = team; pair * kWgmmaPairStages < share.stages; pair += plan.teams) {
    // Decode the scales that were read a pair of stages ahead, and read the next.
    float scales[Tiles][2][kLaneScales];
#pragma unroll
    for (int tile = 0; tile < Tiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 2 * kLaneScales; ++i)
        scales[tile][i / kLaneScales][i % kLaneScales] =
            stored[tile][i / kLaneScales][i % kLaneScales].value(absmax, share, offset);
    }
    read_scales();
#pragma unroll 1
    for (int half = 0; half < kWgmmaPairStages && pair * kWgmmaPairStages + half < share.stages; ++half) {
      // Wait for the stage.
      barrier_wait(share.barriers().full(place.slot), place.parity);
      const uint32_t codes = shared_address(share.codes(place.slot)) + code_offset;
      const uint32_t x = wgmma_lower(shared_address(share.x(place.slot)));
      uint32_t words[kRuns][2];  // of codes: row g, row g + 8
      const auto read_codes = [&](int block, int tile) {
#pragma unroll
        for (int run = 0; run < kRuns; ++run) {
          const uint32_t from = (codes ^ (block * kRuns + run) * 16) + tile * kWgmmaTileRows * kWgmmaRowBytes;
          words[run][0] = load_shared(from);
          words[run][1] = load_shared(from + 8 * kWgmmaRowBytes);
        }
      };
      read_codes(0, 0);
#pragma unroll
      for (int block = 0; block < kBlocks; ++block) {
#pragma unroll
        for (int tile = 0; tile < Tiles; ++tile) {
          // Look up the next block's operand A in the pair table, while the wgmma of the one before are in flight.
          uint32_t(&next)[kSteps][4] = a[(block * Tiles + tile) % 2];
#pragma unroll
          for (int run = 0; run < kRuns; ++run) {
            const auto step = [&](auto byte) {
              constexpr int kByte = decltype(byte)::value;
              uint32_t(&fragment)[4] = next[run * 2 + kByte / 2];
              fragment[0] = table.look_up<kByte>(words[run][0]);
              fragment[1] = table.look_up<kByte>(words[run][1]);
              fragment[2] = table.look_up<kByte + 1>(words[run][0]);
              fragment[3] = table.look_up<kByte + 1>(words[run][1]);
            };
            step(Constant<0>{});
            step(Constant<2>{});
          }
          // Load the codes of the block after it.
          if (tile + 1 < Tiles) {
            read_codes(block, tile + 1);
          } else if (block + 1 < kBlocks) {
            read_codes(block + 1, 0);
          }
          // Wait for the wgmma, apply the scale to their products, and release the stage that they were the last of.
          wgmma_wait();
          retire(sums[(tile + Tiles - 1) % Tiles]);
          if (block == 0 && tile == 0) {
            if (done != 0) barrier_arrive_warp(done);
          }
#pragma unroll
          for (int lower = 0; lower < 2; ++lower)
            dot_scales[lower] = __shfl_sync(~0u, scales[tile][lower][block % kLaneScales],
                                            (lane & ~3) + (half * kBlocks + block) / kLaneScales);
          // Issue the wgmma of the block.
          wgmma_fence();
          constexpr int kBlockBytes = BlockCols * 2;  // of a row of x
          const int x_offset =
              block * kBlockBytes / kPairBlockXBytes * Shape::kXBlockBytes + block * kBlockBytes % kPairBlockXBytes;
#pragma unroll
          for (int step = 0; step < kSteps; ++step)
            wgmma<T, Shape::kCols>(dots, next[step], x + wgmma_step(x_offset + step * 32), step > 0);
          wgmma_commit();
          __syncwarp();  // or the compiler has the next look-ups delay the instructions that it moves behind them
        }
      }
      done = share.barriers().empty(place.slot);
      place.advance(plan.ring);
    }
    place.advance(plan.ring, (plan.teams - 1) * kWgmmaPairStages);
  }
  // Drain: the last block.
  wgmma_wait();
  retire(sums[Tiles - 1]);
}

// Leaves a thread's sums of `tiles` tiles in shared memory.
template <class Shape>
__device__ __forceinline__ void wgmma_store(const WgmmaShare<Shape>& share, int team, int first_tile, int tiles,
                                            const WgmmaSums<Shape>& sums) {
  float* const to = share.sums(team) + wgmma_row(first_tile);
#pragma unroll
  for (int tile = 0; tile < Shape::kMostTiles; ++tile) {
    if (tile == tiles) break;
    store_sums(to + tile * kWgmmaTileRows, sum_pitch(share.plan.rows()), sums[tile]);
  }
}

// Adds up the sums of all teams of the cluster, and writes y.
template <class T, class Shape>
__device__ void wgmma_finish(const WgmmaShare<Shape>& share, T* y, int64_t ldy, int m, int64_t rows, const T* bias) {
  const WgmmaPlan& plan = share.plan;
  const int pitch = sum_pitch(plan.rows());
  const Partials partials{share.sums(0), pitch,      Shape::kCols * pitch, plan.teams,
                          plan.cluster,  share.rank, kCodebookInverse<T>};
  write_tile(partials, y, ldy, share.row, plan.rows(), rows, m, bias);
}

template <class T, class Shape, int BlockCols>
__global__ void __launch_bounds__(Shape::kThreads, 1)
    gemm_pair_wgmma(T* y,         // [m, weight.rows]
                    int64_t ldy,  // elements
                    const T* x,   // [m, weight.cols]
                    int64_t ldx,  // elements
                    int m,        // 1 to Shape::kCols
                    const __grid_constant__ Weight weight,
                    const T* bias,  // [weight.rows] or null
                    const __grid_constant__ WgmmaPlan plan, const __grid_constant__ CUtensorMap codes_map) {
  if constexpr (kHasWgmma) {
    extern __shared__ __align__(1024) uint8_t shared[];
    const WgmmaShare<Shape> share(plan, shared);
    const int warpgroup = threadIdx.x / kWarpgroupThreads;

    const int threads = static_cast<int>(blockDim.x);
    const auto init = [&] {
      init_stages(plan.ring, [&](int slot) {
        barrier_init(share.barriers().full(slot), Shape::kStageWarps * kWarpArrivals);
        barrier_init(share.barriers().empty(slot), plan.warpgroups * kWarpgroupWarps * kWarpArrivals);
      });
    };
    const auto produce = [&] { wgmma_produce<T>(share, weight, codes_map, x, ldx, m); };
    const auto prepare = [&] {
      PairTable::fill(shared, plan.codebook, share.consumers() * kWarpgroupWarps);
      if (!plan.constant_weights) wait_for_dependencies();
      if (weight.absmax.dtype == Dtype::u8) {
        for (int i = threadIdx.x; i < kMapSize; i += share.consumers() * kWarpgroupThreads)
          *share.map(i) = __ldg(weight.absmax.map + i);
      }
    };
    const auto consume = [&] {
      const int team = warpgroup / plan.warpgroups;
      const int first_tile = warpgroup % plan.warpgroups * plan.warpgroup_tiles;
      const int tiles = min(plan.warpgroup_tiles, plan.tiles - first_tile);
      WgmmaSums<Shape> sums{};
      if (Shape::kMostTiles > 1 && tiles > 1) {
        wgmma_consume<T, BlockCols, Shape::kMostTiles>(share, weight, team, first_tile, sums);
      } else {
        wgmma_consume<T, BlockCols, 1>(share, weight, team, first_tile, sums);
      }
      consumed(threads);
      wgmma_store<Shape>(share, team, first_tile, tiles, sums);
    };
    const auto finish = [&] { wgmma_finish<T>(share, y, ldy, m, weight.rows, bias); };
    warp_specialized<RegisterSplit<Shape::kProducerRegisters, Shape::kConsumerRegisters>>(
        warpgroup == share.consumers(), threads, plan.cluster, init, produce, prepare, consume, finish);
  }
}

}  // namespace nf4
