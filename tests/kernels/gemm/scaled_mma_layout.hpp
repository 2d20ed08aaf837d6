// What is wrong with a layout of gemm.scaled_mma, as a test computes it or a launch has it.
#pragma once

#include "gemm/scaled_mma_layout.hpp"

#include <array>
#include <set>
#include <string>

#include "pair_multistage_layout.hpp"

namespace nf4test {

// What is wrong with a layout of W [.., k] for m rows of x; empty if nothing is.
template <class Sizes>
std::string wrong_with(const nf4::ScaledMmaPlan& plan, const nf4::ScaledMmaConfig& config, const nf4::Device& device,
                       std::span<const int64_t> rows, int64_t k, int64_t m, int maps) {
  if (plan.rows != plan.groups * 32 || plan.rows > config.rows) return "rows of a tile";
  if (plan.teams != 1 || plan.groups < 1 || plan.groups * 32 > Sizes::kThreads) return "more warps than have registers";
  if (plan.threads != plan.groups * 32) return "threads";
  if (plan.blocks != k / 64 || plan.stages != (plan.blocks + 3) / 4) return "stages";
  if (plan.x_ring < 2 || plan.x.bytes != Sizes::kCols * 256) return "ring";
  if (Sizes::kCols != config.cols || plan.col_tiles != (m + config.cols - 1) / config.cols) return "tiles of x";
  const int64_t steps = nf4::count_tiles(rows, plan.rows) * plan.col_tiles * plan.stages;
  const int ctas = plan.shares.count;
  if (steps > INT_MAX) return "steps that are not counted";
  if (plan.begin(0) != 0 || plan.begin(ctas) != steps) return "steps";
  if (ctas > std::max(1, device.clusters(1)) || ctas > steps) return "CTAs";
  if (config.split == nf4::MultistageSplit::tiles ? plan.unit != plan.stages : plan.unit != 1) return "units";
  const bool even = config.split == nf4::MultistageSplit::even;
  if (nf4::scaled_mma_workspace<Sizes>(std::max(1, device.clusters(1)), config) <
      (even ? int64_t{ctas} * plan.groups * (8 + 2 * Sizes::kPartFloats * 4) : 0))
    return "workspace";

  // Lines are many, and those of most sizes alike.
  static std::set<std::array<int, 4>> seen;
  if (!seen.insert({Sizes::kCols, plan.x_ring, plan.shared_bytes, maps}).second) return wrong_with_grid(ctas, 1);
  std::vector<Region> regions;
  for (int entry = 0; entry < 256; ++entry) regions.push_back({"table", entry * 256, 128, 128});
  add_lines(regions, "x", plan.x, plan.x_ring);
  regions.push_back({"barriers", plan.barriers, plan.x_ring * 16, 8});
  regions.push_back({"maps", plan.maps, maps * 1024, 4});
  const std::string wrong = wrong_with_regions(regions, plan.shared_bytes, device);
  return wrong.empty() ? wrong_with_grid(ctas, 1) : wrong;
}

}  // namespace nf4test
