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
// The pair table gives two codebook values in f16, times kTableFactor, by which all 16 are nearly f16 numbers (2^-12.4
// at most, 2^-13.9 in the mean). They become fp32, are multiplied by the block's absmax over kTableFactor, and rounded
// once to x's type: what unpacking gives, but for those 2^-12.4. All products of a row meet in one accumulator, so the
// tensor cores work on one block while the warpgroup decodes the next.
//
// Work. A CTA has `tiles` times 64 rows of W for up to 256 rows of x, and walks along K. A warpgroup keeps the sums of
// its 1 or 2 tiles in registers. Teams of warpgroups take stages in turn, which puts more warps to work where tiles are
// few. The CTAs of a cluster split K. In the end the sums of all teams and CTAs meet in shared memory, and are added up
// in order. CTAs that share rows of W come one after the other, so that their codes are read from memory once.
//
// Stage, of 1 or 2 blocks. x [blocks][rows of x][64 elements], rows of 128 bytes: piece c (16 bytes) of row r is at
// place c ^ (r % 8), as wgmma wants it. Codes [rows of W][32 bytes a block]: piece c of row r is at place c ^ (r / 2 %
// 4), or c ^ (r / 4 % 2) for 1 block, so that the 8 rows of which a warp reads one piece lie in different banks. Both
// come by tensor copies. Scales [sub-blocks][rows of W] in fp32, by the producer warps that do not copy.
#include <cuda.h>

#include <algorithm>
#include <cstdint>
#include <string>

#include "codebook.hpp"
#include "dispatch.hpp"
#include "families.hpp"
#include "launch.cuh"
#include "number.hpp"
#include "pair_table.cuh"
#include "ptx.cuh"
#include "ring.cuh"
#include "tensor_map.cuh"
#include "totals.cuh"
#include "variant.hpp"
#include "wgmma.cuh"

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ == 900 && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
#error "build for 90a in place of 90: the warpgroup's instructions are not in 90"
#endif

namespace nf4 {

// Whether device code is being compiled for 90a, or host code.
#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
constexpr bool kHasScaledWgmma = false;
#else
constexpr bool kHasScaledWgmma = true;
#endif

constexpr int kScaledArchitecture = 90;
constexpr float kTableFactor = 1.3662109375f;  // an f16 number, so that codes of -1 and 1 are exact
constexpr int kTileRows = 64;
constexpr int kBlockCols = 64;  // columns that lie together in a stage
constexpr int kBlockCodes = kBlockCols / 2;
constexpr int kXRowBytes = kBlockCols * 2;
constexpr int kMostRing = 8;
constexpr int kScaleWarps = kWarpgroupWarps - 1;  // producers of scales; the first warp copies
// Barriers of consumers, which the producers pass without waiting (see gemm_pair.cuh): the pair table is there, and all
// stages have been read.
constexpr int kTableBarrier = 1;
constexpr int kReadBarrier = 2;
constexpr int kWarpgroupThreads = kWarpgroupWarps * kWarpSize;

// The kernel for tiles of up to Cols rows of x: 128 or 256. Blocks of the format have BlockCols columns, or a
// multiple: 64, or 32.
template <int Cols, int BlockCols>
struct ScaledShape {
  static constexpr int kCols = Cols;
  static constexpr int kSteps = kBlockCols / 16;  // of a block
  static constexpr int kFormatCols = BlockCols;
  // Warpgroups for which there are registers, tiles that each can take, and the registers that a thread then has.
  static constexpr int kConsumers = 2;
  static constexpr int kMostTiles = Cols == 128 ? 2 : 1;
  static constexpr int kConsumerRegisters = 224;
  static constexpr int kProducerRegisters = 56;
  static constexpr int kThreads = (kConsumers + 1) * kWarpgroupThreads;
  static constexpr int kMostRows = kConsumers * kMostTiles * kTileRows;
  static constexpr int kBlocks = Cols == 128 ? 2 : 1;  // of a stage
  static constexpr int kStageCols = kBlocks * kBlockCols;
  static constexpr int kScales = kStageCols / BlockCols;  // of a row in a stage
  static constexpr int kCodesRowBytes = kBlocks * kBlockCodes;
  static constexpr int kXBlockBytes = Cols * kXRowBytes;
  static constexpr int kXBytes = kBlocks * kXBlockBytes;
  static constexpr int kRowBytes = kCodesRowBytes + kScales * static_cast<int>(sizeof(float));  // of W in a stage
  static constexpr int kSums = Cols / 2;                                                        // of a thread and tile
};

// What the host works out for a launch.
struct ScaledPlan {
  Shares stages;          // of K, among the CTAs of a cluster
  int cluster;            // CTAs
  int col_tiles;          // of x
  int tiles;              // of W, of a CTA
  int warpgroup_tiles;    // of those, a warpgroup's, or fewer for the last
  int warpgroups;         // of a team
  int teams;              // of consumers
  int ring;               // stages
  int scales;             // offset in shared memory, bytes
  int barriers;           // likewise
  bool constant_weights;  // they may be read before the kernels before have completed
  uint16_t codebook[16];  // f16, times kTableFactor; as a parameter it is at hand when the kernel starts

  NF4_HD int rows() const { return tiles * kTileRows; }
};

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
    row = int64_t{tile / plan.col_tiles} * plan.rows();
    stage_begin = plan.stages.begin(rank);
    stages = plan.stages.begin(rank + 1) - stage_begin;
  }

  __device__ int consumers() const { return plan.warpgroups * plan.teams; }
  __device__ int col(int stage) const { return (stage_begin + stage) * Shape::kStageCols; }
  __device__ uint32_t full(int slot) const { return shared_address(shared + plan.barriers) + slot * 16; }
  __device__ uint32_t empty(int slot) const { return full(slot) + 8; }
  __device__ int codes_bytes() const { return plan.rows() * Shape::kCodesRowBytes; }
  __device__ uint8_t* x(int slot) const { return shared + PairTable::kBytes + slot * (Shape::kXBytes + codes_bytes()); }
  __device__ uint8_t* codes(int slot) const { return x(slot) + Shape::kXBytes; }
  // Scale `i` of each of the CTA's rows.
  __device__ float* scales(int slot, int i) const {
    return reinterpret_cast<float*>(shared + plan.scales) + (slot * Shape::kScales + i) * plan.rows();
  }
  // The sums of a team's tiles, [kCols][sum_pitch()], where the ring was. Lanes that write columns 2t of 8 rows meet
  // different banks.
  __device__ int sum_pitch() const { return plan.rows() + 4; }
  __device__ float* sums(int team) const {
    return reinterpret_cast<float*>(shared + PairTable::kBytes) + team * Shape::kCols * sum_pitch();
  }
};

// Copies codes and x to the ring, as one thread.
template <class Shape>
__device__ void scaled_copy(const ScaledShare<Shape>& share, const CUtensorMap& codes_map, const CUtensorMap& x_map) {
  const ScaledPlan& plan = share.plan;
  const auto copy_codes = [&](int stage, int slot) {
    barrier_expect(share.full(slot), share.codes_bytes() + Shape::kXBytes);
    copy_tensor(shared_address(share.codes(slot)), &codes_map, share.col(stage) / 2, static_cast<int>(share.row),
                share.full(slot));
  };
  const int early = plan.constant_weights ? min(plan.ring, share.stages) : 0;  // stages whose codes come before any x
  for (int stage = 0; stage < early; ++stage) copy_codes(stage, stage);
  wait_for_dependencies();
  RingPlace place{0, 1};
  for (int stage = 0; stage < share.stages; ++stage) {
    barrier_wait(share.empty(place.slot), place.parity);  // the first time round, at once
    if (stage >= early) copy_codes(stage, place.slot);
#pragma unroll
    for (int b = 0; b < Shape::kBlocks; ++b)
      copy_tensor(shared_address(share.x(place.slot)) + b * Shape::kXBlockBytes, &x_map,
                  share.col(stage) + b * kBlockCols, share.col_begin, share.full(place.slot));
    barrier_arrive(share.full(place.slot));
    place.advance(plan.ring);
  }
}

// Brings scales to the ring, as one of kScaleWarps warps. Those of a stage are read while the one before is stored.
// `scale_at` gives the scale of a block of the format.
template <class Shape, class ScaleAt>
__device__ __forceinline__ void scaled_bring_scales(const ScaledShare<Shape>& share, const Weight& weight, int lane,
                                                    const ScaleAt& scale_at) {
  constexpr int kLanes = kScaleWarps * kWarpSize;
  constexpr int kRows = (Shape::kMostRows + kLanes - 1) / kLanes;  // of a lane
  const ScaledPlan& plan = share.plan;
  int64_t elements[kRows];  // of W, where the next stage begins
#pragma unroll
  for (int r = 0; r < kRows; ++r)
    elements[r] = min(share.row + lane + r * kLanes, weight.rows - 1) * weight.cols + share.col(0);
  int cols = static_cast<int>(weight.cols) - share.col(0);  // from there to the end of W
  float next[kRows][Shape::kScales];
  const auto read = [&] {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int i = 0; i < Shape::kScales; ++i) {
        next[r][i] = 0.0f;
        if (lane + r * kLanes < plan.rows() && i * Shape::kFormatCols < cols)
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
    barrier_wait(share.empty(place.slot), place.parity);
    float* const to = share.scales(place.slot, 0) + lane;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int i = 0; i < Shape::kScales; ++i) {
        if (lane + r * kLanes < plan.rows()) to[i * plan.rows() + r * kLanes] = next[r][i] * (1.0f / kTableFactor);
      }
    }
    barrier_arrive_warp(share.full(place.slot));
    read();
    place.advance(plan.ring);
  }
}

// Two codebook values in f16, scaled and rounded to T.
template <class T>
__device__ __forceinline__ uint32_t scale_pair(uint32_t pair, float scale);
template <>
__device__ __forceinline__ uint32_t scale_pair<bf16>(uint32_t pair, float scale) {
  const float2 values = __half22float2(reinterpret_cast<const __half2&>(pair));
  const __nv_bfloat162 scaled = __floats2bfloat162_rn(values.x * scale, values.y * scale);
  return reinterpret_cast<const uint32_t&>(scaled);
}
template <>
__device__ __forceinline__ uint32_t scale_pair<f16>(uint32_t pair, float scale) {
  const float2 values = __half22float2(reinterpret_cast<const __half2&>(pair));
  const __half2 scaled = __floats2half2_rn(values.x * scale, values.y * scale);
  return reinterpret_cast<const uint32_t&>(scaled);
}

// A thread's sums of each tile. Element 4 i + e: column 8 i + 2 t + e % 2 of row g, or g + 8 for e >= 2.
template <class Shape>
using ScaledSums = float[Shape::kMostTiles][Shape::kSums];

// The first of a thread's rows, in the CTA.
__device__ __forceinline__ int scaled_row(int first_tile) {
  const int g = threadIdx.x % kWarpSize / 4;
  return first_tile * kTileRows + threadIdx.x / kWarpSize % kWarpgroupWarps * 16 + g;
}

// Multiplies the stages of the warpgroup's team by its tiles, the first of which is `first_tile` of the CTA's.
//
// Two warpgroups that do the same work take turns in giving it to the tensor cores, half of a decoding apart: then what
// lies between one's products has those of the other beside it. Left to themselves they would end and begin together.
template <class T, int Tiles, class Shape>
__device__ __forceinline__ void scaled_consume(const ScaledShare<Shape>& share, int team, int first_tile,
                                               ScaledSums<Shape>& sums) {
  constexpr int kUnits = Shape::kBlocks * Tiles;    // of a stage: a block of a tile
  constexpr int kStages = kUnits % 2 == 0 ? 1 : 2;  // after which the two operands A have changed places often enough
  constexpr int kBlockScales = kBlockCols / Shape::kFormatCols;
  const ScaledPlan& plan = share.plan;
  const PairTable::Lane table(share.shared);
  const uint32_t selector = PairTable::Lane::byte_selector(static_cast<int>(threadIdx.x % 4));
  const int row = scaled_row(first_tile);
  const uint32_t code_offset = row * Shape::kCodesRowBytes + (Shape::kBlocks == 2 ? row / 2 % 4 : row / 4 % 2) * 16;

  const int warpgroup = uniform(static_cast<int>(threadIdx.x) / kWarpgroupThreads);
  constexpr int kTurnBarrier = 3;  // and 4, for warpgroup 1
  const bool turns = plan.warpgroups == 2 && plan.tiles % 2 == 0;
  const auto pass_turn = [&](int to) { barrier_pass(kTurnBarrier + to, 2 * kWarpgroupThreads); };
  const auto take_turn = [&] { barrier_sync(kTurnBarrier + warpgroup, 2 * kWarpgroupThreads); };
  bool passes = turns && warpgroup == 1;  // the turn to the other; the first is warpgroup 0's

  uint32_t a[2][Shape::kSteps][4];  // of the unit under way, and of the next
  uint32_t done = 0;                // the barrier of the stage that was multiplied last
  const auto finish = [&] {
    wgmma_wait();
    if (passes) pass_turn(1 - warpgroup);
    if (turns && warpgroup == 0) take_turn();  // so that no barrier is left half full
  };
  RingPlace place;
  place.advance(plan.ring, team);
  for (int first = team; first < share.stages; first += kStages * plan.teams) {
#pragma unroll
    for (int s = 0; s < kStages; ++s) {
      if (s > 0 && first + s * plan.teams >= share.stages) {
        finish();
        return;
      }
      barrier_wait(share.full(place.slot), place.parity);
      const uint32_t codes = shared_address(share.codes(place.slot)) + code_offset;
      const uint32_t x = wgmma_lower(shared_address(share.x(place.slot)));
#pragma unroll
      for (int unit = 0; unit < kUnits; ++unit) {
        const int block = unit / Tiles;
        const int tile = unit % Tiles;
        const int buffer = (s * kUnits + unit) % 2;
        uint32_t words[2][8];  // rows g and g + 8
        float scales[2][kBlockScales];
#pragma unroll
        for (int lower = 0; lower < 2; ++lower) {
          const int below = tile * kTileRows + lower * 8;
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            const uint4 quad = load_shared_quad((codes ^ (block * 2 + half) * 16) + below * Shape::kCodesRowBytes);
            words[lower][half * 4] = quad.x;
            words[lower][half * 4 + 1] = quad.y;
            words[lower][half * 4 + 2] = quad.z;
            words[lower][half * 4 + 3] = quad.w;
          }
#pragma unroll
          for (int i = 0; i < kBlockScales; ++i)
            scales[lower][i] = share.scales(place.slot, block * kBlockScales + i)[row + below];
        }
#pragma unroll
        for (int step = 0; step < Shape::kSteps; ++step) {
          if (step == Shape::kSteps / 2 && passes) pass_turn(1 - warpgroup);
#pragma unroll
          for (int i = 0; i < 4; ++i)
            a[buffer][step][i] = scale_pair<T>(table.look_up(words[i % 2][step * 2 + i / 2], selector),
                                               scales[i % 2][step * kBlockScales / Shape::kSteps]);
          wgmma_settle(a[buffer][step]);
        }
        // The stage is there since long; but across a loop ptxas does not move what was computed above, to where it
        // would no longer overlap with the instructions under way.
        barrier_wait(share.full(place.slot), place.parity);
        wgmma_wait();
        if (unit == 0 && done != 0) barrier_arrive_warp(done);
        if (turns) take_turn();
        passes = turns;
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < Shape::kSteps; ++step)
          wgmma<T, Shape::kCols>(sums[tile], a[buffer][step], x + wgmma_step(block * Shape::kXBlockBytes + step * 32),
                                 true);
        wgmma_commit();
        __syncwarp();  // or the compiler has the next look-ups delay the instructions that it moves behind them
      }
      done = share.empty(place.slot);
      place.advance(plan.ring, plan.teams);
    }
  }
  finish();
}

// Leaves a thread's sums of `tiles` tiles in shared memory.
template <class Shape>
__device__ __forceinline__ void scaled_store(const ScaledShare<Shape>& share, int team, int first_tile, int tiles,
                                             const ScaledSums<Shape>& sums) {
  float* const to = share.sums(team) + scaled_row(first_tile);
#pragma unroll
  for (int tile = 0; tile < Shape::kMostTiles; ++tile) {
    if (tile == tiles) break;
#pragma unroll
    for (int i = 0; i < Shape::kSums; ++i) {
      const int col = i / 4 * 8 + 2 * (threadIdx.x % 4) + i % 2;
      to[col * share.sum_pitch() + tile * kTileRows + i / 2 % 2 * 8] = sums[tile][i];
    }
  }
}

// Adds up the sums of all teams of the cluster, and writes y.
template <class T, class Shape>
__device__ void scaled_finish(const ScaledShare<Shape>& share, T* y, int64_t ldy, int m, int64_t rows, const T* bias) {
  const ScaledPlan& plan = share.plan;
  const Partials partials{share.sums(0), share.sum_pitch(), Shape::kCols * share.sum_pitch(),
                          plan.teams,    plan.cluster,      share.rank};
  const int here = static_cast<int>(min(rows - share.row, int64_t{plan.rows()}));
  write_totals(partials, y + share.col_begin * ldy + share.row, ldy, here, min(m - share.col_begin, Shape::kCols),
               bias == nullptr ? bias : bias + share.row);
}

template <class T, class Shape>
__global__ void __launch_bounds__(Shape::kThreads, 1)
    gemm_scaled_wgmma(T* y,         // [m, weight.rows]
                      int64_t ldy,  // elements
                      int m, const __grid_constant__ Weight weight,
                      const T* bias,  // [weight.rows] or null
                      const __grid_constant__ ScaledPlan plan, const __grid_constant__ CUtensorMap codes_map,
                      const __grid_constant__ CUtensorMap x_map) {
  if constexpr (kHasScaledWgmma) {
    extern __shared__ __align__(1024) uint8_t shared[];
    const ScaledShare<Shape> share(plan, shared);
    const int warp = uniform(static_cast<int>(threadIdx.x) / kWarpSize);
    const int warpgroup = warp / kWarpgroupWarps;

    // Up to wait_for_dependencies() nothing may depend on what the kernels before wrote.
    launch_dependents();
    if (threadIdx.x < plan.ring) {
      barrier_init(share.full(threadIdx.x), 1 + kScaleWarps * kWarpArrivals);
      barrier_init(share.empty(threadIdx.x), plan.warpgroups * kWarpgroupWarps * kWarpArrivals);
    }
    barrier_init_fence();
    __syncthreads();

    if (warpgroup == share.consumers()) {
      give_up_registers<Shape::kProducerRegisters>();
      barrier_pass(kTableBarrier, static_cast<int>(blockDim.x));
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
      barrier_pass(kReadBarrier, static_cast<int>(blockDim.x));
    } else {
      take_registers<Shape::kConsumerRegisters>();
      PairTable::fill(shared, plan.codebook, share.consumers() * kWarpgroupWarps);
      barrier_sync(kTableBarrier, static_cast<int>(blockDim.x));
      const int team = warpgroup / plan.warpgroups;
      const int first_tile = warpgroup % plan.warpgroups * plan.warpgroup_tiles;
      const int tiles = min(plan.warpgroup_tiles, plan.tiles - first_tile);
      ScaledSums<Shape> sums{};
      if (Shape::kMostTiles > 1 && tiles > 1) {
        scaled_consume<T, Shape::kMostTiles>(share, team, first_tile, sums);
      } else {
        scaled_consume<T, 1>(share, team, first_tile, sums);
      }
      barrier_sync(kReadBarrier, static_cast<int>(blockDim.x));  // all stages have come, and nobody reads them any more
      scaled_store<Shape>(share, team, first_tile, tiles, sums);
      wait_for_dependencies();  // before y is written, here too
    }

    __syncthreads();
    if (plan.cluster > 1) cluster_barrier();
    scaled_finish<T>(share, y, ldy, m, weight.rows, bias);
    if (plan.cluster > 1) cluster_barrier();  // nobody leaves while others read its sums
  }
}

namespace {

// The most that a launch uses: what does not fit is narrowed, see lay_out().
struct Config {
  int cols;     // rows of x in a tile
  int tiles;    // of 64 rows of W, of a CTA
  int teams;    // that take stages in turn
  int cluster;  // CTAs that split K

  std::string text() const {
    return "cols=" + std::to_string(cols) + " tiles=" + std::to_string(tiles) + " teams=" + std::to_string(teams) +
           " cluster=" + std::to_string(cluster);
  }
};

constexpr Config kConfigs[] = {
    {256, 2, 1, 1}, {128, 4, 1, 1}, {128, 2, 1, 1}, {256, 2, 1, 2}, {128, 4, 1, 2}, {128, 2, 1, 2},
    {256, 2, 1, 4}, {128, 2, 1, 4}, {128, 1, 2, 4}, {128, 2, 1, 8}, {256, 2, 1, 8}, {128, 1, 2, 8},
};

struct Launch {
  ScaledPlan plan;
  int64_t row_tiles;
  int threads;
  int shared_bytes;
};

// Lays out shared memory with as long a ring as it holds. For less, teams go first, then tiles.
template <class Shape>
bool lay_out(int64_t n, int64_t k, const Device& device, const Config& config, Launch& launch) {
  constexpr int kBarrierBytes = kMostRing * 16;
  const int room = device.shared_memory - PairTable::kBytes - kBarrierBytes;
  ScaledPlan& plan = launch.plan;
  plan.cluster = config.cluster;
  plan.stages = Shares::of(ceil_div(k, Shape::kStageCols), config.cluster);
  for (plan.tiles = std::min(config.tiles, Shape::kConsumers * Shape::kMostTiles); plan.tiles > 0; --plan.tiles) {
    const int stage_bytes = plan.rows() * Shape::kRowBytes + Shape::kXBytes;
    plan.warpgroup_tiles = static_cast<int>(ceil_div(plan.tiles, Shape::kConsumers));
    plan.warpgroups = static_cast<int>(ceil_div(plan.tiles, plan.warpgroup_tiles));
    const int most_teams = std::min(config.teams, Shape::kConsumers / plan.warpgroups);
    for (plan.teams = most_teams; plan.teams > 0; --plan.teams) {
      const int sum_bytes = plan.teams * Shape::kCols * (plan.rows() + 4) * static_cast<int>(sizeof(float));
      // Every place of the ring has its team, so that none gets ahead of another there.
      plan.ring = std::min(kMostRing, room / stage_bytes) / plan.teams * plan.teams;
      if (plan.ring < 2 || sum_bytes > room) continue;
      plan.scales = PairTable::kBytes + plan.ring * (plan.rows() * Shape::kCodesRowBytes + Shape::kXBytes);
      plan.barriers = PairTable::kBytes + std::max(plan.ring * stage_bytes, sum_bytes);
      launch.row_tiles = ceil_div(n, plan.rows());
      launch.threads = (plan.warpgroups * plan.teams + 1) * kWarpgroupThreads;
      launch.shared_bytes = plan.barriers + kBarrierBytes;
      return true;
    }
  }
  return false;
}

// Multiplies rows m0 to m0 + m of x.
template <class T, class Shape>
int launch_rows(const GemmArgs& args, int64_t m0, int64_t m, const Device& device, Launch& launch, Stream stream) {
  constexpr auto kKernel = gemm_scaled_wgmma<T, Shape>;
  if (const int error = allow_shared_memory<kKernel>(device.ordinal, device.shared_memory); error != cudaSuccess)
    return error;
  ScaledPlan& plan = launch.plan;
  plan.col_tiles = static_cast<int>(ceil_div(m, Shape::kCols));
  plan.constant_weights = args.weight.constant;
  for (int code = 0; code < 16; ++code) plan.codebook[code] = from_float<f16>(kCodebook[code] * kTableFactor).bits;

  const Weight& weight = args.weight;
  CUtensorMap codes_map{};
  if (const int error = encode_tensor_map(&codes_map, CU_TENSOR_MAP_DATA_TYPE_UINT8, weight.codes, weight.rows,
                                          weight.cols / 2, weight.cols / 2, plan.rows(), Shape::kCodesRowBytes);
      error != cudaSuccess) {
    return error;
  }
  // The only row of an x may be followed by any distance.
  const int64_t ldx = args.m > 1 ? args.ldx : weight.cols;
  CUtensorMap x_map{};
  if (const int error =
          encode_tensor_map(&x_map, CU_TENSOR_MAP_DATA_TYPE_UINT16, static_cast<const T*>(args.x) + m0 * ldx, m,
                            weight.cols, ldx * static_cast<int64_t>(sizeof(T)), Shape::kCols, kBlockCols);
      error != cudaSuccess) {
    return error;
  }

  const Blocks blocks{launch.row_tiles * plan.col_tiles * plan.cluster, launch.threads, launch.shared_bytes,
                      plan.cluster, true};
  return nf4::launch(kKernel, blocks, stream, static_cast<T*>(args.y) + m0 * args.ldy, args.ldy, static_cast<int>(m),
                     weight, static_cast<const T*>(args.bias), plan, codes_map, x_map);
}

// Calls f with the number of rows of x that a tile shall have, a compile-time value.
template <class F>
auto with_cols(int64_t m, F&& f) {
  return m > 128 ? f(Constant<256>{}) : f(Constant<128>{});
}

int launch_gemm_scaled_wgmma(const GemmArgs& args, const Device& device, int config_index, Stream stream) {
  constexpr int64_t kMostBlocks = int64_t{1} << 30;  // of a launch
  const Config& config = kConfigs[config_index];
  const Weight& weight = args.weight;
  return with_cols(std::min<int64_t>(args.m, config.cols), [&](auto cols) {
    const auto with_shape = [&](auto shape) {
      using Shape = decltype(shape);
      Launch launch;
      if (!lay_out<Shape>(weight.rows, weight.cols, device, config, launch))
        return static_cast<int>(cudaErrorInvalidConfiguration);
      const int64_t most = kMostBlocks / (launch.row_tiles * launch.plan.cluster) * Shape::kCols;
      int error = cudaSuccess;
      for (int64_t m0 = 0; m0 < args.m && error == cudaSuccess; m0 += most) {
        const int64_t m = std::min(args.m - m0, most);
        error = args.dtype == Dtype::bf16 ? launch_rows<bf16, Shape>(args, m0, m, device, launch, stream)
                                          : launch_rows<f16, Shape>(args, m0, m, device, launch, stream);
      }
      return error;
    };
    constexpr int kCols = decltype(cols)::value;
    return weight.log2_blocksize == 5 ? with_shape(ScaledShape<kCols, 32>{}) : with_shape(ScaledShape<kCols, 64>{});
  });
}

const char* unsupported(const Problem& problem, const Device& device) {
  if (problem.dtype == Dtype::f32) return "the tensor cores take 16-bit values, for f16 and bf16 activations";
  if (device.architecture != kScaledArchitecture) return "it needs code for compute capability 9.0a, on such a device";
  if (problem.k == 0 || problem.k % kBlockCols != 0) return "k must be a multiple of 64, and not 0";
  if (problem.alignment < 16) return "x, its rows and the codes must be aligned to 16 bytes";
  if (problem.n > int64_t{1} << 30 || problem.k > int64_t{1} << 30) return "n and k must be 2^30 at most";
  Launch launch;
  if (!lay_out<ScaledShape<256, 32>>(problem.n, problem.k, device, {256, 1, 1, 1}, launch))
    return "shared memory must hold the pair table and two stages";
  return nullptr;
}

constexpr Variant kVariants[] = {
    {"gemm.scaled_wgmma", "weights scaled in registers and warpgroup tensor cores, for many rows of x", "scaled16",
     Op::gemm, false, static_cast<int>(std::size(kConfigs)), config_text<kConfigs>, unsupported, nullptr,
     erased<GemmArgs, launch_gemm_scaled_wgmma>},
};

}  // namespace

std::span<const Variant> gemm_scaled_wgmma_variants() { return kVariants; }

}  // namespace nf4
