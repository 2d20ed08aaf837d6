// What gemm.pair and gemm.pair_tma lay out: for any sizes of W nothing in shared memory overlaps, every stage of every
// tile is one consumer's, and each finds where its run begins.
#include "gemm/pair_layout.hpp"

#include "catch.hpp"
#include "layouts.hpp"

namespace nf4test {
namespace {

constexpr int kTable = 64 * 1024;
constexpr int kHoles = 256, kHoleBytes = 128;  // of the table

// A CTA with so many tiles and stages of K: as the kernel has it, in PairShare.
std::string wrong_with_runs(const nf4::PairPlan& plan, int consumers, int tiles, int stages) {
  if (stages == 0) return "";
  const int size = plan.by_consumers.quotient(tiles * stages);
  if (size != tiles * stages / consumers) return "stages of a consumer";
  const nf4::Shares runs{consumers, size, tiles * stages - size * consumers};
  if (runs.begin(consumers) != tiles * stages) return "stages that are nobody's";
  const int which = stages - plan.stages.size;
  if (which != 0 && which != 1) return "stages of a CTA";
  for (int consumer = 0; consumer < consumers; ++consumer) {
    if (plan.by_stages[which].quotient(runs.begin(consumer)) != runs.begin(consumer) / stages)
      return "tile where a consumer begins";
  }
  return "";
}

template <int Cols>
std::string wrong_with(const nf4::PairLaunch& launch, const nf4::PairConfig& config, const nf4::Device& device,
                       int most_cluster, int64_t tiles, int64_t k, int maps) {
  const nf4::PairPlan& plan = launch.plan;
  const int tile_rows = Cols >= 8 ? 32 : 16;
  const int blocks = Cols >= 8 ? 4 : 8;  // of a stage
  const int consumers = launch.threads / 32 - 4;
  if (consumers > config.warps || consumers % 4 != 0 || consumers < 4) return "consumers";
  if (launch.threads > nf4::kPairThreads) return "more threads than the kernel is compiled for";
  if (plan.ring < 2 || plan.ring > config.ring) return "ring";
  if (plan.cluster < config.cluster || plan.cluster > std::max(config.cluster, most_cluster) ||
      plan.cluster % config.cluster != 0)
    return "cluster";

  const int64_t stages = (k + blocks * 64 - 1) / (blocks * 64);
  if (plan.tiles.begin(plan.tiles.count) != tiles) return "tiles";
  if (plan.stages.count != plan.cluster || plan.stages.begin(plan.cluster) != stages) return "stages";
  const int most_tiles = plan.tiles.size + (plan.tiles.larger > 0 ? 1 : 0);
  if (plan.tiles.size < 1 || most_tiles > nf4::kPairMostTiles) return "tiles of a CTA";
  const int most_stages = plan.stages.size + (plan.stages.larger > 0 ? 1 : 0);
  for (const int its_tiles : {plan.tiles.size, most_tiles}) {
    for (const int its_stages : {plan.stages.size, most_stages}) {
      const std::string wrong = wrong_with_runs(plan, consumers, its_tiles, its_stages);
      if (!wrong.empty()) return wrong;
    }
  }

  if (plan.x_pitch < most_stages * blocks * 64 * 2) return "x of the CTA's stages does not fit into its row";
  if (plan.x_pitch % 128 != 16) return "rows of x meet in banks";
  const int rings = consumers * plan.ring;
  const int slots = most_tiles + consumers;
  const int slot_bytes = slots * tile_rows * Cols * 4;
  if (plan.slots == 0 && slot_bytes > kHoles * kHoleBytes) return "slots overlap the table";
  std::string wrong = wrong_with_regions({{"table", 0, kTable, 1024},
                                          {"codes", kTable, rings * 4096, 1024},
                                          {"scales", plan.scales, rings * tile_rows * blocks * 4, 16},
                                          {"x", plan.x, Cols * plan.x_pitch, 16},
                                          {"barriers", plan.barriers, (1 + 2 * rings) * 8, 8},
                                          {"maps", plan.map, maps * 256 * 4, 4},
                                          {"takers", plan.takers, 2 * nf4::kPairMostTiles, 1},
                                          {"slots", plan.slots, plan.slots == 0 ? 0 : slot_bytes, 128}},
                                         launch.shared_bytes, device);
  return wrong.empty() ? wrong_with_grid(int64_t{plan.tiles.count} * plan.cluster, plan.cluster) : wrong;
}

template <class Configs, int Cols>
void check_pair_layouts() {
  for (const int maps : {1, 4}) {
    INFO(Cols << " rows of x, " << maps << " maps");
    check_layouts(Configs::kConfigs,
                  [maps](const nf4::Device& device, const nf4::PairConfig& config, int64_t n,
                         int64_t k) -> std::optional<std::string> {
                    const int64_t tiles = (n + (Cols >= 8 ? 31 : 15)) / (Cols >= 8 ? 32 : 16);
                    nf4::PairLaunch launch{}, least{};
                    // Room for one row of x is all that the variant says it needs.
                    if (!nf4::lay_out_pair<Cols>(tiles, k, maps, device, Configs::kMostCluster, config, launch))
                      return no_room(Cols == 1 && nf4::lay_out_pair<1>(tiles, k, 4, device, Configs::kMostCluster,
                                                                       {4, 2, 1}, least));
                    return wrong_with<Cols>(launch, config, device, Configs::kMostCluster, tiles, k, maps);
                  });
  }
}

template <class Configs>
void check_pair_layouts() {
  check_pair_layouts<Configs, 1>();
  check_pair_layouts<Configs, 2>();
  check_pair_layouts<Configs, 4>();
  check_pair_layouts<Configs, 8>();
  check_pair_layouts<Configs, 16>();
}

}  // namespace

TEST_CASE("pair_layout: nothing overlaps, for any sizes") {
  check_pair_layouts<nf4::PairCpAsyncConfigs>();
  check_pair_layouts<nf4::PairTmaConfigs>();
}

}  // namespace nf4test
