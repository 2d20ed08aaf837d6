// What gemm.scaled_wgmma lays out: for any sizes of W and x nothing in shared memory overlaps, and all tiles and
// columns are somebody's.
#include "scaled_wgmma_layout.hpp"

#include "catch.hpp"

namespace nf4test {
namespace {

template <bool Transposed>
void check_scaled_layouts(const auto& configs, int blocksize) {
  INFO("blocksize " << blocksize);
  check_layouts(configs,
                [blocksize](const nf4::Device& device, const nf4::ScaledConfig& config, int64_t n,
                            int64_t k) -> std::optional<std::string> {
                  if (device.shared_memory < nf4::kScaledLeastBytes) return std::nullopt;
                  return nf4::with_scaled_shape<Transposed>(config, blocksize, [&](auto shape) {
                    using Shape = decltype(shape);
                    return wrong_with<Shape>(nf4::lay_out_scaled<Shape>(n, k, device, config), config, device,
                                             blocksize, n, k);
                  });
                });
}

// What warpgroups have of an SM's registers, once they have taken and given up theirs.
template <class Shape>
constexpr int registers() {
  return Shape::kConsumerThreads * Shape::kConsumerRegisters + 128 * nf4::kScaledProducerRegisters;
}
static_assert(registers<nf4::ScaledShape<128, 256, 64>>() <= 65536 &&
              registers<nf4::ScaledShape<192, 128, 64>>() <= 65536);

}  // namespace

TEST_CASE("scaled_wgmma_layout: nothing overlaps, for any sizes") {
  for (const int blocksize : {64, 32}) {
    check_scaled_layouts<false>(nf4::kScaledConfigs, blocksize);
    check_scaled_layouts<true>(nf4::kScaledTransposedConfigs, blocksize);
  }
}

TEST_CASE("scaled_wgmma_layout: even shares cover every stage of every tile once") {
  using Shape = nf4::ScaledShape<128, 256, 64>;
  for (const int stages : {2, 4, 6, 14, 64, 448}) {
    for (const int ctas : {1, 2, 3, 78, 132}) {
      for (int tiles = 1; tiles <= 3 * ctas + 1; ++tiles) {
        for (const int col_tiles : {1, 3}) {
          if (tiles % col_tiles != 0) continue;
          nf4::ScaledPlan plan{};
          plan.stages = stages;
          plan.col_tiles = col_tiles;
          nf4::share_evenly<Shape>(plan, tiles, ctas);
          INFO(tiles << " tiles of " << stages << " stages, " << ctas << " CTAs");
          CHECK(wrong_with_parts<Shape>(plan, tiles, ctas) == "");
        }
      }
    }
  }
  // As long as K can be, for one tile and for more than each CTA has.
  for (const int tiles : {1, 131, 263}) {
    nf4::ScaledPlan plan{};
    plan.stages = (1 << 30) / 64;
    plan.col_tiles = 1;
    nf4::share_evenly<Shape>(plan, tiles, 132);
    INFO(tiles << " tiles");
    CHECK(wrong_with_parts<Shape>(plan, tiles, 132) == "");
  }
}

}  // namespace nf4test
