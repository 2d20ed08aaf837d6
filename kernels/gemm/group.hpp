// Products of the same x by several W in one launch: their tiles of rows are numbered through, W after W.
#pragma once

#include <algorithm>
#include <climits>
#include <cstdint>
#include <span>

#include "device/math.hpp"
#include "problem.hpp"

namespace nf4 {

// Which tiles are whose, of `Most` products at most. A tile has rows of one W.
template <int Most>
struct GroupTiles {
  int first[Most];  // tile of each W; of those that are not there, one that no tile is

  constexpr int product(int tile) const {
    int product = 0;
    for (int i = 1; i < Most; ++i) product += tile >= first[i] ? 1 : 0;
    return product;
  }
  constexpr int in_product(int tile, int product) const { return tile - first[product]; }

  // For W of so many rows each, in tiles of `tile_rows`.
  static constexpr GroupTiles of(std::span<const int64_t> rows, int tile_rows) {
    GroupTiles tiles{};
    int64_t next = 0;
    for (size_t i = 0; i < Most; ++i) {
      tiles.first[i] = i < rows.size() ? static_cast<int>(next) : INT_MAX;
      if (i < rows.size()) next += ceil_div(rows[i], tile_rows);
    }
    return tiles;
  }
};

// Whether all W are known to be written before.
inline bool constant_weights(std::span<const GemmArgs> group) {
  return std::all_of(group.begin(), group.end(), [](const GemmArgs& args) { return args.weight.constant; });
}

// The rows of each W of a group.
class GroupRows {
 public:
  explicit GroupRows(std::span<const GemmArgs> group) : count_(group.size()) {
    for (size_t i = 0; i < count_; ++i) rows_[i] = group[i].weight.rows;
  }
  operator std::span<const int64_t>() const { return {rows_, count_}; }

 private:
  int64_t rows_[kMostProducts];
  size_t count_;
};

// What differs from product to product, as a kernel takes it.
struct GroupProduct {
  Weight weight;
  const void* bias;  // [weight.rows] or null
  void* y;           // [m, weight.rows]
  int64_t ldy;       // elements
};

// A group of one has its own type where a kernel asks whose a tile is again and again: small layers then take 0.2 us
// less at M = 1 (docs/design/kernels/).
template <int Most>
struct Group {
  int count;
  GroupProduct products[Most];
  GroupTiles<Most> tiles;

  // Of rows m0 and on of x, in tiles of `tile_rows` rows of W.
  static Group of(std::span<const GemmArgs> group, int64_t m0, int64_t element_bytes, int tile_rows) {
    Group of{};
    of.count = static_cast<int>(group.size());
    for (size_t i = 0; i < group.size(); ++i) {
      const GemmArgs& args = group[i];
      of.products[i] = {args.weight, args.bias, static_cast<uint8_t*>(args.y) + m0 * args.ldy * element_bytes,
                        args.ldy};
    }
    of.tiles = GroupTiles<Most>::of(GroupRows(group), tile_rows);
    return of;
  }
};

}  // namespace nf4
