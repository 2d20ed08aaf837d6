// What a config of gemm.pair_stream takes for 33 to 64 rows of x: by counting what the CTA that has most of a launch
// has to do, and by what a stage and the end of a tile take, as measured.
//
//     time = its tiles x (the end of a tile + its stages of K x a stage)
//
// Teams of warps take stages in turn. The 4 schedulers of an SM share out all warps, so 5 take as long as 8.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "device/math.hpp"
#include "gemm/pair_stream_layout.hpp"
#include "problem.hpp"
#include "variant.hpp"

namespace nf4 {

// Nanoseconds, by an H200 and an H100, which agree: docs/lab/2026-11-30-plans-for-64-rows.md.
constexpr double kStreamWarp = 1340;       // a stage, for each warp of a scheduler
constexpr double kStreamStageRow = 12.3;   // or, if that is more, for each row of W that a team multiplies
constexpr double kStreamEnd = 3650;        // and start
constexpr double kStreamEndRow = 9.7;      // besides, for each row of the tile
constexpr double kStreamClusterEnd = 900;  // besides, in clusters
constexpr int kSchedulers = 4;             // of an SM

// Nanoseconds of a product that the variant supports; infinite for other numbers of rows of x.
inline double stream_cost(const StreamConfig& config, const Problem& problem, const Device& device) {
  using Sizes = StreamSizes<8, true>;  // how scales come is all the same here
  const int at_once = device.clusters(config.cluster);
  StreamPlan plan{};
  if (problem.m <= Sizes::kCols / 2 || problem.m > Sizes::kCols || at_once == 0 ||
      !lay_out_stream<Sizes>({&problem.n, 1}, problem.k, device, config, plan)) {
    return std::numeric_limits<double>::infinity();
  }
  const auto warps = static_cast<double>(ceil_div(plan.warps * plan.teams, kSchedulers));
  const double stage = std::max(kStreamWarp * warps / plan.teams, kStreamStageRow * plan.warps * kStreamRows);
  const double end = kStreamEnd + kStreamEndRow * plan.rows + (plan.cluster > 1 ? kStreamClusterEnd : 0);
  return static_cast<double>(ceil_div(plan.tiles, at_once)) * (end + plan.stages.begin(1) * stage);
}

// Variant::plan.
inline Planned plan_stream(const Problem& problem, const Device& device, size_t) {
  return least_of(kStreamConfigs, [&](const StreamConfig& config) { return stream_cost(config, problem, device); });
}

}  // namespace nf4
