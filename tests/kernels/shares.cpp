// Every item is in one share, every sum is written once, and divisions without a division are exact.
#include "shares.hpp"

#include <algorithm>
#include <random>
#include <vector>

#include "catch.hpp"

namespace nf4test {
namespace {

// Each row of x by each quad of rows of W is met once, by one thread of one CTA, and what was moved is where it lies.
void check_walk(int rows, int cols, int threads, int cluster) {
  INFO(rows << " rows of W, " << cols << " of x, " << threads << " threads, cluster " << cluster);
  constexpr int kPitch = 1000;
  const int quads = (rows + nf4::QuadWalk::kRows - 1) / nf4::QuadWalk::kRows;
  std::vector<int> met(static_cast<size_t>(cols * quads));
  int wrong = 0;
  for (int rank = 0; rank < cluster; ++rank) {
    for (int thread = 0; thread < threads; ++thread) {
      nf4::QuadWalk walk(rows, thread, threads, cluster, rank);
      int at = 0;
      const auto move = [&](int cols_on, int rows_on) { at += cols_on * kPitch + rows_on; };
      for (move(walk.col(), walk.row()); walk.col() < cols; walk.advance(move)) {
        wrong += walk.row() >= rows || walk.row() % nf4::QuadWalk::kRows != 0 || walk.col() % cluster != rank;
        wrong += at != walk.col() * kPitch + walk.row();
        ++met[static_cast<size_t>(walk.col() * quads + walk.row() / nf4::QuadWalk::kRows)];
      }
    }
  }
  for (const int times : met) wrong += times != 1;
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("shares: each item has one taker") {
  for (int items = 0; items <= 70; ++items) {
    for (int count = 1; count <= 13; ++count) {
      INFO(items << " items, " << count << " takers");
      const auto shares = nf4::Shares::of(items, count);
      CHECK(shares.begin(0) == 0);
      CHECK(shares.begin(count) == items);
      int wrong = 0;
      for (int taker = 0; taker < count; ++taker) {
        const int size = shares.begin(taker + 1) - shares.begin(taker);
        wrong += size != items / count && size != items / count + 1;
        for (int item = shares.begin(taker); item < shares.begin(taker + 1); ++item)
          wrong += shares.taker(item) != taker;
      }
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("shares: a divisor divides") {
  std::mt19937 random(3);
  int wrong = 0;
  for (int divisor = 1; divisor < 3000; ++divisor) {
    const auto by = nf4::Divisor::of(divisor);
    const int most = 0x7fffffff / divisor;  // a * divisor stays below 2^31
    const auto check = [&](int a) { wrong += by.quotient(a) != a / divisor; };
    for (int i = 0; i < 200; ++i) {
      const int multiple = std::uniform_int_distribution<int>(0, most / divisor)(random) * divisor;
      check(multiple);
      if (multiple > 0) check(multiple - 1);  // where a quotient that is too large would show first
    }
    check(most);
  }
  CHECK(wrong == 0);
}

TEST_CASE("shares: tiles are as high as it takes") {
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

TEST_CASE("shares: tiles of several matrices are as high as it takes") {
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

TEST_CASE("shares: a walk meets every quad once") {
  for (const int threads : {32, 160, 384, 512}) {
    for (const int cluster : {1, 2, 4, 8}) {
      check_walk(1, 1, threads, cluster);
      check_walk(3, 9, threads, cluster);
      check_walk(64, 16, threads, cluster);
      check_walk(127, 33, threads, cluster);
      check_walk(192, 128, threads, cluster);
      check_walk(224, 64, threads, cluster);
      check_walk(128, 256, threads, cluster);
    }
  }
}

}  // namespace nf4test
