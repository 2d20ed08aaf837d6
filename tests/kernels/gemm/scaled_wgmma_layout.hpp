// What is wrong with a layout of gemm.scaled_wgmma, as a test computes it or a launch has it.
#pragma once

#include "gemm/scaled_wgmma_layout.hpp"

#include <string>

#include "layouts.hpp"

namespace nf4test {

template <class Shape>
std::string wrong_with(const nf4::ScaledLaunch& launch, const nf4::ScaledConfig& config, const nf4::Device& device,
                       int blocksize, int64_t n, int64_t k) {
  const nf4::ScaledPlan& plan = launch.plan;
  const int blocks = config.cols <= 128 ? 2 : 1;  // of a stage
  const int scales = blocks * 64 / blocksize;     // of a row in a stage
  if (Shape::kRows != config.rows || Shape::kCols != config.cols || Shape::kFormatCols != blocksize) return "shape";
  if (Shape::kRows > 256 || Shape::kCols > 256) return "more rows than one copy takes";
  if (Shape::kThreads != (config.rows / 64 + 1) * 128) return "threads";
  if (plan.cluster != config.cluster || plan.stages.count != plan.cluster) return "cluster";
  if (plan.stages.begin(plan.cluster) != (k + blocks * 64 - 1) / (blocks * 64)) return "stages";
  if (launch.row_tiles * config.rows < n || (launch.row_tiles - 1) * config.rows >= n) return "tiles";
  if (plan.ring < 2 || plan.ring > 8) return "ring";
  if (plan.ring * scales * config.rows * 4 > kPairHoles * kPairHoleBytes) return "scales overlap the table";

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

}  // namespace nf4test
