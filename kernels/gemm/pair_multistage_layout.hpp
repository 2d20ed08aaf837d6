// How gemm.pair_multistage divides its work among CTAs, warps and stages, and where it keeps things in shared memory:
// what the host works out for a launch, in plain C++, so that it is tested for all sizes without a GPU.
//
//     shared memory     pair table, in its holes and behind it the lines | barriers | maps of nested absmax
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <numeric>
#include <span>
#include <string>

#include "device/math.hpp"
#include "device/shares.hpp"
#include "device/warp.hpp"
#include "format/absmax.hpp"
#include "gemm/hole_lines.hpp"
#include "gemm/pair_codebook.hpp"
#include "gemm/pair_sizes.hpp"
#include "gemm/tiles.hpp"
#include "problem.hpp"

namespace nf4 {

constexpr int kMultistageBlocks = kPairBoxBlocks;  // of 64 columns, in a stage: a row's codes are a line
constexpr int kMultistageRowTiles = 2;             // operands A of a warp
constexpr int kMultistageWarpRows = 16 * kMultistageRowTiles;
constexpr int kMultistageMostGroups = 4;  // of warps with rows of their own: each has barriers (bar.sync) of its own
constexpr int kMultistageMostRing = 6;

// What a warp multiplies its rows of W by: ColTiles times 8 rows of x.
template <int ColTiles>
struct MultistageSizes {
  static constexpr int kColTiles = ColTiles;
  static constexpr int kCols = 8 * ColTiles;
  // Warps: of 16 each has up to 128 registers, of 20 96.
  static constexpr int kMostConsumers = ColTiles == 1 ? 16 : 12;
  static constexpr int kWeightProducers = 2;  // bring codes and scales
  static constexpr int kXProducers = 2;       // bring x
  static constexpr int kProducers = kWeightProducers + kXProducers;
  static constexpr int kThreads = (kMostConsumers + kProducers) * kWarpSize;
  static constexpr int kPartFloats = kMultistageWarpRows * kCols;  // sums of a warp
};

// How the steps of a launch, a stage of a tile each, are dealt to CTAs: all alike (stream-K), where the sums of a tile
// that several of them have meet in the workspace; or whole tiles.
enum class MultistageSplit { even, tiles };

constexpr const char* name_of(MultistageSplit split) { return split == MultistageSplit::even ? "even" : "tiles"; }

// The most that a launch uses: what does not fit into shared memory or registers is narrowed, see
// lay_out_multistage().
struct MultistageConfig {
  int rows;   // of W, in a tile
  int teams;  // of warps, that take blocks in turn
  MultistageSplit split;

  std::string text() const {
    return "rows=" + std::to_string(rows) + " teams=" + std::to_string(teams) + " split=" + name_of(split);
  }
};

constexpr MultistageConfig kMultistageConfigs[] = {
    {128, 4, MultistageSplit::tiles}, {128, 4, MultistageSplit::even}, {96, 4, MultistageSplit::even},
    {64, 6, MultistageSplit::tiles},  {64, 6, MultistageSplit::even},  {32, 8, MultistageSplit::tiles},
    {32, 8, MultistageSplit::even},
};

// What the host works out for a launch. Offsets are bytes in shared memory.
struct MultistagePlan {
  Shares shares;          // of units, among CTAs
  int unit;               // steps: 1, or those of a tile
  int stages;             // of a tile
  int blocks;             // of a row of W
  int rows;               // of a tile
  int groups;             // of warps, each with kMultistageWarpRows rows
  int teams;              // warps of a group, that take blocks in turn
  int ring;               // stages
  int x_ring;             // blocks of x, a multiple of the teams
  int scale_ring;         // pairs of stages
  LineSlots codes;        // of a stage: a line a row of W
  LineSlots x;            // of a block: a line a row of x
  LineSlots scales;       // of two stages: a line 4 rows of W
  int barriers;           // see MultistageShare
  int maps;               // of nested absmax, one for each product
  int threads;            // of a CTA
  int shared_bytes;       // of a CTA
  bool quads;             // see quad_scales()
  PairCodebook codebook;  // in x's type
  uint64_t launch;        // see meeting.cuh
  uint64_t* counters;     // in the workspace, [CTAs][groups]
  float* parts;           // the same, [2 CTAs][groups][sums of a warp]

  constexpr int consumers() const { return groups * teams; }               // warps
  constexpr int begin(int cta) const { return shares.begin(cta) * unit; }  // step
};

// Bytes of workspace for the counters of so many CTAs, and in all for one pass of `cols` rows of x.
constexpr int64_t multistage_counter_bytes(int ctas) {
  return ceil_div(int64_t{ctas} * kMultistageMostGroups * 8, 256) * 256;
}
constexpr int64_t multistage_workspace(int ctas, int cols, MultistageSplit split) {
  const int64_t parts = int64_t{2} * ctas * kMultistageMostGroups;
  return split == MultistageSplit::tiles
             ? 0
             : multistage_counter_bytes(ctas) + parts * kMultistageWarpRows * cols * static_cast<int>(sizeof(float));
}

// A layout for products by W of so many `rows` each, [.., k], with as much of the config as there is room for; false if
// there is none. `maps` is how many maps of nested scales there are.
template <class Sizes>
bool lay_out_multistage(std::span<const int64_t> rows, int64_t k, int maps, const Device& device,
                        const MultistageConfig& config, MultistagePlan& plan) {
  constexpr int kBarrierBytes = 1024;
  const int64_t largest = *std::max_element(rows.begin(), rows.end());
  const int most_groups =
      static_cast<int>(std::clamp<int64_t>(ceil_div(largest, kMultistageWarpRows), 1,
                                           std::min(config.rows / kMultistageWarpRows, Sizes::kMostConsumers / 2)));
  const int ctas = std::max(1, device.clusters(1));
  for (plan.groups = most_groups; plan.groups > 0; --plan.groups) {
    plan.teams = std::min(config.teams, Sizes::kMostConsumers / plan.groups);
    plan.rows = plan.groups * kMultistageWarpRows;
    plan.barriers = device.shared_memory - maps * kMapSize * static_cast<int>(sizeof(float)) - kBarrierBytes;
    plan.maps = plan.barriers + kBarrierBytes;
    plan.shared_bytes = device.shared_memory;
    plan.threads = (plan.consumers() + Sizes::kProducers) * kWarpSize;
    plan.blocks = static_cast<int>(k / kPairBlock);
    plan.stages = static_cast<int>(ceil_div(plan.blocks, kMultistageBlocks));
    // The longest ring with x for two stages, else one with x for one.
    bool found = false;
    for (const int least_x : {2 * kMultistageBlocks, kMultistageBlocks, 1}) {
      const int takers = std::lcm(plan.teams, Sizes::kXProducers);  // each place has its own
      plan.x_ring = static_cast<int>(ceil_div(least_x, takers)) * takers;
      for (plan.ring = kMultistageMostRing; plan.ring > 1; --plan.ring) {
        // Two stages more than are in the ring, so that scales are there when codes are.
        plan.scale_ring = plan.ring / 2 + 1;
        HoleLines lines(plan.barriers);
        found = lines.take(plan.x_ring, Sizes::kCols, plan.x) &&
                lines.take(plan.scale_ring, plan.rows / 4, plan.scales) && lines.take(plan.ring, plan.rows, plan.codes);
        if (found) break;
      }
      if (found) break;
    }
    if (!found) continue;
    const int64_t tiles = std::max<int64_t>(1, count_tiles(rows, plan.rows));
    plan.unit = config.split == MultistageSplit::even ? 1 : plan.stages;
    const int64_t units = tiles * (plan.stages / plan.unit);
    plan.shares = Shares::of(units, static_cast<int>(std::min<int64_t>(units, ctas)));
    return true;
  }
  return false;
}

}  // namespace nf4
