// What is wrong with a layout of gemm.pair_multistage, as a test computes it or a launch has it.
#pragma once

#include "gemm/pair_multistage_layout.hpp"

#include <array>
#include <set>
#include <string>

#include "layouts.hpp"

namespace nf4test {

// The lines of a ring's slots, each a region, 256 bytes apart.
inline void add_lines(std::vector<Region>& regions, const char* name, const nf4::LineSlots& slots, int count) {
  for (int slot = 0; slot < count; ++slot) {
    for (int line = 0; line < slots.bytes / 256; ++line)
      regions.push_back({name, slots.at(slot) + line * 256, 128, 128});
  }
}

// What is wrong with a layout of W [.., k]; empty if nothing is.
template <class Sizes>
std::string wrong_with(const nf4::MultistagePlan& plan, const nf4::MultistageConfig& config, const nf4::Device& device,
                       std::span<const int64_t> rows, int64_t k, int maps) {
  if (plan.rows != plan.groups * 32 || plan.rows > config.rows) return "rows of a tile";
  if (plan.teams < 1 || plan.teams > config.teams) return "teams";
  if (plan.consumers() > Sizes::kMostConsumers || plan.groups > nf4::kMultistageMostGroups)
    return "more consumers than have registers";
  if (plan.threads != (plan.consumers() + Sizes::kProducers) * 32 || plan.threads > Sizes::kThreads) return "threads";
  if (plan.blocks != k / 64 || plan.stages != (plan.blocks + 3) / 4) return "stages";
  if (plan.ring < 2 || plan.x_ring < plan.teams) return "rings";
  if (plan.x_ring % plan.teams != 0 || plan.x_ring % Sizes::kXProducers != 0)
    return "a place of x of two teams, or of two producers";
  // When the stage comes that begins a pair, those of the last `ring` stages before it may not have been read.
  if (2 * plan.scale_ring < plan.ring + 1) return "scales that are still read";
  if (plan.codes.bytes != plan.rows * 256 || plan.x.bytes != Sizes::kCols * 256 ||
      plan.scales.bytes != plan.rows / 4 * 256)
    return "slots";
  const int64_t steps = nf4::count_tiles(rows, plan.rows) * plan.stages;
  const int ctas = plan.shares.count;
  if (plan.begin(0) != 0 || plan.begin(ctas) != steps) return "steps";
  if (ctas > std::max(1, device.clusters(1)) || ctas > steps) return "CTAs";
  if (config.split == nf4::MultistageSplit::tiles ? plan.unit != plan.stages : plan.unit != 1) return "units";
  if (multistage_workspace(ctas, Sizes::kCols, config.split) <
      (config.split == nf4::MultistageSplit::tiles
           ? 0
           : int64_t{ctas} * plan.groups * 8 + int64_t{2} * ctas * plan.groups * Sizes::kPartFloats * 4))
    return "workspace";

  // Lines are many, and those of most sizes alike.
  static std::set<std::array<int, 8>> seen;
  if (!seen.insert(
               {Sizes::kCols, plan.rows, plan.teams, plan.ring, plan.x_ring, plan.scale_ring, plan.shared_bytes, maps})
           .second)
    return wrong_with_grid(ctas, 1);
  std::vector<Region> regions;
  for (int entry = 0; entry < 256; ++entry) regions.push_back({"table", entry * 256, 128, 128});
  add_lines(regions, "codes", plan.codes, plan.ring);
  add_lines(regions, "x", plan.x, plan.x_ring);
  add_lines(regions, "scales", plan.scales, plan.scale_ring);
  regions.push_back({"barriers", plan.barriers, (plan.ring + plan.x_ring) * 16 + plan.consumers() * 8, 8});
  regions.push_back({"maps", plan.maps, maps * 1024, 4});
  const std::string wrong = wrong_with_regions(regions, plan.shared_bytes, device);
  return wrong.empty() ? wrong_with_grid(ctas, 1) : wrong;
}

}  // namespace nf4test
