// What gemm.pair_stream and gemm.pair_wgmma plan for 33 to 64 rows of x: what is counted, by hand, and what holds for
// any sizes.
#include <cmath>

#include "catch.hpp"
#include "gemm/pair_stream_cost.hpp"
#include "gemm/pair_wgmma_cost.hpp"
#include "planning.hpp"

namespace nf4test {
namespace {

// What gemm.pair_stream takes for what a test counted.
double stream(int rounds, int rows, int warps, int teams, int stages, bool cluster) {
  const double turns = std::ceil(warps * teams / 4.0) * 1340 / teams, whole = 12.3 * 32 * warps;
  return rounds * (3650 + 9.7 * rows + (cluster ? 900 : 0) + stages * std::max(turns, whole));
}

}  // namespace

TEST_CASE("pair_stream_cost: tiles, stages and warps, by hand") {
  const nf4::Device device = device_of({132, 66, 30, 15});
  // 8192 rows are 128 tiles of 64, one round of 132, 2 warps each; 8192 columns are 32 stages.
  CHECK(nf4::stream_cost({2, 1}, product(64, 8192, 8192), device) == Approx(stream(1, 64, 2, 2, 32, false)));
  // In clusters of 2 there are 66 at once, so a tile has 128 rows; each CTA has half of the stages. Two teams of 4
  // warps are more than the 7 that there are.
  CHECK(nf4::stream_cost({2, 2}, product(64, 8192, 8192), device) == Approx(stream(1, 128, 4, 1, 16, true)));
  // 35840 rows do not fit into 132 tiles of 7 warps: two rounds, of tiles of 136 rows, whose 5 warps take as long as 8.
  CHECK(nf4::stream_cost({1, 1}, product(33, 35840, 5120), device) == Approx(stream(2, 136, 5, 1, 20, false)));
}

TEST_CASE("pair_wgmma_cost: tiles and stages, by hand") {
  const nf4::Device device = device_of({132, 66, 30, 15});
  // 8192 rows are 32 tiles of 256; 8192 columns 64 stages.
  CHECK(nf4::wgmma_cost({4, 1, 1}, product(64, 8192, 8192), device) == Approx(4200 + 64 * (590 + 3 * 256)));
  // In clusters of 4 two rounds of 30, and 16 stages.
  CHECK(nf4::wgmma_cost({4, 1, 4}, product(64, 8192, 8192), device) == Approx(2 * (5200 + 16 * (590 + 3 * 256))));
  // Of 4 teams there is room for 2, which multiply 64 rows each meanwhile.
  CHECK(nf4::wgmma_cost({1, 4, 1}, product(64, 8192, 8192), device) == Approx(4200 + 64 * (590 + 3 * 128)));
}

TEST_CASE("pair costs: what nobody measured takes for ever, and is not planned") {
  const nf4::Device device = device_of({132, 66, 30, 15});
  for (const int64_t m : {1, 32, 65, 1000}) {
    CHECK(std::isinf(nf4::plan_stream(product(m, 8192, 8192), device, 0).nanoseconds));
    CHECK(std::isinf(nf4::plan_wgmma(product(m, 8192, 8192), device, 0).nanoseconds));
  }
  CHECK(std::isinf(nf4::plan_wgmma(product(64, 8192, 8192, 32), device, 0).nanoseconds));
  CHECK_FALSE(std::isinf(nf4::plan_wgmma(product(64, 8192, 8192, 64), device, 0).nanoseconds));
  // A device that runs no clusters of 4 and 8.
  const nf4::Device few = device_of({8, 2, 0, 0});
  CHECK(std::isinf(nf4::stream_cost({2, 4}, product(64, 1024, 8192), few)));
  CHECK(std::isinf(nf4::wgmma_cost({4, 1, 4}, product(64, 1024, 8192), few)));
  CHECK(nf4::kStreamConfigs[nf4::plan_stream(product(64, 1024, 8192), few, 0).config].cluster <= 2);
}

TEST_CASE("pair costs: what is planned takes the least, and more rows or columns of W no less") {
  for (const nf4::Device& device : {device_of({132, 66, 30, 15}), device_of({78, 39, 18, 9})}) {
    for (const int64_t n : {1, 129, 1024, 3072, 5376, 8192, 14336, 35840}) {
      for (const int64_t k : {64, 1024, 5120, 28672}) {
        const nf4::Problem problem = product(48, n, k);
        INFO(n << " x " << k);
        const nf4::Planned streamed = nf4::plan_stream(problem, device, 0), tiled = nf4::plan_wgmma(problem, device, 0);
        CHECK(streamed.nanoseconds == nf4::stream_cost(nf4::kStreamConfigs[streamed.config], problem, device));
        CHECK(tiled.nanoseconds == nf4::wgmma_cost(nf4::kWgmmaConfigs[tiled.config], problem, device));
        for (const nf4::StreamConfig& config : nf4::kStreamConfigs) {
          CHECK(streamed.nanoseconds <= nf4::stream_cost(config, problem, device));
          CHECK(nf4::stream_cost(config, product(48, n, 2 * k), device) >= nf4::stream_cost(config, problem, device));
        }
        for (const nf4::WgmmaConfig& config : nf4::kWgmmaConfigs) {
          CHECK(tiled.nanoseconds <= nf4::wgmma_cost(config, problem, device));
          CHECK(nf4::wgmma_cost(config, product(48, 2 * n, k), device) >= nf4::wgmma_cost(config, problem, device));
          CHECK(nf4::wgmma_cost(config, product(48, n, 2 * k), device) >= nf4::wgmma_cost(config, problem, device));
        }
      }
    }
  }
}

}  // namespace nf4test
