// What gemm.pair_wgmma lays out: for any sizes of W nothing in shared memory overlaps, each place of a ring is one
// team's and one producer group's, and all tiles and columns are somebody's.
#include "pair_wgmma_layout.hpp"

#include "catch.hpp"

namespace nf4test {
namespace {

template <int Cols>
void check_wgmma_layouts() {
  INFO(Cols << " rows of x");
  check_layouts(nf4::kWgmmaConfigs,
                [](const nf4::Device& device, const nf4::WgmmaConfig& config, int64_t n,
                   int64_t k) -> std::optional<std::string> {
                  nf4::WgmmaLaunch launch{}, least{};
                  if (!nf4::lay_out_wgmma<nf4::WgmmaShape<Cols>>(n, k, device, config, launch))
                    return no_room(nf4::lay_out_wgmma<nf4::WgmmaShape<64>>(n, k, device, {1, 1, 1}, least));
                  return wrong_with<Cols>(launch, config, device, n, k);
                });
}

// What warpgroups have of an SM's registers, once they have taken and given up theirs.
template <int Cols>
constexpr int registers() {
  using Shape = nf4::WgmmaShape<Cols>;
  return (Shape::kConsumers * Shape::kConsumerRegisters + Shape::kProducerRegisters) * 128;
}
static_assert(registers<8>() <= 65536 && registers<16>() <= 65536 && registers<32>() <= 65536 &&
              registers<64>() <= 65536);

}  // namespace

TEST_CASE("pair_wgmma_layout: nothing overlaps, for any sizes") {
  check_wgmma_layouts<8>();
  check_wgmma_layouts<16>();
  check_wgmma_layouts<32>();
  check_wgmma_layouts<64>();
}

}  // namespace nf4test
