// What gemm.scaled_mma lays out: for any sizes of W and any rows of x nothing in shared memory overlaps, and all steps
// are somebody's.
#include "scaled_mma_layout.hpp"

#include <string>

#include "catch.hpp"

namespace nf4test {
namespace {

void check_scaled_mma_layouts(int64_t m, int maps) {
  INFO(m << " rows of x, " << maps << " maps");
  check_layouts(
      nf4::kScaledMmaConfigs,
      [&](const nf4::Device& device, const nf4::ScaledMmaConfig& config, int64_t n,
          int64_t k) -> std::optional<std::string> {
        if (n * k > int64_t{1} << 36) return std::nullopt;
        const std::vector<int64_t> rows = maps > 1 ? std::vector<int64_t>{n, n, n / 8 + 1, 1} : std::vector{n};
        return nf4::with_scaled_mma_sizes(config, [&](auto sizes) -> std::optional<std::string> {
          using Sizes = decltype(sizes);
          nf4::ScaledMmaPlan plan{};
          int64_t taken = m;
          if (!nf4::lay_out_scaled_mma<Sizes>(rows, k, taken, maps, device, config, plan)) return no_room(true);
          if (taken < std::min<int64_t>(m, Sizes::kCols) || taken > m || (taken < m && taken % Sizes::kCols != 0))
            return "rows of x in a launch";
          return wrong_with<Sizes>(plan, config, device, rows, k, taken, maps);
        });
      });
}

}  // namespace

TEST_CASE("scaled_mma_layout: nothing overlaps, for any sizes") {
  check_scaled_mma_layouts(33, 0);
  check_scaled_mma_layouts(257, nf4::kMostProducts);
  check_scaled_mma_layouts(int64_t{1} << 40, 0);
}

}  // namespace nf4test
