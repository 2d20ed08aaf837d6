// The host backend's parts that its results do not show: each version of the innermost loop, and the number of threads.
#include "host/host.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "catch.hpp"
#include "host/tile.hpp"
#include "support/operands.hpp"

namespace nf4test {
namespace {

// Small integers, whose sums are exact in any order; what lies between rows is NaN.
struct Tile {
  int64_t size, ldw, lds;
  std::vector<double> w, x, sums;

  Tile(std::mt19937& random, int64_t columns) : size(columns), ldw(columns + 3), lds(nf4::kTileLanes + 5) {
    const auto integers = [&](int64_t rows, int64_t used, int64_t stride) {
      std::vector<double> values(static_cast<size_t>(rows * stride), std::numeric_limits<double>::quiet_NaN());
      for (int64_t row = 0; row < rows; ++row) {
        for (int64_t i = 0; i < used; ++i)
          values[static_cast<size_t>(row * stride + i)] = static_cast<int>(random() % 17) - 8;
      }
      return values;
    };
    w = integers(nf4::kTileRows, size, ldw);
    x = integers(size, nf4::kTileLanes, nf4::kTileLanes);
    sums = integers(nf4::kTileRows, nf4::kTileLanes, lds);
  }

  double expected(int64_t row, int64_t lane) const {
    double sum = sums[static_cast<size_t>(row * lds + lane)];
    for (int64_t k = 0; k < size; ++k)
      sum += w[static_cast<size_t>(row * ldw + k)] * x[static_cast<size_t>(k * nf4::kTileLanes + lane)];
    return sum;
  }
};

std::vector<uint8_t> product(const WeightData& data, const std::vector<float>& x, int64_t m, int threads) {
  std::vector<float> y(static_cast<size_t>(m * data.rows));
  nf4::GemmArgs args{};
  args.y = y.data();
  args.ldy = data.rows;
  args.x = x.data();
  args.ldx = data.cols;
  args.m = m;
  args.dtype = nf4::Dtype::f32;
  args.weight = {data.rows, data.cols, data.codes.data(), {data.absmax.data(), nf4::Dtype::f32, {}, {}, {}, 0}, 6};
  const nf4::Device device{NF4_HOST_DEVICE, 0, threads, "host"};
  std::vector<double> scratch(static_cast<size_t>(nf4::host_gemm_scratch(args, device)));
  args.workspace = scratch.data();
  CHECK(nf4::host_gemm(args, device, 0, nullptr) == 0);
  return raw(y, NF4_F32);
}

}  // namespace

TEST_CASE("host: every version of the tile that this CPU has multiplies") {
  std::mt19937 random(43);
  std::string tried;
  for (const nf4::TileVersion& version : nf4::tile_versions()) {
    if (!version.supported) continue;
    tried += std::string(" ") + version.instructions + ";";
    for (const int64_t size : {0, 1, 2, 7, 64, 255, 256}) {
      INFO(version.instructions << ", size " << size);
      Tile tile(random, size);
      const Tile before = tile;
      version.multiply(tile.w.data(), tile.ldw, tile.x.data(), tile.size, tile.sums.data(), tile.lds);
      int wrong = 0;
      for (int64_t row = 0; row < nf4::kTileRows; ++row) {
        for (int64_t i = 0; i < tile.lds; ++i) {
          const double found = tile.sums[static_cast<size_t>(row * tile.lds + i)];
          wrong += i < nf4::kTileLanes ? found != before.expected(row, i) : !std::isnan(found);
        }
      }
      CHECK(wrong == 0);
    }
  }
  WARN("versions:" << tried);
}

// The second half of each row is the first again, and of x the opposite: what is left are the roundings of the sums on
// the way, in all bits of y.
TEST_CASE("host: a product has the same bits, however many threads share it") {
  constexpr int64_t kN = 1100;
  constexpr int64_t kHalf = 384;
  std::mt19937 random(47);
  WeightData data = random_weight(random, kN, 2 * kHalf, 64, NF4_F32);
  const auto repeat = [](auto begin, int64_t size) { std::copy_n(begin, size, begin + size); };
  for (int64_t n = 0; n < kN; ++n) {
    repeat(data.codes.begin() + n * kHalf, kHalf / 2);
    repeat(data.absmax.begin() + n * kHalf * 2 / 64 * 4, kHalf / 64 * 4);
  }
  for (const int64_t m : {1, 2, 13}) {
    std::vector<float> x = uniform(random, static_cast<size_t>(m * 2 * kHalf), -1.0f, 1.0f);
    for (size_t i = 0; i < x.size(); ++i) {
      if (i / kHalf % 2 == 1) x[i] = -x[i - kHalf];
    }
    const std::vector<uint8_t> one = product(data, x, m, 1);
    CHECK(one != std::vector<uint8_t>(one.size()));
    for (const int threads : {2, 3, 7}) {
      INFO("m " << m << ", " << threads << " threads");
      CHECK(product(data, x, m, threads) == one);
    }
  }
}

}  // namespace nf4test
