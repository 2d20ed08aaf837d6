// What a config of gemm.pair_wgmma takes for 33 to 64 rows of x: by counting what the CTA that has most of a launch has
// to do, and by what a stage and the end of a tile take, as measured.
//
//     time = its tiles x (the end of a tile + its stages of K x a stage)
#pragma once

#include <cstddef>
#include <limits>

#include "device/math.hpp"
#include "gemm/pair_wgmma_layout.hpp"
#include "problem.hpp"
#include "variant.hpp"

namespace nf4 {

// Nanoseconds, by an H200 and an H100, which agree: docs/lab/2026-11-30-plans-for-64-rows.md.
constexpr double kWgmmaStage = 590;        // of 128 columns of K
constexpr double kWgmmaStageRow = 3;       // besides, for each row of W that all teams multiply meanwhile
constexpr double kWgmmaEnd = 4200;         // and start
constexpr double kWgmmaClusterEnd = 1000;  // besides, in clusters

// Nanoseconds of a product that the variant supports; infinite for other numbers of rows of x, and for blocks of 32.
inline double wgmma_cost(const WgmmaConfig& config, const Problem& problem, const Device& device) {
  using Shape = WgmmaShape<64>;
  const int at_once = device.clusters(config.cluster);
  WgmmaLaunch launch{};
  if (problem.m <= Shape::kCols / 2 || problem.m > Shape::kCols || problem.blocksize < kPairBlock || at_once == 0 ||
      !lay_out_wgmma<Shape>(problem.n, problem.k, device, config, launch)) {
    return std::numeric_limits<double>::infinity();
  }
  const WgmmaPlan& plan = launch.plan;
  const double stage = kWgmmaStage + kWgmmaStageRow * plan.rows() * plan.teams;
  const double end = kWgmmaEnd + (plan.cluster > 1 ? kWgmmaClusterEnd : 0);
  return static_cast<double>(ceil_div(launch.clusters, at_once)) * (end + plan.stages.begin(1) * stage);
}

// Variant::plan.
inline Planned plan_wgmma(const Problem& problem, const Device& device, size_t) {
  return least_of(kWgmmaConfigs, [&](const WgmmaConfig& config) { return wgmma_cost(config, problem, device); });
}

}  // namespace nf4
