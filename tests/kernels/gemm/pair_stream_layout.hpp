// What is wrong with a layout of gemm.pair_stream, as a test computes it or a launch has it.
#pragma once

#include "gemm/pair_stream_layout.hpp"

#include <string>

#include "layouts.hpp"

namespace nf4test {

// What is wrong with a layout of W [n, k]; empty if nothing is.
template <class Sizes>
std::string wrong_with(const nf4::StreamPlan& layout, const nf4::StreamConfig& config, const nf4::Device& device,
                       std::span<const int64_t> rows, int64_t k) {
  const int scales_bytes = layout.rows * 4 * 4;  // of a stage: 4 blocks, fp32
  const int stage_bytes = layout.rows * 128 + 4 * Sizes::kCols * 64 * 2;
  const int sums_bytes = layout.teams * Sizes::kCols * (layout.rows + 4) * 4;
  if (layout.rows < 32 || layout.rows % 8 != 0) return "rows of a tile";
  if (layout.box_rows > 256 || layout.box_rows % 8 != 0 || layout.rows % layout.box_rows != 0) return "rows of a box";
  if (layout.tiles != nf4::count_tiles(rows, layout.rows)) return "tiles";
  if (layout.warps * 32 < layout.rows || (layout.warps - 1) * 32 >= layout.rows) return "warps";
  if (layout.teams > config.teams || config.teams % layout.teams != 0) return "teams";
  if (layout.warps * layout.teams > Sizes::kMostConsumers) return "more consumers than have registers";
  if (layout.threads != (layout.warps * layout.teams + Sizes::kProducers) * 32) return "threads";
  if (layout.threads > Sizes::kThreads) return "more threads than the kernel is compiled for";
  if (layout.cluster != config.cluster || layout.stages.count != layout.cluster) return "cluster";
  if (int64_t{layout.stages.begin(layout.cluster)} != (k + 255) / 256) return "stages";
  if (layout.ring <= layout.teams) return "a ring in which no stage comes while all teams have one";
  if (layout.turns % layout.ring != 0 || layout.turns % layout.teams != 0 || layout.turns % Sizes::kGroups != 0)
    return "a barrier of two teams, or of two groups of producers";
  if (layout.ring * scales_bytes > kPairHoles * kPairHoleBytes || layout.rows * 16 % kPairHoleBytes != 0)
    return "scales overlap the table";
  if (layout.rows * 128 % 1024 != 0) return "boxes are not as copies want them";
  const Region table = pair_table();
  const Region barriers{"barriers", layout.barriers, 2 * layout.turns * 8, 8}, map{"map", layout.map, 256 * 4, 4};
  std::string wrong = wrong_with_regions({table, {"ring", kPairTable, layout.ring * stage_bytes, 1024}, barriers, map},
                                         layout.shared_bytes, device);
  if (wrong.empty())
    wrong =
        wrong_with_regions({table, {"sums", kPairTable, sums_bytes, 16}, barriers, map}, layout.shared_bytes, device);
  return wrong.empty() ? wrong_with_grid(layout.tiles * layout.cluster, layout.cluster) : wrong;
}

}  // namespace nf4test
