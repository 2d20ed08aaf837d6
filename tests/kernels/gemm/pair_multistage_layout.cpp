// What gemm.pair_multistage lays out: for any sizes of W nothing in shared memory overlaps, each place of x is one
// team's and one producer's, and all steps are somebody's.
#include "pair_multistage_layout.hpp"

#include <string>

#include "catch.hpp"

namespace nf4test {
namespace {

template <class Sizes>
void check_multistage_layouts(int maps) {
  INFO(Sizes::kCols << " rows of x, " << maps << " maps");
  check_layouts(
      nf4::kMultistageConfigs,
      [&](const nf4::Device& device, const nf4::MultistageConfig& config, int64_t n,
          int64_t k) -> std::optional<std::string> {
        if (n * k > int64_t{1} << 36) return std::nullopt;
        const std::vector<int64_t> rows = maps > 1 ? std::vector<int64_t>{n, n, n / 8 + 1, 1} : std::vector{n};
        nf4::MultistagePlan plan{}, least{};
        if (!nf4::lay_out_multistage<Sizes>(rows, k, maps, device, config, plan)) {
          return no_room(nf4::lay_out_multistage<nf4::MultistageSizes<4>>(rows, k, nf4::kMostProducts, device,
                                                                          {32, 1, nf4::MultistageSplit::tiles}, least));
        }
        return wrong_with<Sizes>(plan, config, device, rows, k, maps);
      });
}

}  // namespace

TEST_CASE("pair_multistage_layout: nothing overlaps, for any sizes") {
  for (const int maps : {0, nf4::kMostProducts}) {
    check_multistage_layouts<nf4::MultistageSizes<1>>(maps);
    check_multistage_layouts<nf4::MultistageSizes<2>>(maps);
    check_multistage_layouts<nf4::MultistageSizes<4>>(maps);
  }
}

}  // namespace nf4test
