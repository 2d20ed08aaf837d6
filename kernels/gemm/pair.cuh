// gemm.pair and gemm.pair_tma: the fused product on the tensor cores, for up to 4 rows of x a pass, codes decoded by
// the pair table (a lookup table). The two differ in how codes reach shared memory (`Copy`).
//
// Product. The weights are the A operand of mma.m16n8k16, x is B. K may be permuted freely inside a block of the format
// if x is permuted alike, so the native layout serves: of a 64-weight block (32 bytes) of a row, lane t of a quad takes
// the 16 weights in bytes 8t to 8t+7, and so 16 consecutive elements of x. Step j = 0..3 of the four that cover the
// block takes bytes 2j and 2j+1 of them:
//
//     A register   row    bytes of the block        B register   x elements of the block
//     a0           g      8t + 2j                   b0           16t + 4j, + 1
//     a1           g + 8  8t + 2j                   b1           16t + 4j + 2, + 3
//     a2           g      8t + 2j + 1                            column g of the operand
//     a3           g + 8  8t + 2j + 1               (g = lane / 4, t = lane % 4)
//
// All of a block's products meet in one accumulator, which is multiplied by the block's absmax in fp32. Blocks of the
// format larger than 64 are treated as several of 64.
//
// Packing. An operand B has 8 columns, and rows of x seldom fill them. The columns left over hold other blocks of the
// same rows: with `Cols` rows, column p * Cols + m is row m of the p-th of 8 / Cols blocks. Multiplying block p by it
// gives that block's sums in its own columns, and in the others nothing of use. So x takes no more room than its
// elements do, and so few registers that it is read from shared memory for every tile.
//
// Work. A stage is 4 KiB of codes: 8 blocks of 16 rows. A CTA owns a range of tiles (of 16 rows of one W, see
// group.hpp); their stages, in the order of rows and then of K, are dealt to the consumer warps in equal contiguous
// runs. Every consumer has a ring of stages (a multistage pipeline) of its own, which a producer warp fills (warp
// specialization), so consumers never wait for one another before the end. A consumer adds up in registers while it
// stays in a tile; when it leaves, it puts its sums into a slot of shared memory. The slots of a tile are added up at
// the end, in order. The CTAs of a cluster share their tiles and split K (split-K); what they found meets through
// distributed shared memory, in rank order.
//
// Banks. A stage's rows lie 128 bytes apart, with 16-byte pieces exchanged: piece c of row r is at place c ^ (r % 8),
// the 128-byte swizzle of the copy engine (TMA). Row g of the operand is row 2 (g % 4) + g / 4 of the tile, since then
// the 8-byte reads of a half warp fall into different banks.
#pragma once

#include <cstdint>

#include "device/launch.cuh"
#include "device/ptx.cuh"
#include "device/ring.hpp"
#include "device/warp.hpp"
#include "dispatch.hpp"
#include "format/number.hpp"
#include "gemm/group.hpp"
#include "gemm/named_barriers.hpp"
#include "gemm/pair_fragment.cuh"
#include "gemm/pair_layout.hpp"
#include "gemm/pair_scales.cuh"
#include "gemm/pair_table.cuh"

namespace nf4 {

// A stage of a CTA's share, counted from the CTA's first: stage `stage` of K in tile `tile`.
struct PairPosition {
  int tile;
  int stage;

  __device__ void advance(int stages) {
    if (++stage == stages) {
      stage = 0;
      ++tile;
    }
  }
};

// What a CTA has to do, and where it keeps things.
template <class Shape>
struct PairShare {
  const PairPlan& plan;
  uint8_t* shared;
  int consumers;
  int rank;  // in the cluster
  int tile_begin, tiles;
  int stage_begin, stages;
  Shares runs;  // of stages among consumers

  __device__ PairShare(const PairPlan& the_plan, uint8_t* the_shared) : plan(the_plan), shared(the_shared) {
    consumers = static_cast<int>(blockDim.x) / kWarpSize - kPairProducers;
    rank = static_cast<int>(blockIdx.x) & (plan.cluster - 1);
    const int cluster = static_cast<int>(blockIdx.x) >> (__ffs(plan.cluster) - 1);
    tile_begin = plan.tiles.begin(cluster);
    tiles = plan.tiles.begin(cluster + 1) - tile_begin;
    stage_begin = plan.stages.begin(rank);
    stages = plan.stages.begin(rank + 1) - stage_begin;
    const int size = plan.by_consumers.quotient(tiles * stages);
    runs = {consumers, size, tiles * stages - size * consumers};
  }

  __device__ PairPosition begin_of(int consumer) const {
    const int begin = runs.begin(consumer);
    if (stages == 0) return {0, 0};
    const int tile = plan.by_stages[stages - plan.stages.size].quotient(begin);
    return {tile, begin - tile * stages};
  }
  __device__ int run(int consumer) const { return runs.begin(consumer + 1) - runs.begin(consumer); }
  __device__ int block(const PairPosition& at) const { return (stage_begin + at.stage) * Shape::kBlocks; }

  __device__ uint32_t x_barrier() const { return shared_address(shared + plan.barriers); }
  __device__ uint32_t full(int stage) const { return x_barrier() + 8 + stage * 16; }  // of all rings, in order
  __device__ uint32_t empty(int stage) const { return full(stage) + 8; }
  __device__ uint8_t* codes(int stage) const { return shared + PairTable::kBytes + stage * kPairStageBytes; }
  __device__ uint8_t* scales(int stage) const { return shared + plan.scales + stage * Shape::kScaleBytes; }

  // The first and the last consumer that have stages of a tile, in 4 bits each, in a CTA with `its_stages` of K: as
  // many as any of the cluster has. To find them takes divisions, which producers do when they have no more to bring.
  __device__ uint8_t* takers(int its_stages, int tile) const {
    return shared + plan.takers + (its_stages - plan.stages.size) * kPairMostTiles + tile;
  }
  __device__ void find_takers(int thread, int threads) const {
    const int most = plan.stages.size + (plan.stages.larger > 0 ? 1 : 0);
    for (int its_stages = max(1, plan.stages.size); its_stages <= most; ++its_stages) {
      const Shares its_runs = Shares::of(tiles * its_stages, consumers);
      for (int tile = thread; tile < tiles; tile += threads) {
        const int first = its_runs.taker(tile * its_stages);
        const int last = its_runs.taker((tile + 1) * its_stages - 1);
        *takers(its_stages, tile) = static_cast<uint8_t>(first | last << 4);
      }
    }
  }

  // Output `i` of a slot. Slots lie in rows of 32 floats, one row to a hole of the table or one after the other.
  __device__ float* in_slot(int slot, int i) const {
    const int element = slot * Shape::kOutputs + i;
    uint8_t* const slots = shared + (plan.slots == 0 ? PairTable::kUsedBytes : plan.slots);
    const int pitch = plan.slots == 0 ? PairTable::kEntryBytes : kWarpSize * static_cast<int>(sizeof(float));
    return reinterpret_cast<float*>(slots + element / kWarpSize * pitch) + element % kWarpSize;
  }
};

// Fills the rings of consumers `first`, first + kPairProducers, ... in turn. A first stage is asked for before any
// other warp is waited for: so this initializes the barrier that it arrives at, by init_full(stage), and the consumer
// all others of its ring. Where weights may still be written, the kernels before are waited for, and bring_x() is
// called once the first stages are asked for.
template <class Copy, class Scales, class Shape, int Products, class InitFull, class BringX>
__device__ void pair_produce(const PairShare<Shape>& share, const Group<Products>& group,
                             const typename Copy::template Source<Products>& source, int first,
                             const InitFull& init_full, const BringX& bring_x) {
  constexpr int kScaleLanes = Shape::kBlocks / 4;  // of a row
  const int lane = threadIdx.x % kWarpSize;
  // Scales lie in the order of the operand's rows, which lanes read without conflict.
  const int scale_row = lane / kScaleLanes / 8 * 8 + operand_row(lane / kScaleLanes % 8);
  const int row_blocks = static_cast<int>(group.products[0].weight.cols / kPairBlock);
  const bool nested = !Scales::kAsync && group.products[0].weight.absmax.dtype == Dtype::u8;
  float* const map = reinterpret_cast<float*>(share.shared + share.plan.map);
  // Of the next stage: where it is, whose tile it is of, the tile's first row there, and its scales.
  PairPosition next[kPairServed]{};
  int left[kPairServed];
  int product[kPairServed]{};
  int row[kPairServed]{};
  float offset[kPairServed]{};
  Scales scales[kPairServed];
  const auto first_of_ring = [&](int i) { return (first + i * kPairProducers) * share.plan.ring; };
  const auto find_tile = [&](int i) {
    const int tile = share.tile_begin + next[i].tile;
    product[i] = group.tiles.product(tile);
    row[i] = group.tiles.in_product(tile, product[i]) * Shape::kRows;
    if (nested) offset[i] = __ldg(group.products[product[i]].weight.absmax.offset);
  };
  const auto ask_for_codes = [&](int i, int stage) {
    Copy::template issue<Shape>(source, product[i], group.products[product[i]].weight,
                                share.block(next[i]) * kPairBlockBytes, row[i], share.codes(stage), share.full(stage));
  };
  const auto read_scales = [&](int i) {
    const Weight& weight = group.products[product[i]].weight;
    const int scales_of = min(row[i] + scale_row, static_cast<int>(weight.rows) - 1);
    const int block = share.block(next[i]) + lane % kScaleLanes * 4;
    Scales::dispatch(share.plan.quads, weight, [&](auto format) {
      scales[i].read(format, weight, scales_of * row_blocks + block, row_blocks - block);
    });
  };
  const auto store_scales = [&](int i, int stage) {
    const Weight& weight = group.products[product[i]].weight;
    Scales::dispatch(share.plan.quads, weight, [&](auto format) {
      scales[i].store(format, weight, shared_address(map + product[i] * kMapSize), offset[i],
                      shared_address(share.scales(stage)) + lane * 16);
    });
  };

  // Initialize the mbarriers of the first stages.
#pragma unroll
  for (int i = 0; i < kPairServed; ++i) {
    if (lane == 0 && first + i * kPairProducers < share.consumers) init_full(first_of_ring(i));
  }
  Copy::barriers_are_ready();
  __syncwarp();
  // Prologue: issue the copies of each ring's first stage.
  if (!share.plan.constant_weights) Copy::wait_for_kernels_before();
#pragma unroll
  for (int i = 0; i < kPairServed; ++i) {
    const int consumer = first + i * kPairProducers;
    next[i] = share.begin_of(consumer);
    left[i] = consumer < share.consumers ? share.run(consumer) : 0;
    if (left[i] == 0) continue;
    find_tile(i);
    read_scales(i);
    ask_for_codes(i, first_of_ring(i));
    if (Scales::kAsync) store_scales(i, first_of_ring(i));
  }
  if (!share.plan.constant_weights) bring_x();
  // Nested scales: their maps go to shared memory, where any of their values is near.
  if (nested) {
    for (int p = 0; p < group.count; ++p) {
      for (int i = first * kWarpSize + lane; i < kMapSize; i += kPairProducers * kWarpSize)
        map[p * kMapSize + i] = __ldg(group.products[p].weight.absmax.map + i);
    }
  }
  barrier_sync(kProducersBarrier, static_cast<int>(blockDim.x));  // maps are there, and the consumers' barriers
  barrier_pass(kTableBarrier, static_cast<int>(blockDim.x));

  // Main loop: one stage of each ring in turn.
  RingPlace place{0, 1};
  const int rounds = left[0];  // no run is longer than the first one's
  for (int round = 0; round < rounds; ++round) {
#pragma unroll
    for (int i = 0; i < kPairServed; ++i) {
      if (left[i] == 0) continue;
      --left[i];
      const int stage = first_of_ring(i) + place.slot;
      // Wait until the consumer has released the stage.
      if (round >= share.plan.ring) {
        barrier_wait(share.empty(stage), place.parity);
      } else if (round > 0 && !share.plan.constant_weights) {
        // All first stages come sooner if nothing else is asked for.
        barrier_wait(share.full(first_of_ring(i)), 0);
      }
      // Issue the copies of codes, and store the scales that were read a stage ahead.
      if (round > 0) ask_for_codes(i, stage);
      if (round > 0 || !Scales::kAsync) store_scales(i, stage);
      // Read the scales of the ring's next stage.
      next[i].advance(share.stages);
      if (left[i] > 0) {
        if (next[i].stage == 0) find_tile(i);
        read_scales(i);
      }
      // Arrive: the stage is full once its copies have come.
      if (Copy::kAsync || Scales::kAsync) barrier_arrive_copies(share.full(stage));
      barrier_arrive_warp(share.full(stage));
    }
    place.advance(share.plan.ring);
  }
}

// Multiplies the run of one consumer, and puts its sums of each tile that it touches into slot consumer + tile.
template <class T, int Cols>
__device__ void pair_consume(const PairShare<PairShape<Cols>>& share, int m, int consumer) {
  using Shape = PairShape<Cols>;
  const PairPlan& plan = share.plan;
  const uint8_t* const table = share.shared;
  const int lane = threadIdx.x % kWarpSize;
  const int g = lane / 4;
  const int t = lane % 4;
  const int g_row = operand_row(g);
  const uint32_t lane4 = lane * 4;
  int offsets[kPairBoxBlocks];  // in a stage, of the lane's 8 bytes of each block in a box
#pragma unroll
  for (int b = 0; b < kPairBoxBlocks; ++b)
    offsets[b] = g_row * kPairBoxBytes + ((2 * b + t / 2) ^ g_row) * 16 + t % 2 * 8;
  // Of the lane's elements of x: row, block in the group, part of the block.
  const int x_offset = plan.x + min(g % Cols, m - 1) * plan.x_pitch +
                       (g / Cols * Shape::kGroups * kPairBlock + t * 16) * static_cast<int>(sizeof(T));
  // With one row of x, neighbouring columns lie 128 bytes apart; to meet different banks, odd ones read the second half
  // of their elements first.
  const int first_half = Cols == 1 ? g % 2 * 16 : 0;

  float sums[4] = {};  // row g_row in [0] and [1], g_row + 8 in [2] and [3]
  PairPosition at = share.begin_of(consumer);
  RingPlace place;
  for (int left = share.run(consumer); left > 0; --left) {
    // Wait for the stage.
    const int stage = consumer * plan.ring + place.slot;
    barrier_wait(share.full(stage), place.parity);
    const uint8_t* const codes = share.codes(stage);
    // Load the scales.
    float2 scales[2];  // of rows g_row and g_row + 8
    static_assert(Shape::kScaleBlocks == 2);
#pragma unroll
    for (int r = 0; r < 2; ++r)
      scales[r] = *reinterpret_cast<const float2*>(share.scales(stage) + ((r * 8 + g) * Shape::kBlocks + t * 2) * 4);
    const int x_stage = at.stage * Shape::kBlocks * kPairBlock * static_cast<int>(sizeof(T));
#pragma unroll
    for (int i = 0; i < Shape::kGroups; ++i) {
      // Load operand B: x of a group of blocks.
      const uint8_t* x = share.shared + x_offset + x_stage + i * kPairBlock * static_cast<int>(sizeof(T));
      const uint4 low = *reinterpret_cast<const uint4*>(x + first_half);
      const uint4 high = *reinterpret_cast<const uint4*>(x + (first_half ^ 16));
      const uint32_t b[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
      // The scales of the blocks whose sums this lane holds: of its own, or those that another lane of the quad has.
      float group_scales[2];
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const float scale = i % 2 == 0 ? scales[r].x : scales[r].y;
        if constexpr (Cols == 2) group_scales[r] = scale;
        if constexpr (Cols == 4) group_scales[r] = __shfl_sync(~0u, scale, (lane & ~1) + i / 2);
      }
#pragma unroll
      for (int p = 0; p < Shape::kPacked; ++p) {
        const int block = i + p * Shape::kGroups;
        // Load the codes, two rows of a block.
        const uint8_t* from = codes + block / kPairBoxBlocks * 16 * kPairBoxBytes + offsets[block % kPairBoxBlocks];
        uint2 upper = *reinterpret_cast<const uint2*>(from);
        uint2 lower = *reinterpret_cast<const uint2*>(from + 8 * kPairBoxBytes);
        if (Cols == 1 && p % 2 == 1) {  // as the elements of x are read
          upper = make_uint2(upper.y, upper.x);
          lower = make_uint2(lower.y, lower.x);
        }
        // Look up operand A in the pair table, and multiply (mma).
        float dots[4] = {};
        const auto step = [&](auto byte, uint32_t word0, uint32_t word1, int j) {
          constexpr int kByte = decltype(byte)::value;
          const uint32_t a[4] = {
              PairTable::look_up<kByte>(table, word0, lane4), PairTable::look_up<kByte>(table, word1, lane4),
              PairTable::look_up<kByte + 1>(table, word0, lane4), PairTable::look_up<kByte + 1>(table, word1, lane4)};
          mma<T>(dots, a, b[2 * j], b[2 * j + 1]);
        };
        step(Constant<0>{}, upper.x, lower.x, 0);
        step(Constant<2>{}, upper.x, lower.x, 1);
        step(Constant<0>{}, upper.y, lower.y, 2);
        step(Constant<2>{}, upper.y, lower.y, 3);
        // Apply the scale of the block to its products.
        if constexpr (Cols == 1) {  // columns 2t and 2t + 1 are blocks, whose scales the lane has
          if (t == p / 2) {
            sums[0] = fmaf(dots[p % 2], p % 2 == 0 ? scales[0].x : scales[0].y, sums[0]);
            sums[2] = fmaf(dots[2 + p % 2], p % 2 == 0 ? scales[1].x : scales[1].y, sums[2]);
          }
        } else if (2 * t / Cols == p) {
#pragma unroll
          for (int e = 0; e < 4; ++e) sums[e] = fmaf(dots[e], group_scales[e / 2], sums[e]);
        }
      }
    }
    // Release the stage.
    barrier_arrive_warp(share.empty(stage));
    place.advance(plan.ring);
    const int slot = consumer + at.tile;
    at.advance(share.stages);
    if (at.stage != 0 && left > 1) continue;

      // The warp leaves the tile. Sums of the same row of x are spread over lanes, for columns were packed.
#pragma unroll
    for (int e = 0; e < 4; e += Cols == 1 ? 2 : 1) {
      sums[e] += __shfl_xor_sync(~0u, sums[e], 2);
      if constexpr (Cols <= 2) sums[e] += __shfl_xor_sync(~0u, sums[e], 1);
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = half * 8 + g_row;
      if constexpr (Cols == 1) {
        if (t == 0) *share.in_slot(slot, row) = sums[2 * half];
      } else if (2 * t < Cols) {
        *reinterpret_cast<float2*>(share.in_slot(slot, row * Cols + 2 * t)) =
            make_float2(sums[2 * half], sums[2 * half + 1]);
      }
    }
#pragma unroll
    for (int e = 0; e < 4; ++e) sums[e] = 0.0f;
  }
}

// Adds up the slots, of all CTAs of the cluster, of the tiles that fall to this one, and writes y.
template <class T, int Cols, class Copy, int Products>
__device__ void pair_finish(const PairShare<PairShape<Cols>>& share, const Group<Products>& group, int m) {
  using Shape = PairShape<Cols>;
  const PairPlan& plan = share.plan;
  for (int i = threadIdx.x;; i += blockDim.x) {
    const int tile = share.rank + i / Shape::kOutputs * plan.cluster;
    if (tile >= share.tiles) break;
    const int row = i % Shape::kRows;
    const int col = i % Shape::kOutputs / Shape::kRows;
    const int group_tile = share.tile_begin + tile;
    const int whose = group.tiles.product(group_tile);
    const GroupProduct& product = group.products[whose];
    const int64_t out_row = int64_t{group.tiles.in_product(group_tile, whose)} * Shape::kRows + row;
    if (col >= m || out_row >= product.weight.rows) continue;
    // Add up the slots: of the consumers, and of the CTAs of the cluster (split-K).
    float total = 0.0f;
    for (int rank = 0; rank < plan.cluster; ++rank) {
      const int stages = plan.stages.begin(rank + 1) - plan.stages.begin(rank);
      if (stages == 0) continue;
      const int takers = *share.takers(stages, tile);
      const int last = takers >> 4;
#pragma unroll 4
      for (int consumer = takers & 15; consumer <= last; ++consumer) {
        const float* sum = share.in_slot(consumer + tile, row * Cols + col);
        total += rank == share.rank ? *sum : Copy::load_at_rank(sum, rank);
      }
    }
    // Epilogue: the codebook's factor, bias, rounding.
    total = __fmul_rn(total, kCodebookInverse<T>);  // rounded before the bias is added
    const T* const bias = static_cast<const T*>(product.bias);
    static_cast<T*>(product.y)[col * product.ldy + out_row] =
        from_float<T>(bias != nullptr ? total + to_float(bias[out_row]) : total);
  }
}

template <class T, int Cols, class Copy, class Scales, int Products>
__global__ void __launch_bounds__(kPairThreads, 1)
    gemm_pair(const T* __restrict__ x,  // [m, K]
              int64_t ldx,              // elements
              int m,                    // 1 to Cols
              const __grid_constant__ Group<Products> group, const __grid_constant__ PairPlan plan,
              const __grid_constant__ typename Copy::template Source<Products> source) {
  if constexpr (kCompiledArchitecture >= Copy::kArchitecture) {
    using Shape = PairShape<Cols>;
    extern __shared__ __align__(1024) uint8_t shared[];
    const PairShare<Shape> share(plan, shared);
    const Weight& weight = group.products[0].weight;  // for what all have in common
    const int warp = uniform(threadIdx.x / kWarpSize);

    const int64_t x_begin = int64_t{share.stage_begin} * Shape::kBlocks * kPairBlock;
    const int x_bytes = static_cast<int>(
        max(min(int64_t{share.stages} * Shape::kBlocks * kPairBlock, weight.cols - x_begin), int64_t{0}) * sizeof(T));
    const auto issue_x = [&] {
      Copy::issue_x(shared + plan.x, plan.x_pitch, x + x_begin, ldx, m, x_bytes, share.x_barrier());
    };
    const auto init_full = [&](int stage) {
      barrier_init(share.full(stage), kWarpArrivals + (Copy::kAsync || Scales::kAsync ? kWarpSize : 0));
    };

    // x is asked for by all consumers if by cp.async. Else by the last producer, as soon as the kernels before have
    // completed; with constant weights producers are ahead of those, and the first consumer asks.
    const bool consumer_asks = Copy::kAsync || plan.constant_weights;
    const bool asks_alone = !Copy::kAsync && warp == (consumer_asks ? 0 : share.consumers + kPairProducers - 1);
    if (asks_alone && threadIdx.x % kWarpSize == 0) barrier_init(share.x_barrier(), 1);

    // Up to wait_for_kernels_before() nothing may depend on what they wrote.
    if (warp >= share.consumers) {
      pair_produce<Copy, Scales>(share, group, source, warp - share.consumers, init_full, [&] {
        if (asks_alone) issue_x();
      });
      share.find_takers(threadIdx.x - share.consumers * kWarpSize, kPairProducers * kWarpSize);
      Copy::wait_for_kernels_before();  // before y is written, here too
    } else {
      if (threadIdx.x % kWarpSize == 0) {
        for (int stage = warp * plan.ring; stage < (warp + 1) * plan.ring; ++stage) {
          if (stage > warp * plan.ring) init_full(stage);
          barrier_init(share.empty(stage), kWarpArrivals);
        }
        Copy::barriers_are_ready();
      }
      __syncwarp();
      barrier_pass(kProducersBarrier, static_cast<int>(blockDim.x));
      // Of x, what is past the end of K is zeros.
      const int x_room = share.stages * Shape::kBlocks * kPairBlock * static_cast<int>(sizeof(T));
      for (int i = x_bytes / 16 + threadIdx.x; i < x_room / 16; i += share.consumers * kWarpSize) {
        for (int row = 0; row < m; ++row)
          *reinterpret_cast<uint4*>(shared + plan.x + row * plan.x_pitch + i * 16) = make_uint4(0, 0, 0, 0);
      }
      PairTable::fill(shared, plan.codebook, share.consumers);
      Copy::wait_for_kernels_before();
      Copy::start_kernel_after();
      if (Copy::kAsync || (consumer_asks && warp == 0)) issue_x();
      barrier_sync(kTableBarrier, static_cast<int>(blockDim.x));
      if (!Copy::kAsync) barrier_wait(share.x_barrier(), 0);
      pair_consume<T, Cols>(share, m, warp);
    }

    __syncthreads();
    if (plan.cluster > 1) Copy::cluster_sync();
    pair_finish<T, Cols, Copy>(share, group, m);
    if (plan.cluster > 1) Copy::cluster_meet();  // nobody leaves while others read its slots
  }
}

}  // namespace nf4
