// Dividing work into equal shares, and by numbers that only the host knows early.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <span>

#include "hd.hpp"

namespace nf4 {

constexpr int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b != 0 ? 1 : 0); }

// Division by a number that the host knows, in two instructions in place of some 30: exact for a >= 0, divisor >= 1 and
// a * divisor < 2^31.
struct Divisor {
  uint32_t inverse = 0;

  static constexpr Divisor of(int divisor) {
    const auto d = static_cast<uint64_t>(divisor);
    return {static_cast<uint32_t>(((uint64_t{1} << 31) + d - 1) / d)};
  }
  constexpr int quotient(int a) const { return static_cast<int>(static_cast<uint64_t>(a) * inverse >> 31); }
};

// An equal share for each of `count` takers: the first `larger` get one more than `size`.
struct Shares {
  int count;
  int size;
  int larger;

  template <class Int>
  static constexpr Shares of(Int items, int count) {
    return {count, static_cast<int>(items / count), static_cast<int>(items % count)};
  }
  constexpr int begin(int taker) const { return taker * size + (taker < larger ? taker : larger); }
  constexpr int taker(int item) const {
    const int in_larger = larger * (size + 1);
    return item < in_larger ? item / (size + 1) : larger + (item - in_larger) / size;
  }
};

// How many tiles of so many rows matrices take that have `rows` each. A tile has rows of one.
constexpr int64_t count_tiles(std::span<const int64_t> rows, int64_t tile_rows) {
  int64_t tiles = 0;
  for (const int64_t n : rows) tiles += ceil_div(n, tile_rows);
  return tiles;
}

// Rows of a tile, from `least` to `most`, for matrices of so many rows that `takers` at a time take, a tile each: equal
// shares, in as few turns as can be, and `least` for none. They come in the fewest parts of `box` rows at most, all
// alike and each a multiple of 8 rows, as `least`, `most` and `box` are.
constexpr int tile_rows(std::span<const int64_t> rows, int64_t takers, int least, int most, int box) {
  const int64_t all = std::accumulate(rows.begin(), rows.end(), int64_t{0});
  if (all == 0) return least;
  for (int64_t turns = ceil_div(all, takers * most);; ++turns) {
    int64_t tile = std::max<int64_t>(least, ceil_div(all, takers * turns));
    while (tile <= most) {
      const int64_t step = 8 * ceil_div(tile, box);
      tile = ceil_div(tile, step) * step;
      if (count_tiles(rows, tile) <= takers * turns) return static_cast<int>(tile);
      ++tile;
    }
  }
}

// How a thread goes over sums of rows of x by rows of W, 4 of those, a quad, at a time: from quad to quad of a row of
// x, and from row to row of those that fall to its CTA, which are every `cluster`-th. The threads of a block take
// neighbours.
class QuadWalk {
 public:
  static constexpr int kRows = 4;  // of W, in a quad

  NF4_HD QuadWalk(int rows, int thread, int threads, int cluster, int rank)
      : quads_((rows + kRows - 1) / kRows),
        cluster_(cluster),
        cols_on_(threads / quads_ * cluster),
        quads_on_(threads % quads_),
        col_(rank + thread / quads_ * cluster),
        quad_(thread % quads_) {}

  NF4_HD int col() const { return col_; }           // row of x
  NF4_HD int row() const { return quad_ * kRows; }  // of W, the first

  // Goes to the thread's next quad, and tells `move` by how many rows of x and of W, in one part or two: what lies
  // there is found by additions, since to multiply it out each time would take as long as the rest.
  template <class Move>
  NF4_HD void advance(const Move& move) {
    go(cols_on_, quads_on_, move);
    if (quad_ >= quads_) go(cluster_, -quads_, move);
  }

 private:
  template <class Move>
  NF4_HD void go(int cols, int quads, const Move& move) {
    col_ += cols;
    quad_ += quads;
    move(cols, quads * kRows);
  }

  int quads_;  // of a row of x
  int cluster_;
  int cols_on_, quads_on_;
  int col_, quad_;
};

}  // namespace nf4
