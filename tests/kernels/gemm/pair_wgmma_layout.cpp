// What gemm.pair_wgmma lays out: for any sizes of W nothing in shared memory overlaps, each place of a ring is one
// team's and one producer group's, and all tiles and columns are somebody's.
#include "gemm/pair_wgmma_layout.hpp"

#include "catch.hpp"
#include "layouts.hpp"

namespace nf4test {
namespace {

constexpr int kTable = 64 * 1024;

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
  const Region table{"table", 0, kTable, 1024}, barriers{"barriers", plan.barriers, plan.ring * 16, 8};
  std::string wrong =
      wrong_with_regions({table, {"ring", kTable, int64_t{plan.ring} * (codes_bytes + x_bytes), 1024}, barriers},
                         launch.shared_bytes, device);
  if (wrong.empty())
    wrong = wrong_with_regions({table, {"sums", kTable, plan.teams * Cols * (plan.rows() + 4) * 4, 16}, barriers},
                               launch.shared_bytes, device);
  return wrong.empty() ? wrong_with_grid(launch.clusters * plan.cluster, plan.cluster) : wrong;
}

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
