// How gemm.pair_wgmma divides its work among tiles, teams and stages, and where it keeps things in shared memory: what
// the host works out for a launch, in plain C++, so that it is tested for all sizes without a GPU.
//
//     shared memory     pair table, in its holes the map of nested absmax | ring of stages; in the end, sums of all
//     teams
//                       | barriers: full and empty of each stage
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <string>

#include "device/math.hpp"
#include "device/ring.hpp"
#include "device/shares.hpp"
#include "device/warp.hpp"
#include "format/hd.hpp"
#include "gemm/pair_codebook.hpp"
#include "gemm/pair_sizes.hpp"
#include "gemm/sum_tile.hpp"
#include "problem.hpp"

namespace nf4 {

constexpr int kWgmmaArchitecture = 90;
constexpr int kWgmmaTileRows = 64;
constexpr int kWgmmaStageCols = 128;
constexpr int kWgmmaRowBytes = kWgmmaStageCols / 2;  // of codes in a stage
constexpr int kWgmmaBlocks = kWgmmaStageCols / kPairBlock;
constexpr int kWgmmaPairStages = 2;  // that a team takes at a time, and whose scales it reads at once
constexpr int kWgmmaMostRing = 24;

// The kernel for up to Cols rows of x: 8, 16, 32 or 64.
template <int Cols>
struct WgmmaShape {
  static constexpr int kCols = Cols;
  // Warpgroups for which there are registers, tiles that each can take, and the registers that a thread then has.
  static constexpr int kConsumers = Cols <= 32 ? 4 : 2;
  static constexpr int kMostTiles = Cols <= 32 ? 1 : 2;
  static constexpr int kConsumerRegisters = Cols <= 32 ? 104 : 216;
  static constexpr int kProducerRegisters = Cols <= 32 ? 64 : 72;
  static constexpr int kThreads = (kConsumers + 1) * kWarpgroupThreads;
  // x of a stage comes by loads of 4 rows of a block, 8 loads at most under way in a warp.
  static constexpr int kLoads = Cols >= 16 ? 8 : Cols / 2;
  static constexpr int kStageWarps = Cols / 2 / kLoads;          // producers that share a stage,
  static constexpr int kGroups = kWarpgroupWarps / kStageWarps;  // groups of which take stages in turn
  static constexpr int kXBlockBytes = Cols * kPairBlockXBytes;
  static constexpr int kXBytes = kWgmmaBlocks * kXBlockBytes;
};

// What the host works out for a launch.
struct WgmmaPlan {
  Shares stages;          // of K, among the CTAs of a cluster
  int cluster;            // CTAs
  int tiles;              // per CTA
  int warpgroup_tiles;    // tiles per warpgroup; the last one of a team may have fewer
  int warpgroups;         // per team
  int teams;              // teams of consumers per CTA
  int ring;               // stages
  int barriers;           // offset in shared memory, bytes
  bool constant_weights;  // they may be read before the kernels before have completed
  PairCodebook codebook;  // in x's type; as a parameter it is at hand when the kernel starts

  NF4_HD int rows() const { return tiles * kWgmmaTileRows; }
};

// The most that a launch uses: what does not fit is narrowed, see lay_out_wgmma().
struct WgmmaConfig {
  int tiles;    // tiles of 64 rows per CTA
  int teams;    // teams that take stages in turn
  int cluster;  // CTAs that split K

  std::string text() const {
    return "tiles=" + std::to_string(tiles) + " teams=" + std::to_string(teams) + " cluster=" + std::to_string(cluster);
  }
};

constexpr WgmmaConfig kWgmmaConfigs[] = {
    {4, 1, 1}, {3, 1, 1}, {1, 4, 1}, {2, 2, 2}, {1, 4, 2}, {4, 1, 4}, {2, 2, 4}, {1, 4, 4},
};

struct WgmmaLaunch {
  WgmmaPlan plan;
  int64_t clusters;
  int threads;
  int shared_bytes;
};

// Lays out shared memory with as long a ring as it holds. For less, teams go first, then tiles.
template <class Shape>
bool lay_out_wgmma(int64_t n, int64_t k, const Device& device, const WgmmaConfig& config, WgmmaLaunch& launch) {
  constexpr int kBarrierBytes = kWgmmaMostRing * kStageBarrierBytes;
  const int room = device.shared_memory - PairTableSizes::kBytes - kBarrierBytes;
  WgmmaPlan& plan = launch.plan;
  plan.cluster = config.cluster;
  plan.stages = Shares::of(ceil_div(k, kWgmmaStageCols), config.cluster);
  for (plan.tiles = std::min(config.tiles, Shape::kConsumers * Shape::kMostTiles); plan.tiles > 0; --plan.tiles) {
    const int stage_bytes = plan.rows() * kWgmmaRowBytes + Shape::kXBytes;
    plan.warpgroup_tiles = static_cast<int>(ceil_div(plan.tiles, Shape::kConsumers));
    plan.warpgroups = static_cast<int>(ceil_div(plan.tiles, plan.warpgroup_tiles));
    const int most_teams = std::min(config.teams, Shape::kConsumers / plan.warpgroups);
    for (plan.teams = most_teams; plan.teams > 0; --plan.teams) {
      const int sums = plan.teams * sum_bytes(plan.rows(), Shape::kCols);
      // Every place of the ring has its team and its group of producers (ring.hpp).
      plan.ring = whole_rounds(std::min(kWgmmaMostRing, room / stage_bytes),
                               std::lcm(Shape::kGroups, kWgmmaPairStages * plan.teams));
      if (plan.ring == 0 || sums > room) continue;
      plan.barriers =
          PairTableSizes::kBytes + static_cast<int>(ceil_div(std::max(plan.ring * stage_bytes, sums), 16)) * 16;
      launch.clusters = ceil_div(n, plan.rows());
      launch.threads = (plan.warpgroups * plan.teams + 1) * kWarpgroupThreads;
      launch.shared_bytes = plan.barriers + kBarrierBytes;
      return true;
    }
  }
  return false;
}

}  // namespace nf4
