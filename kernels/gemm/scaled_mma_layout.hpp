// How gemm.scaled_mma divides its work among CTAs and warps, and where it keeps things in shared memory: what the host
// works out for a launch, in plain C++, so that it is tested for all sizes without a GPU.
//
//     shared memory     pair table, in its holes and behind it the lines | barriers | maps of nested absmax
//
// Lines, tiles, steps and their division are those of gemm.pair_multistage. Only x comes through shared memory: codes
// and scales are for one warp alone.
#pragma once

#include <algorithm>
#include <climits>
#include <cstdint>
#include <span>
#include <string>

#include "device/math.hpp"
#include "device/warp.hpp"
#include "gemm/hole_lines.hpp"
#include "gemm/pair_multistage_layout.hpp"
#include "problem.hpp"

namespace nf4 {

constexpr int kScaledMmaMostRing = 8;  // blocks of x
constexpr int kScaledMmaLeastRing = 2;

// What a warp multiplies its 32 rows of W by: ColTiles times 8 rows of x.
template <int ColTiles>
struct ScaledMmaSizes {
  static constexpr int kColTiles = ColTiles;
  static constexpr int kCols = 8 * ColTiles;
  // Warps: of 12 each has up to 168 registers, of 8 255. They are dealt to 4 schedulers, so another one would take as
  // many as four.
  static constexpr int kMostGroups = ColTiles <= 8 ? 12 : 8;
  static constexpr int kThreads = kMostGroups * kWarpSize;
  static constexpr int kPartFloats = kMultistageWarpRows * kCols;  // sums of a warp
};

struct ScaledMmaConfig {
  int rows;  // of W, in a tile, at most
  int cols;  // of x
  MultistageSplit split;

  std::string text() const {
    return "rows=" + std::to_string(rows) + " cols=" + std::to_string(cols) + " split=" + name_of(split);
  }
};

constexpr ScaledMmaConfig kScaledMmaConfigs[] = {
    {256, 128, MultistageSplit::tiles},
    {256, 128, MultistageSplit::even},
    {384, 64, MultistageSplit::even},
    {256, 64, MultistageSplit::even},
};

// Calls f(sizes) for the config's columns.
template <class F>
auto with_scaled_mma_sizes(const ScaledMmaConfig& config, const F& f) {
  return config.cols == 64 ? f(ScaledMmaSizes<8>{}) : f(ScaledMmaSizes<16>{});
}

// What the host works out for a launch. Of the multistage plan there is the ring of x alone.
struct ScaledMmaPlan : MultistagePlan {
  int col_tiles;  // of x: a tile of W is as many of the launch's, one after the other
};

constexpr int64_t scaled_mma_counter_bytes(int ctas, int groups) {
  return ceil_div(int64_t{ctas} * groups * 8, 256) * 256;
}
// Bytes of workspace, for as many groups as a config can have.
template <class Sizes>
constexpr int64_t scaled_mma_workspace(int ctas, const ScaledMmaConfig& config) {
  const int groups = std::min(config.rows / kMultistageWarpRows, Sizes::kMostGroups);
  return config.split == MultistageSplit::tiles
             ? 0
             : scaled_mma_counter_bytes(ctas, groups) + int64_t{2} * ctas * groups * Sizes::kPartFloats * 4;
}

// A layout for products of m rows of x by W of so many `rows` each, [.., k]; false if there is no room. `maps` is how
// many maps of nested scales there are. m is lowered to what one launch can take.
template <class Sizes>
bool lay_out_scaled_mma(std::span<const int64_t> rows, int64_t k, int64_t& m, int maps, const Device& device,
                        const ScaledMmaConfig& config, ScaledMmaPlan& plan) {
  constexpr int kBarrierBytes = 512;
  const int64_t largest = *std::max_element(rows.begin(), rows.end());
  plan.groups = static_cast<int>(std::clamp<int64_t>(ceil_div(largest, kMultistageWarpRows), 1,
                                                     std::min(config.rows / kMultistageWarpRows, Sizes::kMostGroups)));
  plan.teams = 1;
  plan.rows = plan.groups * kMultistageWarpRows;
  plan.barriers = device.shared_memory - maps * kMapSize * static_cast<int>(sizeof(float)) - kBarrierBytes;
  plan.maps = plan.barriers + kBarrierBytes;
  plan.shared_bytes = device.shared_memory;
  plan.threads = plan.groups * kWarpSize;
  plan.blocks = static_cast<int>(k / kPairBlock);
  plan.stages = static_cast<int>(ceil_div(plan.blocks, kMultistageBlocks));
  HoleLines lines(plan.barriers);
  plan.x_ring = kScaledMmaMostRing;
  while (!lines.take(plan.x_ring, Sizes::kCols, plan.x)) {
    if (--plan.x_ring < kScaledMmaLeastRing) return false;
  }

  constexpr int64_t kMost = int64_t{1} << 30;  // steps of a launch, and rows of x, which a kernel counts as int
  const int64_t row_tiles = std::max<int64_t>(1, count_tiles(rows, plan.rows));
  const int64_t most = std::min(kMost / (row_tiles * plan.stages), kMost / Sizes::kCols);
  m = std::min(m, most * Sizes::kCols);
  plan.col_tiles = static_cast<int>(std::max<int64_t>(1, ceil_div(m, Sizes::kCols)));
  plan.unit = config.split == MultistageSplit::even ? 1 : plan.stages;
  const int64_t units = row_tiles * plan.col_tiles * (plan.stages / plan.unit);
  plan.shares = Shares::of(units, static_cast<int>(std::min<int64_t>(units, std::max(1, device.clusters(1)))));
  return true;
}

}  // namespace nf4
