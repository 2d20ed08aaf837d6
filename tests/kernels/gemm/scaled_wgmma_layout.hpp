// What is wrong with a layout of gemm.scaled_wgmma, as a test computes it or a launch has it.
#pragma once

#include "gemm/scaled_wgmma_layout.hpp"

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "layouts.hpp"

namespace nf4test {

// Of n outputs for each row of x, sums of k products.
template <class Shape>
std::string wrong_with(const nf4::ScaledLaunch& launch, const nf4::ScaledConfig& config, const nf4::Device& device,
                       int blocksize, int64_t n, int64_t k) {
  const nf4::ScaledPlan& plan = launch.plan;
  const int blocks = config.cols <= 128 ? 2 : 1;  // of a stage
  // Rows of W whose codes a stage has, and scales of each: a place for those of all stages.
  const int codes_rows = Shape::kTransposed ? blocks * 64 : config.rows;
  const int scales = (Shape::kTransposed ? config.rows : blocks * 64) / blocksize;
  if (Shape::kScales != scales || Shape::kCodesRows != codes_rows ||
      Shape::kCodesRowBytes != (Shape::kTransposed ? config.rows : blocks * 64) / 2)
    return "codes and scales of a stage";
  if (Shape::kRows != config.rows || Shape::kCols != config.cols || Shape::kFormatCols != blocksize) return "shape";
  if (Shape::kRows > 256 || Shape::kCols > 256) return "more rows than one copy takes";
  if (Shape::kThreads != (config.rows / 64 + 1) * 128) return "threads";
  const bool even = config.cluster == nf4::kScaledEven;
  if (plan.cluster != (even ? 1 : config.cluster)) return "cluster";
  const int64_t rounds = (k + 127) / 128;  // of a tile
  if (plan.stages * blocks != rounds * 2) return "stages";
  if (!even && (plan.shares.count != plan.cluster || plan.shares.begin(plan.cluster) != rounds)) return "shares";
  if (launch.row_tiles * config.rows < n || (launch.row_tiles - 1) * config.rows >= n) return "tiles";
  if (plan.ring < 2 || plan.ring > 8) return "ring";
  if (plan.ring * scales * codes_rows * 4 > kPairHoles * kPairHoleBytes) return "scales overlap the table";

  const int x_bytes = blocks * config.cols * 128, codes_bytes = blocks * config.rows * 32;  // of a stage
  if (x_bytes % 1024 != 0 || codes_bytes % 1024 != 0) return "x is not as wgmma wants it";
  const Region table = pair_table();
  const Region barriers{"barriers", plan.barriers, plan.ring * 16 + config.rows / 64 * 8, 8};
  std::string wrong = wrong_with_regions(
      {table, {"ring", kPairTable, plan.ring * (x_bytes + codes_bytes), 1024}, barriers}, launch.shared_bytes, device);
  if (wrong.empty())
    wrong = wrong_with_regions({table, {"sums", kPairTable, config.cols * (config.rows + 4) * 4, 16}, barriers},
                               launch.shared_bytes, device);
  // As many blocks as the longest pass has.
  if (launch.most_rows < config.cols || launch.most_rows % config.cols != 0 || launch.most_rows > 0x7fffffff)
    return "rows of x in a launch";
  return wrong.empty()
             ? wrong_with_grid(launch.row_tiles * (launch.most_rows / config.cols) * plan.cluster, plan.cluster)
             : wrong;
}

// The parts that CTAs have of so many tiles, divided evenly.
template <class Shape>
std::string wrong_with_parts(const nf4::ScaledPlan& plan, int64_t tiles, int ctas) {
  if (plan.shares.count < 1 || plan.shares.count > ctas) return "CTAs";
  std::vector<int> covered(static_cast<size_t>(tiles));  // stages, up to which a tile's parts have come
  int64_t least = INT64_MAX, most = 0;
  for (int cta = 0; cta < plan.shares.count; ++cta) {
    int64_t stages = 0;
    int divided = 0;
    nf4::ScaledPart part;
    for (int i = 0; nf4::even_part<Shape>(plan, cta, i, part); ++i) {
      const int64_t tile = part.row / Shape::kRows * plan.col_tiles + part.col / Shape::kCols;
      if (part.row % Shape::kRows != 0 || part.col % Shape::kCols != 0 || tile >= tiles) return "a tile's place";
      if (part.stages < 1 || part.stages % Shape::kStages != 0 ||
          part.stage_begin != covered[static_cast<size_t>(tile)])
        return "stages of a tile";
      covered[static_cast<size_t>(tile)] += part.stages;
      stages += part.stages;
      if ((part.step < 0) != (part.stages == plan.stages)) return "whole tiles";
      if (part.step < 0) continue;
      ++divided;
      // Whoever adds up finds the others: those whose shares meet the tile.
      const int rounds = plan.stages / Shape::kStages, part_rounds = part.stages / Shape::kStages;
      if (part.step / rounds * rounds * Shape::kStages + part.stage_begin != part.step * Shape::kStages) return "step";
      if (plan.shares.taker(part.step) != cta || plan.shares.taker(part.step + part_rounds - 1) != cta) return "taker";
    }
    if (divided > 2) return "more parts than a CTA has room for";
    least = std::min(least, stages);
    most = std::max(most, stages);
  }
  if (most - least > Shape::kStages) return "shares that are not alike";
  if (std::any_of(covered.begin(), covered.end(), [&](int stages) { return stages != plan.stages; })) return "cover";
  return {};
}

}  // namespace nf4test
