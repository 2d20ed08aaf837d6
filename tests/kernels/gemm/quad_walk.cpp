// Every sum is written once.
#include "gemm/quad_walk.hpp"

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

TEST_CASE("quad_walk: a walk meets every quad once") {
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
