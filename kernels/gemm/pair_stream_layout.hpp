// How gemm.pair_stream divides its work among tiles, teams and stages, and where it keeps things in shared memory: what
// the host works out for a launch, in plain C++, so that it is tested for all sizes without a GPU.
//
//     shared memory     pair table, in its holes the scales | ring of stages; in the end, sums of all teams
//                       | barriers: full, empty | map of nested absmax
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <limits>
#include <numeric>
#include <span>
#include <string>

#include "device/math.hpp"
#include "device/ring.hpp"
#include "device/shares.hpp"
#include "device/tma.hpp"
#include "device/warp.hpp"
#include "format/absmax.hpp"
#include "gemm/pair_codebook.hpp"
#include "gemm/pair_sizes.hpp"
#include "gemm/sum_tile.hpp"
#include "gemm/tiles.hpp"
#include "problem.hpp"

namespace nf4 {

constexpr int kStreamBlocks = kPairBoxBlocks;  // of a stage
constexpr int kStreamMostRing = 8;
constexpr int kStreamRows = 32;  // of W, that a warp multiplies: two operands A
constexpr int kStreamMostTeams = 4;
constexpr int kStreamHoleRows =
    PairTableSizes::kFreeBytes / PairTableSizes::kEntries / (kStreamBlocks * 4);  // whose scales fill a hole

// What a warp multiplies its rows of W by, ColTiles times 8 rows of x, and who brings it. Producers are those for whom
// there are registers. Scales that are decoded take 4 of them, in two groups that take stages in turn, so that a load
// has the time of two stages to come. Copied ones take 2, who share each stage: it is there sooner.
template <int ColTiles, bool CopiedScales>
struct StreamSizes {
  static constexpr int kColTiles = ColTiles;
  static constexpr int kCols = 8 * ColTiles;
  static constexpr int kMostWarps = ColTiles == 8 ? 8 : 16;  // 8 have up to 255 registers each, 16 have 128
  static constexpr int kProducers = ColTiles == 8 ? 1 : CopiedScales ? 2 : 4;
  static constexpr int kGroups = kProducers == 4 ? 2 : 1;
  static constexpr int kGroupWarps = kProducers / kGroups;
  static constexpr int kMostConsumers = kMostWarps - kProducers;
  static constexpr int kThreads = kMostWarps * kWarpSize;
  static constexpr int kXBlockBytes = kCols * kPairBoxBytes;
  static constexpr int kXBytes = kStreamBlocks * kXBlockBytes;  // of a stage
};

struct StreamConfig {
  int teams;    // that take stages in turn, at most: what has no room goes, see lay_out_stream()
  int cluster;  // CTAs that split K

  std::string text() const { return "teams=" + std::to_string(teams) + " cluster=" + std::to_string(cluster); }
};

constexpr StreamConfig kStreamConfigs[] = {{2, 1}, {1, 1}, {4, 1}, {2, 2}, {4, 2}, {2, 4}, {1, 4}, {2, 8}, {1, 8}};
static_assert(std::all_of(std::begin(kStreamConfigs), std::end(kStreamConfigs),
                          [](const StreamConfig& config) { return kStreamMostTeams % config.teams == 0; }));

// What the host works out for a launch. Offsets are bytes in shared memory.
struct StreamPlan {
  Shares stages;          // of K, among the CTAs of a cluster
  int cluster;            // CTAs
  int rows;               // of the tile, a multiple of 8
  int box_rows;           // of a tensor copy of codes, which divide it
  int warps;              // of a team
  int teams;              // of consumers
  int ring;               // stages
  int turns;              // barriers of each kind, see ring_turns()
  int barriers;           // offset in shared memory, bytes
  int map;                // of nested absmax, the same
  int threads;            // of a CTA
  int shared_bytes;       // of a CTA
  int64_t tiles;          // each a cluster's
  bool quads;             // see quad_scales()
  bool constant_weights;  // they may be read before the kernels before have completed
  PairCodebook codebook;  // in x's type; as a parameter it is at hand when the kernel starts
};

// A layout for products by W of so many `rows` each, [.., k], for so many teams, with as long a ring as shared memory
// holds, of one stage more than there are teams at least. For less, rows of the tile go first.
template <class Sizes>
bool lay_out_teams(std::span<const int64_t> rows, int64_t k, const Device& device, const StreamConfig& config,
                   StreamPlan& layout) {
  static_assert(kStreamMostTeams % Sizes::kGroups == 0);  // as of teams, so the takers of ring_turns() are no more
  constexpr int kBarrierBytes = 2 * kStreamMostRing * kStreamMostTeams * 8;
  constexpr int kMapBytes = kMapSize * static_cast<int>(sizeof(float));
  const int room = device.shared_memory - PairTableSizes::kBytes - kBarrierBytes - kMapBytes;
  layout.cluster = config.cluster;
  layout.teams = config.teams;
  layout.stages = Shares::of(ceil_div(k, kStreamBlocks * kPairBlock), config.cluster);
  for (int warps = Sizes::kMostConsumers / layout.teams; warps > 0; --warps) {
    layout.rows =
        tile_rows(rows, std::max(1, device.clusters(config.cluster)), kStreamRows, warps * kStreamRows, kMostBoxRows);
    layout.box_rows = layout.rows / static_cast<int>(ceil_div(layout.rows, kMostBoxRows));
    layout.warps = static_cast<int>(ceil_div(layout.rows, kStreamRows));
    const int stage_bytes = layout.rows * kPairBoxBytes + Sizes::kXBytes;
    const int sums = layout.teams * sum_bytes(layout.rows, Sizes::kCols);
    layout.ring =
        std::min({kStreamMostRing, room / stage_bytes, PairTableSizes::kEntries * kStreamHoleRows / layout.rows});
    if (layout.ring <= layout.teams || sums > room) continue;
    layout.turns = ring_turns(layout.ring, std::lcm(layout.teams, Sizes::kGroups));
    layout.barriers = PairTableSizes::kBytes + std::max(layout.ring * stage_bytes, sums);
    layout.map = layout.barriers + 2 * layout.turns * 8;
    layout.threads = (layout.warps * layout.teams + Sizes::kProducers) * kWarpSize;
    layout.shared_bytes = layout.map + kMapBytes;
    layout.tiles = count_tiles(rows, layout.rows);
    return true;
  }
  return false;
}

// A layout for as many teams as the config says; for half as many, or one, if there is no room, or if their smaller
// tiles would take more rounds. False if there is none.
template <class Sizes>
bool lay_out_stream(std::span<const int64_t> rows, int64_t k, const Device& device, StreamConfig config,
                    StreamPlan& layout) {
  const int at_once = std::max(1, device.clusters(config.cluster));
  int64_t fewest = std::numeric_limits<int64_t>::max();  // rounds of tiles
  for (; config.teams > 0; config.teams /= 2) {
    StreamPlan fewer{};
    if (!lay_out_teams<Sizes>(rows, k, device, config, fewer) || ceil_div(fewer.tiles, at_once) >= fewest) continue;
    layout = fewer;
    fewest = ceil_div(layout.tiles, at_once);
  }
  return fewest != std::numeric_limits<int64_t>::max();
}

}  // namespace nf4
