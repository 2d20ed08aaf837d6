// Tiles of rows of one or several W: how many there are, and how high they should be.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <span>

#include "device/math.hpp"

namespace nf4 {

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

}  // namespace nf4
