// What is wrong with a layout of gemm_experts.pair_stream, as a test computes it or a launch has it.
#pragma once

#include "gemm/experts_pair_layout.hpp"

#include <string>

#include "layouts.hpp"

namespace nf4test {

// What is wrong with a layout of E matrices [n, k]; empty if nothing is.
inline std::string wrong_with(const nf4::ExpertsPairPlan& plan, const nf4::ExpertsPairConfig& config,
                              const nf4::Device& device, const nf4::Problem& problem) {
  const int places = plan.ring * plan.teams;
  const int64_t codes_bytes = int64_t{places} * plan.groups * 32 * 128;
  if (plan.ctas != std::max(1, device.clusters(1))) return "CTAs";
  if (plan.cols > config.cols || plan.cols % 8 != 0 || plan.cols < 8) return "slots of a chunk";
  if (int64_t{plan.row_groups} * 32 < problem.n || int64_t{plan.row_groups - 1} * 32 >= problem.n) return "row groups";
  if (plan.blocks != problem.k / 64 || plan.stages != (plan.blocks + 3) / 4) return "stages";
  if (plan.groups < 1 || plan.groups * 32 > config.rows || plan.groups > nf4::kExpertsPairMostGroups) return "rows";
  if (plan.teams < 1 || plan.teams > config.teams || plan.teams > nf4::kExpertsPairMostTeams) return "teams";
  if (plan.teams > plan.stages) return "a team that has no part of an item";
  if (plan.splits != 1 && plan.splits != 2 && plan.splits != 4) return "warps that share a stage";
  if (plan.consumers() + plan.teams > nf4::experts_pair_warps(plan.cols)) return "more consumers than have registers";
  if (plan.threads != (plan.consumers() + plan.teams) * 32 || plan.threads > (plan.cols > 16 ? 384 : 512))
    return "threads";
  if (plan.ring < 2 || plan.ring > nf4::kExpertsPairMostRing) return "ring";
  if (places * plan.groups * 32 * 16 > kPairHoles * kPairHoleBytes) return "scales overlap the table";
  // Each expert may have one chunk that is not full.
  const int64_t chunks = std::min(problem.m, problem.experts) + problem.m / plan.cols;
  if (plan.most_chunks < chunks || plan.most_chunks * plan.row_groups > 0x7fffffff) return "chunks";
  const int64_t routing = (problem.experts + 1) * 4 + (problem.sorted ? 0 : problem.m * 2);
  if (routing > codes_bytes + int64_t{places} * plan.cols * 528) return "counts and ids reach beyond the rings";
  const std::string wrong =
      wrong_with_regions({pair_table(),
                          {"codes", kPairTable, codes_bytes, 1024},
                          {"x", plan.x, int64_t{places} * plan.cols * 528, 16},
                          {"sums", plan.sums, int64_t{plan.groups} * 32 * plan.cols * 4, 16},
                          {"barriers", plan.barriers, places * 16 + plan.consumers() * 8, 8},
                          {"map", plan.map, 256 * 4, 4},
                          {"segments", plan.segments, int64_t{plan.most_segments} * (3 * 4 + plan.cols * 8), 4}},
                         plan.shared_bytes, device);
  return wrong.empty() ? wrong_with_grid(plan.ctas, 1) : wrong;
}

}  // namespace nf4test
