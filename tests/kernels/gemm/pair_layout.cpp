// What gemm.pair and gemm.pair_tma lay out: for any sizes of W nothing in shared memory overlaps, every stage of every
// tile is one consumer's, and each finds where its run begins.
#include "pair_layout.hpp"

#include "catch.hpp"

namespace nf4test {
namespace {

template <class Configs, int Cols>
void check_pair_layouts() {
  for (const int maps : {1, 4}) {
    INFO(Cols << " rows of x, " << maps << " maps");
    check_layouts(Configs::kConfigs,
                  [maps](const nf4::Device& device, const nf4::PairConfig& config, int64_t n,
                         int64_t k) -> std::optional<std::string> {
                    const int64_t tiles = (n + 15) / 16;
                    nf4::PairLaunch launch{}, least{};
                    // Room for one row of x is all that the variant says it needs.
                    if (!nf4::lay_out_pair<Cols>(tiles, k, maps, device, Configs::kMostCluster, config, launch))
                      return no_room(Cols == 1 && nf4::lay_out_pair<1>(tiles, k, 4, device, Configs::kMostCluster,
                                                                       {4, 2, 1}, least));
                    return wrong_with<Cols>(launch, config, device, Configs::kMostCluster, tiles, k, maps);
                  });
  }
}

}  // namespace

TEST_CASE("pair_layout: nothing overlaps, for any sizes") {
  check_pair_layouts<nf4::PairCpAsyncConfigs, 1>();
  check_pair_layouts<nf4::PairTmaConfigs, 1>();
  check_pair_layouts<nf4::PairTmaConfigs, 2>();
  check_pair_layouts<nf4::PairTmaConfigs, 4>();
}

}  // namespace nf4test
