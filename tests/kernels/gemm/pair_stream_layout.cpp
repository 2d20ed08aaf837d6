// What gemm.pair_stream lays out: for any sizes of W nothing in shared memory overlaps, each barrier is one team's and
// one producer group's, and all rows and columns are somebody's.
#include "gemm/pair_stream_layout.hpp"

#include <string>

#include "catch.hpp"
#include "layouts.hpp"

namespace nf4test {
namespace {

// What is wrong with a layout of W [n, k]; empty if nothing is.
template <class Sizes>
std::string wrong_with(const nf4::StreamPlan& layout, const nf4::StreamConfig& config, const nf4::Device& device,
                       std::span<const int64_t> rows, int64_t k) {
  constexpr int kTable = 64 * 1024;
  constexpr int kHoles = 256, kHoleBytes = 128;
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
  if (layout.ring * scales_bytes > kHoles * kHoleBytes || layout.rows * 16 % kHoleBytes != 0)
    return "scales overlap the table";
  if (layout.rows * 128 % 1024 != 0) return "boxes are not as copies want them";
  const Region table{"table", 0, kTable, 1024};
  const Region barriers{"barriers", layout.barriers, 2 * layout.turns * 8, 8}, map{"map", layout.map, 256 * 4, 4};
  std::string wrong = wrong_with_regions({table, {"ring", kTable, layout.ring * stage_bytes, 1024}, barriers, map},
                                         layout.shared_bytes, device);
  if (wrong.empty())
    wrong = wrong_with_regions({table, {"sums", kTable, sums_bytes, 16}, barriers, map}, layout.shared_bytes, device);
  return wrong.empty() ? wrong_with_grid(layout.tiles * layout.cluster, layout.cluster) : wrong;
}

// The rows of each W of a group whose first W has n; empty for some n.
std::vector<int64_t> one(int64_t n) { return {n}; }
std::vector<int64_t> three(int64_t n) {
  return n % 8 == 0 ? std::vector<int64_t>{n, n / 8, n / 8} : std::vector<int64_t>{};
}
std::vector<int64_t> four(int64_t n) {
  return n % 8 == 1 ? std::vector<int64_t>{n, n, n + 70, 1} : std::vector<int64_t>{};
}

template <class Sizes>
void check_stream_layouts() {
  for (const auto group : {one, three, four}) {
    INFO(Sizes::kCols << " rows of x, " << Sizes::kProducers << " producers, " << group(8).size() << " or "
                      << group(9).size() << " W");
    check_layouts(nf4::kStreamConfigs,
                  [group](const nf4::Device& device, const nf4::StreamConfig& config, int64_t n,
                          int64_t k) -> std::optional<std::string> {
                    const std::vector<int64_t> rows = group(n);
                    if (rows.empty()) return std::nullopt;
                    nf4::StreamPlan layout{}, least{};
                    if (!nf4::lay_out_stream<Sizes>(rows, k, device, config, layout))
                      return no_room(nf4::lay_out_stream<nf4::StreamSizes<8, true>>(rows, k, device, {1, 1}, least));
                    return wrong_with<Sizes>(layout, config, device, rows, k);
                  });
  }
}

}  // namespace

TEST_CASE("pair_stream_layout: nothing overlaps, for any sizes") {
  check_stream_layouts<nf4::StreamSizes<1, true>>();
  check_stream_layouts<nf4::StreamSizes<2, true>>();
  check_stream_layouts<nf4::StreamSizes<4, true>>();
  check_stream_layouts<nf4::StreamSizes<8, true>>();
  check_stream_layouts<nf4::StreamSizes<1, false>>();
  check_stream_layouts<nf4::StreamSizes<2, false>>();
  check_stream_layouts<nf4::StreamSizes<4, false>>();
  check_stream_layouts<nf4::StreamSizes<8, false>>();
}

}  // namespace nf4test
