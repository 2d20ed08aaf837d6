// Tiles are as high as it takes to have all rows in the fewest turns, and no higher.
#include "gemm/tiles.hpp"

#include <algorithm>
#include <random>
#include <vector>

#include "catch.hpp"

namespace nf4test {

TEST_CASE("tiles: one matrix's are as high as it takes") {
  constexpr int kLeast = 32, kBox = 256;
  std::mt19937 random(5);
  for (const int64_t takers : {1, 15, 30, 33, 66, 132, 264}) {
    for (int most = kLeast; most <= 448; most += 32) {
      INFO(takers << " takers, " << most << " rows at most");
      int wrong = 0;
      const auto check = [&](int64_t n) {
        const int rows = nf4::tile_rows({&n, 1}, takers, kLeast, most, kBox);
        const int boxes = (rows + kBox - 1) / kBox;
        wrong += rows < kLeast || rows > most || rows % (8 * boxes) != 0;
        // In the turns that the highest tiles would take all rows have a tile, and lower tiles would not do.
        const int64_t tiles = std::max<int64_t>(1, (n + takers * most - 1) / (takers * most)) * takers;
        wrong += tiles * rows < n;
        wrong += rows > kLeast && tiles * (rows - 8 * boxes) >= n;
      };
      for (int64_t n = 0; n < 1000; ++n) check(n);
      for (int i = 0; i < 1000; ++i) check(std::uniform_int_distribution<int64_t>(0, 200000)(random));
      check(takers * most);
      check(takers * most + 1);
      check(int64_t{1} << 30);
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("tiles: those of several matrices are as high as it takes") {
  constexpr int kLeast = 32, kBox = 256;
  std::mt19937 random(6);
  for (const int64_t takers : {1, 15, 33, 66, 132}) {
    for (int most = kLeast; most <= 448; most += 32) {
      INFO(takers << " takers, " << most << " rows at most");
      int wrong = 0;
      for (int i = 0; i < 1000; ++i) {
        std::vector<int64_t> matrices(1 + random() % 4);
        for (int64_t& n : matrices) n = std::uniform_int_distribution<int64_t>(1, i % 2 == 0 ? 2000 : 40000)(random);
        const int rows = nf4::tile_rows(matrices, takers, kLeast, most, kBox);
        const int boxes = (rows + kBox - 1) / kBox;
        wrong += rows < kLeast || rows > most || rows % (8 * boxes) != 0;
        const auto turns = [&](int tile) { return nf4::ceil_div(nf4::count_tiles(matrices, tile), takers); };
        // No other height takes fewer turns, and no lower one as few.
        for (int other = kLeast; other <= most; other += 8) {
          if (other % (8 * ((other + kBox - 1) / kBox)) != 0) continue;
          wrong += turns(other) < turns(rows) || (other < rows && turns(other) == turns(rows));
        }
      }
      CHECK(wrong == 0);
    }
  }
}

}  // namespace nf4test
