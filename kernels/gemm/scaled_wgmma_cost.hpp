// Which config of gemm.scaled_wgmma takes the least time: by counting what the CTA that has most of a launch has to do,
// and by what a round, the end of a tile and a meeting take, as measured.
//
//     time = its ends of tiles + its rounds + rounds of all tiles / SMs
//
// In clusters a CTA has a part of a tile in each wave. The last term is the GPU's power: the more there is to do, the
// lower the clock. Without it, waves that fill the GPU would look better than they are.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <numeric>
#include <utility>

#include "device/math.hpp"
#include "gemm/scaled_wgmma_layout.hpp"
#include "problem.hpp"
#include "variant.hpp"

namespace nf4 {

// Nanoseconds, by an H200 and an H100, which agree: docs/lab/2026-11-30-scaled-wgmma-plan.md. Only ratios count, and
// they are those of cycles.
struct ScaledTileTime {
  int rows, cols;  // of W and of x
  double round;    // 128 columns of K
  double end;      // and start
  double meeting;  // of CTAs that have parts of it
};
constexpr ScaledTileTime kScaledTileTimes[] = {
    {128, 256, 1100, 2900, 16000}, {128, 128, 750, 1900, 9500}, {192, 128, 1100, 3600, 0}};
constexpr double kScaledClusterEnds[] = {0, 2200, 3000, 4300};  // besides, in clusters of 1, 2, 4 and 8
constexpr double kScaledPower = 450.0 / (128 * 256);            // of a sum of a tile, in a round
constexpr double kScaledEvenWhole = 2000;                       // even division into whole tiles

constexpr ScaledTileTime scaled_tile_time(int rows, int cols) {
  return *std::find_if(std::begin(kScaledTileTimes), std::end(kScaledTileTimes),
                       [&](const ScaledTileTime& time) { return time.rows == rows && time.cols == cols; });
}

// Of the CTA that has most, where shares are even.
struct ScaledEvenWork {
  int64_t ends, rounds;
  bool meets;  // some tile is divided
};
template <class Shape>
ScaledEvenWork scaled_even_work(ScaledPlan plan, int64_t tiles, int ctas) {
  share_evenly<Shape>(plan, tiles, ctas);
  const int rounds = plan.stages / Shape::kStages;  // of a tile
  const int share = plan.shares.begin(1);
  // Some CTA's share begins so many rounds before the end of a tile, and nobody's later.
  const int least = plan.shares.larger > 0 ? 1 : std::gcd(share, rounds);
  return {plan.whole + ceil_div(share - least, rounds) + 1, int64_t{plan.whole} * rounds + share, least != rounds};
}

// Nanoseconds of a product that the variant supports; infinite if the device cannot run the config.
inline double scaled_cost(const ScaledConfig& config, const Problem& problem, const Device& device) {
  const int sms = std::max(1, device.clusters(1));
  const int clusters = config.cluster > 1 ? device.clusters(config.cluster) : sms;
  if (clusters == 0) return std::numeric_limits<double>::infinity();
  return with_scaled_shape(config, problem.blocksize, [&](auto shape) {
    using Shape = decltype(shape);
    constexpr ScaledTileTime kTime = scaled_tile_time(Shape::kRows, Shape::kCols);
    const ScaledLaunch launch = lay_out_scaled<Shape>(std::max<int64_t>(problem.n, 1), problem.k, device, config);
    const int64_t rows = std::clamp<int64_t>(problem.m, 1, launch.most_rows);  // of x, in a pass
    const int64_t tiles = launch.row_tiles * ceil_div(rows, Shape::kCols);
    double time;
    if (config.cluster == kScaledEven) {
      const auto [ends, rounds, meets] = scaled_even_work<Shape>(launch.plan, tiles, sms);
      time = static_cast<double>(ends) * kTime.end + static_cast<double>(rounds) * kTime.round +
             (meets ? kTime.meeting : kScaledEvenWhole);
    } else {
      const double end = kTime.end + kScaledClusterEnds[std::countr_zero(static_cast<unsigned>(config.cluster))];
      time = static_cast<double>(ceil_div(tiles, clusters)) * (end + launch.plan.shares.begin(1) * kTime.round);
    }
    const int64_t rounds = tiles * (launch.plan.stages / Shape::kStages);
    time += static_cast<double>(rounds) / sms * kScaledPower * Shape::kRows * Shape::kCols;
    return time * (static_cast<double>(problem.m) / static_cast<double>(rows));
  });
}

// Variant::plan. Where W is transposed the problem is that of its transpose.
template <const auto& Configs>
Planned plan_scaled_of(const Problem& problem, const Device& device, size_t workspace_size) {
  const int sms = std::max(1, device.clusters(1));
  return least_of(Configs, [&](const ScaledConfig& config) {
    const bool fits = static_cast<size_t>(scaled_workspace(config, sms)) <= workspace_size;
    return fits ? scaled_cost(config, problem, device) : std::numeric_limits<double>::infinity();
  });
}
inline Planned plan_scaled(const Problem& problem, const Device& device, size_t workspace_size) {
  return plan_scaled_of<kScaledConfigs>(problem, device, workspace_size);
}
inline Planned plan_scaled_transposed(const Problem& problem, const Device& device, size_t workspace_size) {
  Problem transpose = problem;
  std::swap(transpose.n, transpose.k);
  return plan_scaled_of<kScaledTransposedConfigs>(transpose, device, workspace_size);
}

}  // namespace nf4
