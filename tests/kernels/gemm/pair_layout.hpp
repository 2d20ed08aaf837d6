// What is wrong with a layout of gemm.pair or gemm.pair_tma, as a test computes it or a launch has it.
#pragma once

#include "gemm/pair_layout.hpp"

#include <string>

#include "layouts.hpp"

namespace nf4test {

// A CTA with so many tiles and stages of K: as the kernel has it, in PairShare.
inline std::string wrong_with_runs(const nf4::PairPlan& plan, int consumers, int tiles, int stages) {
  if (stages == 0) return "";
  const int size = plan.by_consumers.quotient(tiles * stages);
  if (size != tiles * stages / consumers) return "stages of a consumer";
  const nf4::Shares runs{consumers, size, tiles * stages - size * consumers};
  if (runs.begin(consumers) != tiles * stages) return "stages that are nobody's";
  const int which = stages - plan.stages.size;
  if (which != 0 && which != 1) return "stages of a CTA";
  for (int consumer = 0; consumer < consumers; ++consumer) {
    if (plan.by_stages[which].quotient(runs.begin(consumer)) != runs.begin(consumer) / stages)
      return "tile where a consumer begins";
  }
  return "";
}

template <int Cols>
std::string wrong_with(const nf4::PairLaunch& launch, const nf4::PairConfig& config, const nf4::Device& device,
                       int most_cluster, int64_t tiles, int64_t k, int maps) {
  const nf4::PairPlan& plan = launch.plan;
  constexpr int tile_rows = 16;
  constexpr int blocks = 8;  // of a stage
  const int consumers = launch.threads / 32 - 4;
  if (consumers > config.warps || consumers % 4 != 0 || consumers < 4) return "consumers";
  if (launch.threads > nf4::kPairThreads) return "more threads than the kernel is compiled for";
  if (plan.ring < 2 || plan.ring > config.ring) return "ring";
  if (plan.cluster < config.cluster || plan.cluster > std::max(config.cluster, most_cluster) ||
      plan.cluster % config.cluster != 0)
    return "cluster";

  const int64_t stages = (k + blocks * 64 - 1) / (blocks * 64);
  if (plan.tiles.begin(plan.tiles.count) != tiles) return "tiles";
  if (plan.stages.count != plan.cluster || plan.stages.begin(plan.cluster) != stages) return "stages";
  const int most_tiles = plan.tiles.size + (plan.tiles.larger > 0 ? 1 : 0);
  if (plan.tiles.size < 1 || most_tiles > nf4::kPairMostTiles) return "tiles of a CTA";
  const int most_stages = plan.stages.size + (plan.stages.larger > 0 ? 1 : 0);
  for (const int its_tiles : {plan.tiles.size, most_tiles}) {
    for (const int its_stages : {plan.stages.size, most_stages}) {
      const std::string wrong = wrong_with_runs(plan, consumers, its_tiles, its_stages);
      if (!wrong.empty()) return wrong;
    }
  }

  if (plan.x_pitch < most_stages * blocks * 64 * 2) return "x of the CTA's stages does not fit into its row";
  if (plan.x_pitch % 128 != 16) return "rows of x meet in banks";
  const int rings = consumers * plan.ring;
  const int slots = most_tiles + consumers;
  const int slot_bytes = slots * tile_rows * Cols * 4;
  if (plan.slots == 0 && slot_bytes > kPairHoles * kPairHoleBytes) return "slots overlap the table";
  std::string wrong = wrong_with_regions({pair_table(),
                                          {"codes", kPairTable, rings * 4096, 1024},
                                          {"scales", plan.scales, rings * tile_rows * blocks * 4, 16},
                                          {"x", plan.x, Cols * plan.x_pitch, 16},
                                          {"barriers", plan.barriers, (1 + 2 * rings) * 8, 8},
                                          {"maps", plan.map, maps * 256 * 4, 4},
                                          {"takers", plan.takers, 2 * nf4::kPairMostTiles, 1},
                                          {"slots", plan.slots, plan.slots == 0 ? 0 : slot_bytes, 128}},
                                         launch.shared_bytes, device, 128);
  return wrong.empty() ? wrong_with_grid(int64_t{plan.tiles.count} * plan.cluster, plan.cluster) : wrong;
}

}  // namespace nf4test
