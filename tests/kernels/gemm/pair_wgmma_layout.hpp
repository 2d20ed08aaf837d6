// What is wrong with a layout of gemm.pair_wgmma, as a test computes it or a launch has it.
#pragma once

#include "gemm/pair_wgmma_layout.hpp"

#include <string>

#include "layouts.hpp"

namespace nf4test {

template <int Cols>
std::string wrong_with(const nf4::WgmmaLaunch& launch, const nf4::WgmmaConfig& config, const nf4::Device& device,
                       int64_t n, int64_t k) {
  using Shape = nf4::WgmmaShape<Cols>;
  const nf4::WgmmaPlan& plan = launch.plan;
  if (plan.tiles < 1 || plan.tiles > config.tiles || plan.rows() != plan.tiles * 64) return "tiles of a CTA";
  if (plan.rows() > 256) return "more rows than one copy of codes takes";
  if (launch.clusters * plan.rows() < n || (launch.clusters - 1) * plan.rows() >= n) return "tiles";
  if (plan.teams < 1 || plan.teams > config.teams) return "teams";
  if (plan.warpgroups * plan.teams > Shape::kConsumers) return "more consumers than have registers";
  if (launch.threads != (plan.warpgroups * plan.teams + 1) * 128) return "threads";
  if (launch.threads > Shape::kThreads) return "more threads than the kernel is compiled for";
  int tiles = 0;
  for (int warpgroup = 0; warpgroup < plan.warpgroups; ++warpgroup) {
    const int its = std::min(plan.warpgroup_tiles, plan.tiles - warpgroup * plan.warpgroup_tiles);
    if (its < 1 || its > Shape::kMostTiles) return "tiles of a warpgroup";
    tiles += its;
  }
  if (tiles != plan.tiles) return "tiles that are no warpgroup's";
  if (plan.cluster != config.cluster || plan.stages.count != plan.cluster) return "cluster";
  if (plan.stages.begin(plan.cluster) != (k + 127) / 128) return "stages";
  if (plan.ring < 2 * plan.teams || plan.ring % (2 * plan.teams) != 0 || plan.ring % Shape::kGroups != 0)
    return "a place of two teams, or of two groups of producers";

  const int codes_bytes = plan.rows() * 64, x_bytes = 2 * Cols * 128;  // of a stage
  if (codes_bytes % 1024 != 0 || x_bytes % 1024 != 0) return "x is not as wgmma wants it";
  const Region table = pair_table(), barriers{"barriers", plan.barriers, plan.ring * 16, 8};
  std::string wrong =
      wrong_with_regions({table, {"ring", kPairTable, int64_t{plan.ring} * (codes_bytes + x_bytes), 1024}, barriers},
                         launch.shared_bytes, device);
  if (wrong.empty())
    wrong = wrong_with_regions({table, {"sums", kPairTable, plan.teams * Cols * (plan.rows() + 4) * 4, 16}, barriers},
                               launch.shared_bytes, device);
  return wrong.empty() ? wrong_with_grid(launch.clusters * plan.cluster, plan.cluster) : wrong;
}

}  // namespace nf4test
