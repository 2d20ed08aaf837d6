// What gemm.pair_stream lays out: for any sizes of W nothing in shared memory overlaps, each barrier is one team's and
// one producer group's, and all rows and columns are somebody's.
#include "gemm/pair_stream_layout.hpp"

#include <string>

#include "catch.hpp"

namespace nf4test {
namespace {

// The devices that the layout is for: an H100 or H200, one of fewer SMs, and one that runs a cluster at a time.
nf4::Device device(std::array<int, 4> clusters) {
  nf4::Device device{0, 90, clusters[0], "test"};
  device.shared_memory = 227 * 1024;
  device.resident_clusters = clusters;
  return device;
}

// What is wrong with a layout of W [n, k]; empty if nothing is.
template <class Sizes>
std::string wrong_with(const nf4::StreamLayout& layout, const nf4::StreamConfig& config, const nf4::Device& device,
                       std::span<const int64_t> rows, int64_t k) {
  constexpr int kTable = 64 * 1024;
  constexpr int kHoles = 256, kHoleBytes = 128;
  const int scales_bytes = layout.rows * 4 * 4;  // of a stage: 4 blocks, fp32
  const int stage_bytes = layout.rows * 128 + 4 * Sizes::kCols * 64 * 2;
  const int sums_end = kTable + layout.teams * Sizes::kCols * (layout.rows + 4) * 4;
  const int barriers_end = layout.barriers + 2 * layout.turns * 8;
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
  if (layout.barriers < kTable + layout.ring * stage_bytes) return "barriers overlap the ring";
  if (layout.barriers < sums_end) return "barriers overlap the sums";
  if (layout.barriers % 8 != 0) return "barriers are not aligned";
  if (layout.map < barriers_end) return "the map of nested scales overlaps barriers";
  if (layout.shared_bytes < layout.map + 256 * 4) return "the map does not fit";
  if (layout.shared_bytes > device.shared_memory) return "more shared memory than there is";
  return "";
}

template <class Sizes>
void check_layouts() {
  int64_t checked = 0, none = 0;
  std::string fault;
  for (const auto& clusters : {std::array{132, 66, 33, 16}, std::array{114, 57, 28, 14}, std::array{1, 1, 1, 1}}) {
    const nf4::Device on = device(clusters);
    for (const nf4::StreamConfig& config : nf4::kStreamConfigs) {
      for (const int64_t k : {64, 320, 8192, 28672}) {
        const auto check = [&](std::span<const int64_t> rows) {
          nf4::StreamLayout layout{};
          if (!nf4::lay_out_stream<Sizes>(rows, k, on, config, layout)) {
            ++none;
            return;
          }
          ++checked;
          const std::string wrong = wrong_with<Sizes>(layout, config, on, rows, k);
          if (!wrong.empty())
            fault = wrong + ": " + std::to_string(rows.size()) + " W, " + std::to_string(rows[0]) + " x " +
                    std::to_string(k) + ", " + config.text() + ", " + std::to_string(clusters[0]) + " SMs";
        };
        for (int64_t n = 1; n < 40'000 && fault.empty(); n += n < 700 ? 1 : 13) {
          check(std::array{n});
          if (n % 8 == 0) check(std::array{n, n / 8, n / 8});
          if (n % 8 == 1) check(std::array{n, n, n + 70, int64_t{1}});
        }
      }
    }
  }
  INFO(Sizes::kCols << " rows of x, " << Sizes::kProducers << " producers");
  CHECK(fault == "");
  CHECK(checked > 0);
  CHECK(none == 0);
}

}  // namespace

TEST_CASE("stream_layout: nothing overlaps, for any sizes") {
  check_layouts<nf4::StreamSizes<1, true>>();
  check_layouts<nf4::StreamSizes<2, true>>();
  check_layouts<nf4::StreamSizes<4, true>>();
  check_layouts<nf4::StreamSizes<8, true>>();
  check_layouts<nf4::StreamSizes<1, false>>();
  check_layouts<nf4::StreamSizes<2, false>>();
  check_layouts<nf4::StreamSizes<4, false>>();
  check_layouts<nf4::StreamSizes<8, false>>();
}

}  // namespace nf4test
