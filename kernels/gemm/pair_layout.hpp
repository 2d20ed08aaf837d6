// How gemm.pair and gemm.pair_tma divide their work among CTAs and warps, and where they keep things in shared memory:
// what the host works out for a launch, in plain C++, so that it is tested for all sizes without a GPU.
//
//     shared memory     pair table, in its holes the slots if they fit | rings of stages: codes | their scales | x
//                       | barriers: of x, then full and empty of each stage | maps of nested absmax | takers
//                       | slots that do not fit into the holes
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "device/math.hpp"
#include "device/shares.hpp"
#include "device/warp.hpp"
#include "format/absmax.hpp"
#include "gemm/pair_codebook.hpp"
#include "gemm/pair_sizes.hpp"
#include "problem.hpp"

namespace nf4 {

constexpr int kPairStageBytes = 4096;
constexpr int kPairConsumers = 12;  // warps, at most
constexpr int kPairProducers = 4;   // warps
static_assert(kPairConsumers <= 16, "PairShare::takers() has 4 bits for each");
constexpr int kPairMostTiles = 512;  // of a CTA
constexpr int kPairServed = kPairConsumers / kPairProducers;
constexpr int kPairThreads = (kPairConsumers + kPairProducers) * kWarpSize;

// The shape of the work for up to Cols rows of x: 1, 2 or 4.
template <int Cols>
struct PairShape {
  static constexpr int kRows = 16;  // of W in a stage: a tile
  static constexpr int kBlocks = kPairStageBytes / (kRows * kPairBlockBytes);
  static constexpr int kBoxes = kBlocks / kPairBoxBlocks;
  static constexpr int kPacked = 8 / Cols;           // blocks in an operand B
  static constexpr int kGroups = kBlocks / kPacked;  // of blocks in a stage; group i has blocks i + p * kGroups
  static constexpr int kOutputs = kRows * Cols;      // of a tile, and floats in a slot
  static constexpr int kScaleBlocks =
      kBlocks / 4;  // whose scales a lane needs, in each of two rows: from t * kScaleBlocks
  static constexpr int kScaleBytes = kRows * kBlocks * static_cast<int>(sizeof(float));  // of a stage
};

// What the host works out for a launch. Offsets are bytes in shared memory.
struct PairPlan {
  Shares tiles;          // among clusters
  Shares stages;         // of K, among the CTAs of a cluster
  Divisor by_stages[2];  // of a CTA: stages.size, and one more
  Divisor by_consumers;
  int cluster;            // CTAs, a power of two
  int ring;               // stages per consumer
  int scales;             // of the rings
  int x;                  // rows of x
  int x_pitch;            // bytes between them
  int barriers;           // of x, and of the rings
  int slots;              // 0: in the holes of the pair table
  int map;                // of nested absmax, one for each product
  int takers;             // see PairShare::takers()
  bool quads;             // see quad_scales()
  bool constant_weights;  // they may be read before the kernels before have completed
  PairCodebook codebook;  // in x's type; as a parameter it is at hand when the kernel starts
};

// The most that a launch uses: what does not fit into shared memory is narrowed, see lay_out_pair().
struct PairConfig {
  int warps;    // consumers
  int ring;     // stages per consumer
  int cluster;  // CTAs that split K

  std::string text() const {
    return "warps=" + std::to_string(warps) + " ring=" + std::to_string(ring) + " cluster=" + std::to_string(cluster);
  }
  bool operator==(const PairConfig&) const = default;
};

// What a launch may use where codes and x come by cp.async, and where they come by TMA.
struct PairCpAsyncConfigs {
  static constexpr int kMostCols = 1;  // rows of x in a pass
  static constexpr int kMostCluster = 1;
  static constexpr PairConfig kConfigs[] = {{8, 2, 1}, {8, 3, 1}, {12, 2, 1}};
};
struct PairTmaConfigs {
  static constexpr int kMostCols = 4;
  static constexpr int kMostCluster = 8;
  static constexpr PairConfig kConfigs[] = {{8, 3, 1},  {8, 2, 1}, {12, 2, 1}, {4, 2, 1},
                                            {12, 2, 2}, {8, 2, 2}, {8, 2, 4}};
};

struct PairLaunch {
  PairPlan plan;
  int threads;
  int shared_bytes;
};

// Lays out shared memory and divides the work, tiles of W [.., k], for exactly this config; false if there is no room.
template <int Cols>
bool lay_out_pair_exactly(int64_t tiles, int64_t k, int maps, const Device& device, const PairConfig& config,
                          PairLaunch& launch) {
  using Shape = PairShape<Cols>;
  constexpr int kSlotBytes = Shape::kOutputs * static_cast<int>(sizeof(float));
  const int64_t stages = ceil_div(k, Shape::kBlocks * kPairBlock);
  tiles = std::max<int64_t>(1, tiles);  // for no rows it is only asked what would be
  const int rings = config.warps * config.ring;
  PairPlan& plan = launch.plan;
  int64_t bytes = PairTableSizes::kBytes + int64_t{rings} * kPairStageBytes;
  const auto take = [&](int& offset, int64_t size) {
    offset = static_cast<int>(std::min<int64_t>(bytes, device.shared_memory));
    bytes += ceil_div(size, 128) * 128;
  };
  take(plan.scales, int64_t{rings} * Shape::kScaleBytes);
  // Rows of x lie 16 bytes apart modulo 128, so that lanes which read two of them meet different banks.
  const int64_t x_pitch = ceil_div(stages, config.cluster) * Shape::kBlocks * kPairBlock * 2 + 16;
  take(plan.x, Cols * x_pitch);
  take(plan.barriers, (1 + 2 * rings) * 8);
  take(plan.map, maps * kMapSize * static_cast<int>(sizeof(float)));
  take(plan.takers, 2 * kPairMostTiles);
  if (bytes > device.shared_memory) return false;
  plan.x_pitch = static_cast<int>(x_pitch);

  // Every tile and every consumer takes a slot. They go into the table's holes, or behind the rest if that has room for
  // more. More clusters than run at once share the tiles if need be.
  const int64_t room = std::max<int64_t>(PairTableSizes::kFreeBytes, device.shared_memory - bytes);
  const int64_t most_tiles = std::min<int64_t>(kPairMostTiles, room / kSlotBytes - config.warps);
  if (most_tiles < 1) return false;
  const int64_t clusters = std::max(1, device.clusters(config.cluster));
  const int64_t count = std::min(tiles, ceil_div(tiles, clusters * most_tiles) * clusters);
  const int64_t slot_bytes = (ceil_div(tiles, count) + config.warps) * kSlotBytes;
  plan.slots = 0;
  if (slot_bytes > PairTableSizes::kFreeBytes) take(plan.slots, slot_bytes);

  plan.tiles = Shares::of(tiles, static_cast<int>(count));
  plan.stages = Shares::of(stages, config.cluster);
  // A CTA has 512 tiles at most, and not 200 stages of K, whose x would not fit: far within what a Divisor is exact
  // for.
  plan.by_stages[0] = Divisor::of(std::max(1, plan.stages.size));
  plan.by_stages[1] = Divisor::of(plan.stages.size + 1);
  plan.by_consumers = Divisor::of(config.warps);
  plan.cluster = config.cluster;
  plan.ring = config.ring;
  launch.threads = (config.warps + kPairProducers) * kWarpSize;
  launch.shared_bytes = static_cast<int>(bytes);
  return true;
}

// The same for the widest that fits of what the config allows: the ring gives way first, then K is split further as far
// as the copy can, then warps go.
template <int Cols>
bool lay_out_pair(int64_t tiles, int64_t k, int maps, const Device& device, int most_cluster, PairConfig config,
                  PairLaunch& launch) {
  for (int warps = config.warps; warps >= kPairProducers; warps -= kPairProducers) {
    for (int cluster = config.cluster; cluster <= most_cluster; cluster *= 2) {
      for (int ring = config.ring; ring >= 2; --ring) {
        if (lay_out_pair_exactly<Cols>(tiles, k, maps, device, {warps, ring, cluster}, launch)) return true;
      }
    }
  }
  return false;
}

}  // namespace nf4
