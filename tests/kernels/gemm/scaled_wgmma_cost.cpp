// Which config gemm.scaled_wgmma plans: what is counted, by hand, and what holds for any sizes and devices.
#include "gemm/scaled_wgmma_cost.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "catch.hpp"
#include "layouts.hpp"
#include "planning.hpp"

namespace nf4test {
namespace {

using nf4::kScaledConfigs;

std::string planned(const nf4::Problem& problem, const nf4::Device& device, size_t workspace) {
  return kScaledConfigs[nf4::plan_scaled(problem, device, workspace).config].text();
}

size_t workspace_of(const nf4::ScaledConfig& config, const nf4::Device& device) {
  return static_cast<size_t>(nf4::scaled_workspace(config, std::max(1, device.clusters(1))));
}

std::vector<nf4::Problem> some_products() {
  std::vector<nf4::Problem> products;
  for (const int64_t m : {65, 128, 129, 300, 1024, 5000})
    for (const int64_t n : {1, 129, 1024, 3072, 5120, 5376, 8192, 14336, 28672, 131072})
      for (const int64_t k : {64, 192, 1024, 4096, 5376, 25600}) products.push_back(product(m, n, k));
  return products;
}

}  // namespace

TEST_CASE("scaled_wgmma_cost: waves, rounds and all work, by hand") {
  const nf4::Device device = device_of({132, 66, 30, 15});
  // 4096 / 128 = 32 tiles in clusters of 4: 30 of them and 2 more, two waves. 5376 / 128 = 42 rounds, of which the
  // first CTA of a cluster has 11.
  const double two_waves = 2 * (1900 + 3000 + 11 * 750) + 32.0 * 42 / 132 * 450 * 128 * 128 / (128 * 256);
  CHECK(nf4::scaled_cost({128, 128, 4}, product(128, 4096, 5376), device) == Approx(two_waves));
  // 4096 / 192 makes 22 tiles: one wave.
  const double one_wave = 3600 + 3000 + 11 * 1100 + 22.0 * 42 / 132 * 450 * 192 * 128 / (128 * 256);
  CHECK(nf4::scaled_cost({192, 128, 4}, product(128, 4096, 5376), device) == Approx(one_wave));
  // Without clusters: 257 rows of x are two tiles, 64 in all, and 42 rounds are one CTA's.
  const double alone = 2900 + 42 * 1100 + 64.0 * 42 / 132 * 450;
  CHECK(nf4::scaled_cost({128, 256, 1}, product(257, 4096, 5376), device) == Approx(alone));
}

TEST_CASE("scaled_wgmma_cost: ends, rounds and meetings of an even division, by hand") {
  using Shape = nf4::ScaledShape<128, 256, 64>;
  struct Case {
    int64_t tiles;
    int rounds, ctas;  // of a tile
    int64_t ends, most;
    bool meets;
  };
  const Case cases[] = {
      {132, 64, 132, 1, 64, false},   // a tile for each
      {264, 64, 132, 2, 128, false},  // two
      {66, 64, 132, 1, 32, true},     // half of one: 64 rounds for two CTAs, and nobody has parts of two
      {40, 64, 132, 2, 20, true},     // 2560 rounds: 52 CTAs have 20 of them, and begin anywhere
      {160, 64, 132, 3, 78, true},    // 10240 rounds: 76 CTAs have 78, such as 7, 64 and 7
      {198, 64, 132, 2, 96, true},    // a tile and a half, which begin at its start or in its middle
      {424, 64, 132, 5, 206, true},   // two whole ones, and of the 160 others 78 rounds
      {3, 1, 132, 1, 1, false},       // fewer rounds than CTAs
      {1, 4, 1, 1, 4, false},         // one CTA
  };
  for (const Case& c : cases) {
    INFO(c.tiles << " tiles of " << c.rounds << " rounds, " << c.ctas << " CTAs");
    nf4::ScaledPlan plan{};
    plan.stages = c.rounds * Shape::kStages;
    const auto [ends, most, meets] = nf4::scaled_even_work<Shape>(plan, c.tiles, c.ctas);
    CHECK(ends == c.ends);
    CHECK(most == c.most);
    CHECK(meets == c.meets);
  }
}

// What an even division is said to have is what even_part() gives CTAs.
TEST_CASE("scaled_wgmma_cost: of an even division, no CTA has more than what is counted, and some have as much") {
  using Shape = nf4::ScaledShape<128, 128, 64>;
  for (const int rounds : {1, 2, 3, 8, 42, 64}) {
    for (const int ctas : {1, 2, 7, 78, 132}) {
      for (int tiles = 1; tiles < 3 * ctas + 2; ++tiles) {
        nf4::ScaledPlan plan{};
        plan.stages = rounds * Shape::kStages;
        plan.col_tiles = 1;
        const nf4::ScaledEvenWork counted = nf4::scaled_even_work<Shape>(plan, tiles, ctas);
        nf4::share_evenly<Shape>(plan, tiles, ctas);
        int64_t most_ends = 0, most_rounds = 0;
        bool meets = false;
        for (int cta = 0; cta < plan.shares.count; ++cta) {
          int64_t ends = 0, stages = 0;
          nf4::ScaledPart part;
          for (int i = 0; nf4::even_part<Shape>(plan, cta, i, part); ++i) {
            ++ends;
            stages += part.stages;
            meets = meets || part.step >= 0;
          }
          most_ends = std::max(most_ends, ends);
          most_rounds = std::max(most_rounds, stages / Shape::kStages);
        }
        INFO(tiles << " tiles of " << rounds << " rounds, " << ctas << " CTAs");
        CHECK(counted.rounds == most_rounds);
        CHECK(counted.meets == meets);
        CHECK(counted.ends >= most_ends);
        // A few shares of unequal size may all miss the worst place.
        CHECK(counted.ends <= most_ends + 1);
      }
    }
  }
}

TEST_CASE("scaled_wgmma_cost: what is planned, by hand") {
  const nf4::Device device = device_of({132, 66, 30, 15});
  const nf4::Device more_clusters = device_of({132, 66, 33, 16});
  // 22 tiles in clusters of 4 are one wave of 11 rounds, 18.7 us and the work; 32 tiles in clusters of 2 take 21 rounds
  // of 750 ns, 19.9 us; and in clusters of 4 two waves, unless 33 run at once: then 13.2 us.
  CHECK(planned(product(128, 4096, 5376), device, 0) == "rows=192 cols=128 cluster=4");
  CHECK(planned(product(128, 4096, 5376), more_clusters, 0) == "rows=128 cols=128 cluster=4");
  // 8 tiles: clusters of 8, for 8 rounds each.
  CHECK(planned(product(128, 1024, 8192), device, 0) == "rows=128 cols=128 cluster=8");
  // 168 tiles are 1.3 waves. Alone two waves of 42 rounds, 98 us; in pairs three of 21, 85 us. Evenly 54 rounds and
  // three ends, 68 us, and a meeting.
  CHECK(planned(product(256, 21504, 5376), device, 0) == "rows=128 cols=256 cluster=2");
  CHECK(planned(product(256, 21504, 5376), device, SIZE_MAX) == "rows=128 cols=256 split=even");
  // 132 tiles are one wave.
  CHECK(planned(product(256, 16896, 8192), device, SIZE_MAX) == "rows=128 cols=256 cluster=1");
  // 896 tiles are 6.8 waves.
  CHECK(planned(product(1024, 28672, 8192), device, 0) == "rows=128 cols=256 cluster=1");
}

TEST_CASE("scaled_wgmma_cost: what is planned takes the least time of what fits into the workspace") {
  for (const nf4::Device& device : layout_devices()) {
    const size_t small = workspace_of({128, 128, nf4::kScaledEven}, device);  // too little for larger tiles
    REQUIRE(small < workspace_of({192, 128, nf4::kScaledEven}, device));
    for (const nf4::Problem& problem : some_products()) {
      INFO(device.name << ", m " << problem.m << " n " << problem.n << " k " << problem.k);
      for (const size_t workspace : {size_t{0}, small - 1, small, SIZE_MAX}) {
        const nf4::ScaledConfig& config = kScaledConfigs[nf4::plan_scaled(problem, device, workspace).config];
        const double cost = nf4::scaled_cost(config, problem, device);
        CHECK(workspace_of(config, device) <= workspace);
        CHECK(std::isfinite(cost));
        for (const nf4::ScaledConfig& other : kScaledConfigs) {
          if (workspace_of(other, device) <= workspace) CHECK(cost <= nf4::scaled_cost(other, problem, device));
        }
      }
    }
  }
}

// Larger clusters for nothing: with neither fewer waves nor fewer rounds than smaller ones of the same tile.
TEST_CASE("scaled_wgmma_cost: no cluster is planned that a smaller one is as good as") {
  for (const nf4::Device& device : layout_devices()) {
    for (const nf4::Problem& problem : some_products()) {
      const nf4::ScaledConfig& config = kScaledConfigs[nf4::plan_scaled(problem, device, 0).config];
      INFO(device.name << ", m " << problem.m << " n " << problem.n << " k " << problem.k << ": " << config.text());
      const auto up = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
      const int64_t tiles = up(problem.n, config.rows) * up(problem.m, config.cols);
      const auto waves = [&](int cluster) { return up(tiles, device.clusters(cluster)); };
      const auto rounds = [&](int cluster) { return up(up(problem.k, 128), cluster); };
      for (int smaller = 1; smaller < config.cluster; smaller *= 2) {
        CHECK((waves(smaller) > waves(config.cluster) || rounds(smaller) > rounds(config.cluster)));
      }
    }
  }
}

TEST_CASE("scaled_wgmma_cost: larger products take no less time in clusters") {
  const nf4::Device device = device_of({132, 66, 30, 15});
  for (const nf4::ScaledConfig& config : kScaledConfigs) {
    if (config.cluster == nf4::kScaledEven) continue;
    for (const nf4::Problem& problem : some_products()) {
      INFO(config.text() << ", m " << problem.m << " n " << problem.n << " k " << problem.k);
      nf4::Problem taller = problem, wider = problem, deeper = problem;
      taller.m += 100;
      wider.n += 100;
      deeper.k += 64;
      const double cost = nf4::scaled_cost(config, problem, device);
      CHECK(nf4::scaled_cost(config, taller, device) >= cost);
      CHECK(nf4::scaled_cost(config, wider, device) >= cost);
      CHECK(nf4::scaled_cost(config, deeper, device) >= cost);
    }
  }
}

TEST_CASE("scaled_wgmma_cost: sizes from nothing to the most, on any device") {
  constexpr int64_t kMost = int64_t{1} << 30;  // of n and k
  for (const nf4::Device& device : layout_devices()) {
    for (const int blocksize : {32, 64}) {
      for (const int64_t n : {int64_t{0}, int64_t{1}, int64_t{4096}, kMost}) {
        for (const int64_t k : {int64_t{64}, int64_t{4096}, kMost}) {
          for (const int64_t m : {int64_t{0}, int64_t{1}, int64_t{1} << 20, kMost}) {
            const nf4::Problem problem = product(m, n, k, blocksize);
            INFO(device.name << ", m " << m << " n " << n << " k " << k);
            for (const nf4::ScaledConfig& config : kScaledConfigs) {
              const double cost = nf4::scaled_cost(config, problem, device);
              if (config.cluster > 1 && device.clusters(config.cluster) == 0) {
                CHECK(std::isinf(cost));
              } else {
                CHECK((m == 0 ? cost == 0 : cost > 0 && std::isfinite(cost)));
              }
            }
            for (const size_t workspace : {size_t{0}, SIZE_MAX}) {
              const int config = nf4::plan_scaled(problem, device, workspace).config;
              REQUIRE((config >= 0 && config < static_cast<int>(std::size(kScaledConfigs))));
              CHECK(workspace_of(kScaledConfigs[config], device) <= workspace);
            }
          }
        }
      }
    }
  }
  // Of many passes each takes as long as any.
  const nf4::Device device = device_of({132, 66, 30, 15});
  const double once = nf4::scaled_cost({128, 256, 1}, product(kMost, 128, 64), device);
  CHECK(nf4::scaled_cost({128, 256, 1}, product(8 * kMost, 128, 64), device) == Approx(8 * once));
}

TEST_CASE("scaled_wgmma_cost: a transposed product is planned as that of the transpose") {
  const nf4::Device device = device_of({132, 66, 30, 15});
  const auto transposed = [&](int64_t m, int64_t n, int64_t k, size_t workspace) {
    nf4::Problem problem = product(m, n, k);
    problem.op = nf4::Op::gemm_transposed;
    return nf4::plan_scaled_transposed(problem, device, workspace);
  };
  for (const nf4::Problem& problem : some_products()) {
    for (const size_t workspace : {size_t{0}, SIZE_MAX}) {
      const auto [config, nanoseconds] = transposed(problem.m, problem.k, problem.n, workspace);
      const nf4::ScaledConfig& chosen = nf4::kScaledTransposedConfigs[config];
      CHECK((workspace > 0 || chosen.cluster != nf4::kScaledEven));
      CHECK(nanoseconds == nf4::scaled_cost(chosen, problem, device));
      for (const nf4::ScaledConfig& other : nf4::kScaledTransposedConfigs) {
        if (workspace > 0 || other.cluster != nf4::kScaledEven)
          CHECK(nanoseconds <= nf4::scaled_cost(other, problem, device));
      }
    }
  }
  // 4096 columns are 32 tiles: two CTAs each have 4 rounds of 1024 rows, where two waves of clusters of 4 have 2 each.
  CHECK(nf4::kScaledTransposedConfigs[transposed(64, 1024, 4096, 0).config].text() == "rows=128 cols=128 cluster=2");
}

}  // namespace nf4test
