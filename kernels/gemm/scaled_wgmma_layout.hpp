// How gemm.scaled_wgmma divides its work among tiles and stages, and where it keeps things in shared memory: what the
// host works out for a launch, in plain C++, so that it is tested for all sizes without a GPU.
//
//     shared memory     pair table, in its holes the scales | ring of stages; in the end, sums
//                       | barriers: full and empty of each stage, turns of the warpgroups
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "device/math.hpp"
#include "device/ring.hpp"
#include "device/shares.hpp"
#include "device/warp.hpp"
#include "dispatch.hpp"
#include "gemm/pair_codebook.hpp"
#include "gemm/pair_sizes.hpp"
#include "gemm/sum_tile.hpp"
#include "problem.hpp"

namespace nf4 {

constexpr int kScaledArchitecture = 90;
constexpr int kScaledMostRing = 8;
constexpr int kScaledScaleWarps = kWarpgroupWarps - 1;  // producers of scales; the first warp copies
constexpr int kScaledHoleRows = kWarpSize;              // whose scales fill a hole of the pair table
constexpr int kScaledRegisters = 1 << 16;               // of an SM
constexpr int kScaledProducerRegisters = 56;

// The kernel for tiles of Rows rows of W, a multiple of 64, by up to Cols rows of x: 64, 128 or 256. Blocks of the
// format have FormatCols columns, or a multiple: 64, or 32. Where W is transposed, read its columns where here and
// below rows of W are spoken of, and its rows for K.
template <int Rows, int Cols, int FormatCols, bool Transposed = false>
struct ScaledShape {
  static constexpr int kRows = Rows;
  static constexpr int kCols = Cols;
  static constexpr int kFormatCols = FormatCols;
  static constexpr bool kTransposed = Transposed;
  static constexpr int kConsumers = Rows / 64;  // warpgroups
  static constexpr int kConsumerThreads = kConsumers * kWarpgroupThreads;
  static constexpr int kThreads = kConsumerThreads + kWarpgroupThreads;
  static constexpr int kConsumerRegisters =
      (kScaledRegisters - kScaledProducerRegisters * kWarpgroupThreads) / kConsumerThreads / 8 * 8;
  static constexpr int kSumPitch = sum_pitch(Rows);    // floats
  static constexpr int kBlocks = Cols <= 128 ? 2 : 1;  // of a stage
  static constexpr int kStages = 2 / kBlocks;          // that are multiplied in a round
  static constexpr int kStageCols = kBlocks * kPairBlock;
  static constexpr int kCodesRows = Transposed ? kStageCols : Rows;              // as they lie in memory
  static constexpr int kCodesRowBytes = (Transposed ? Rows : kStageCols) / 2;    // of each in a stage
  static constexpr int kScales = (Transposed ? Rows : kStageCols) / FormatCols;  // the same
  static constexpr int kCodesBytes = kCodesRows * kCodesRowBytes;
  static constexpr int kXBlockBytes = Cols * kPairBlockXBytes;
  static constexpr int kXBytes = kBlocks * kXBlockBytes;
  static constexpr int kStageBytes = kXBytes + kCodesBytes;
  static constexpr int kSumBytes = sum_bytes(Rows, Cols);
  static_assert(kScaledMostRing * kScales * kCodesRows / kScaledHoleRows <= PairTableSizes::kEntries,
                "scales must fit into the holes");
};

// What the host works out for a launch.
struct ScaledPlan {
  int stages;             // of a tile, whole rounds: of the last one the second may lie past K, and is zeros
  Shares shares;          // of a tile's rounds, among the CTAs of a cluster; or of those of the tiles past `whole`
  int whole;              // tiles of each CTA, where CTAs have even shares
  int cluster;            // CTAs
  int col_tiles;          // of x
  int ring;               // stages
  int barriers;           // offset in shared memory, bytes
  bool constant_weights;  // they may be read before the kernels before have completed
  PairCodebook codebook;  // f16, times kScaledTableFactor; as a parameter it is at hand when the kernel starts
  uint64_t launch;        // see meeting.cuh
  uint64_t* counters;     // in the workspace, [CTAs][warps]
  float* parts;           // the same, [CTAs][2][warps][sums of a warp]
};

// What a CTA has of a tile.
struct ScaledPart {
  int64_t row;  // of W, the tile's first
  int col;      // row of x, the tile's first
  int stage_begin, stages;
  int step;  // the part's first round among those that CTAs share; -1 of a whole tile

  // Rounds `begin` to `end` of a tile.
  template <class Shape>
  static constexpr ScaledPart of(const ScaledPlan& plan, int tile, int begin, int end, int step) {
    return {int64_t{tile / plan.col_tiles} * Shape::kRows, tile % plan.col_tiles * Shape::kCols, begin * Shape::kStages,
            (end - begin) * Shape::kStages, step};
  }
  // Column of W where a stage begins.
  template <class Shape>
  constexpr int k(int stage) const {
    return (stage_begin + stage) * Shape::kStageCols;
  }
};

// The part of a CTA in a cluster.
template <class Shape>
constexpr ScaledPart cluster_part(const ScaledPlan& plan, int cta) {
  const int rank = cta % plan.cluster;
  return ScaledPart::of<Shape>(plan, cta / plan.cluster, plan.shares.begin(rank), plan.shares.begin(rank + 1), -1);
}

// Part `i` of a CTA that has an even share; false if it has not so many.
template <class Shape>
constexpr bool even_part(const ScaledPlan& plan, int cta, int i, ScaledPart& part) {
  const int rounds = plan.stages / Shape::kStages;  // of a tile
  if (i < plan.whole) {
    part = ScaledPart::of<Shape>(plan, i * plan.shares.count + cta, 0, rounds, -1);
    return true;
  }
  const int begin = plan.shares.begin(cta), end = plan.shares.begin(cta + 1);
  const int tile = begin / rounds + i - plan.whole;
  const int first = tile * rounds;
  const int from = std::max(first, begin), to = std::min(first + rounds, end);
  if (from >= to) return false;
  part = ScaledPart::of<Shape>(plan, plan.whole * plan.shares.count + tile, from - first, to - first,
                               to - from == rounds ? -1 : from);
  return true;
}

constexpr int kScaledEven = 0;  // in place of a cluster: CTAs have even shares

struct ScaledConfig {
  int rows, cols;  // of W and of x in a tile
  int cluster;     // CTAs that split K, or kScaledEven

  std::string text() const {
    return "rows=" + std::to_string(rows) + " cols=" + std::to_string(cols) +
           (cluster == kScaledEven ? " split=even" : " cluster=" + std::to_string(cluster));
  }
};

constexpr ScaledConfig kScaledConfigs[] = {
    {128, 256, 1}, {128, 256, 2}, {128, 256, 4}, {128, 256, 8}, {128, 256, kScaledEven},
    {128, 128, 1}, {128, 128, 2}, {128, 128, 4}, {128, 128, 8}, {128, 128, kScaledEven},
    {192, 128, 1}, {192, 128, 2}, {192, 128, 4}, {192, 128, 8},
};

constexpr ScaledConfig kScaledTransposedConfigs[] = {
    {128, 256, 1}, {128, 256, 2}, {128, 256, 4}, {128, 256, 8}, {128, 256, kScaledEven},
    {128, 128, 1}, {128, 128, 2}, {128, 128, 4}, {128, 128, 8}, {128, 128, kScaledEven},
};

// Workspace of an even division among so many CTAs.
constexpr int64_t scaled_counter_bytes(const ScaledConfig& config, int ctas) {
  return ceil_div(int64_t{ctas} * (config.rows / 16) * 8, 256) * 256;
}
constexpr int64_t scaled_workspace(const ScaledConfig& config, int ctas) {
  if (config.cluster != kScaledEven) return 0;
  return scaled_counter_bytes(config, ctas) +
         int64_t{2} * ctas * config.rows * config.cols * static_cast<int>(sizeof(float));
}

struct ScaledLaunch {
  ScaledPlan plan;
  int64_t row_tiles;
  int64_t most_rows;  // of x that a launch has blocks for
  int shared_bytes;
};

// Calls take(ScaledShape) with the config's tile, for blocks of the format from `blocksize` columns on.
template <bool Transposed = false, class Take>
auto with_scaled_shape(const ScaledConfig& config, int blocksize, const Take& take) {
  const auto with_tile = [&](auto rows, auto cols) {
    constexpr int kRows = decltype(rows)::value, kCols = decltype(cols)::value;
    return blocksize == 32 ? take(ScaledShape<kRows, kCols, 32, Transposed>{})
                           : take(ScaledShape<kRows, kCols, 64, Transposed>{});
  };
  if (config.cols == 256) return with_tile(Constant<128>{}, Constant<256>{});
  if constexpr (!Transposed) {  // as configs have it
    if (config.rows == 192) return with_tile(Constant<192>{}, Constant<128>{});
  }
  return with_tile(Constant<128>{}, Constant<128>{});
}

template <class Shape>
constexpr int kScaledBarrierBytes = kScaledMostRing* kStageBarrierBytes + Shape::kConsumers * 8;

// Shared memory of a block whose ring has so many stages.
template <class Shape>
constexpr int scaled_shared_bytes(int ring) {
  return PairTableSizes::kBytes + std::max(ring * Shape::kStageBytes, Shape::kSumBytes) + kScaledBarrierBytes<Shape>;
}

// What any config takes at least, for a ring of 2.
constexpr int kScaledLeastBytes =
    std::max({scaled_shared_bytes<ScaledShape<128, 256, 64>>(2), scaled_shared_bytes<ScaledShape<128, 128, 64>>(2),
              scaled_shared_bytes<ScaledShape<192, 128, 64>>(2)});

// With as long a ring as shared memory holds.
template <class Shape>
ScaledLaunch lay_out_scaled(int64_t n, int64_t k, const Device& device, const ScaledConfig& config) {
  constexpr int64_t kMost = int64_t{1} << 30;  // blocks of a launch, and rows of x, which a kernel counts as int
  ScaledLaunch launch{};
  ScaledPlan& plan = launch.plan;
  plan.cluster = std::max(config.cluster, 1);
  const auto rounds = static_cast<int>(ceil_div(k, Shape::kStages * Shape::kStageCols));
  plan.stages = rounds * Shape::kStages;
  plan.shares = Shares::of(rounds, plan.cluster);
  plan.ring = 2;
  while (plan.ring < kScaledMostRing && scaled_shared_bytes<Shape>(plan.ring + 1) <= device.shared_memory) ++plan.ring;
  launch.row_tiles = ceil_div(n, Shape::kRows);
  launch.most_rows = std::min(kMost / (launch.row_tiles * plan.cluster), kMost / Shape::kCols) * Shape::kCols;
  launch.shared_bytes = scaled_shared_bytes<Shape>(plan.ring);
  plan.barriers = launch.shared_bytes - kScaledBarrierBytes<Shape>;
  return launch;
}

// Gives so many CTAs their shares of all tiles: whole ones, and of those that are left, fewer than two for each, the
// rounds. There are fewer CTAs where int could not count those.
template <class Shape>
void share_evenly(ScaledPlan& plan, int64_t tiles, int ctas) {
  ctas = std::clamp((1 << 29) / (plan.stages / Shape::kStages), 1, ctas);
  plan.whole = static_cast<int>(tiles / ctas);
  if (tiles % ctas != 0 && plan.whole > 0) --plan.whole;
  const int64_t steps = (tiles - int64_t{plan.whole} * ctas) * (plan.stages / Shape::kStages);
  plan.shares = Shares::of(steps, plan.whole > 0 ? ctas : static_cast<int>(std::min<int64_t>(steps, ctas)));
}

}  // namespace nf4
