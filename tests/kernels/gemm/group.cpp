// Tiles of a group: each is of the product whose rows it has, and they have all rows.
#include "gemm/group.hpp"

#include <vector>

#include "catch.hpp"
#include "gemm/tiles.hpp"

namespace nf4test {

TEST_CASE("group: every tile is one product's, and every row is in one") {
  const std::vector<std::vector<int64_t>> groups = {
      {1}, {16}, {17}, {64, 16, 16}, {5, 1, 70}, {33, 33, 33}, {1, 1, 1, 1}, {8192, 1024}, {100, 1, 1, 900}};
  for (const std::vector<int64_t>& rows : groups) {
    for (const int tile_rows : {16, 32, 80}) {
      const auto tiles = nf4::GroupTiles<nf4::kMostProducts>::of(rows, tile_rows);
      const int64_t count = nf4::count_tiles(rows, tile_rows);
      std::vector<std::vector<int>> met;
      for (const int64_t n : rows) met.emplace_back(static_cast<size_t>(n));
      int outside = 0;
      for (int tile = 0; tile < count; ++tile) {
        const int product = tiles.product(tile);
        REQUIRE(product < static_cast<int>(rows.size()));
        const int64_t first = int64_t{tiles.in_product(tile, product)} * tile_rows;
        const auto p = static_cast<size_t>(product);
        outside += first < 0 || first >= rows[p];
        for (int64_t row = first; row < std::min(first + tile_rows, rows[p]); ++row) ++met[p][static_cast<size_t>(row)];
      }
      CHECK(outside == 0);
      for (const std::vector<int>& of_product : met) CHECK(of_product == std::vector<int>(of_product.size(), 1));
    }
  }
}

}  // namespace nf4test
