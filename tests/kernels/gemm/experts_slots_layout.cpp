// How gemm_experts.slots divides its work.
#include "gemm/experts_slots_layout.hpp"

#include <vector>

#include "catch.hpp"

namespace nf4test {

TEST_CASE("experts_slots: each slot meets each row of W in one tile") {
  for (const int64_t slots : {1, 7, 8, 9, 40}) {
    for (const int64_t rows : {1, 7, 8, 9, 50}) {
      for (const nf4::ExpertsSlotsConfig& config : nf4::kExpertsSlotsConfigs) {
        INFO("slots " << slots << " rows " << rows << " " << config.text());
        const nf4::ExpertsSlotsTiles tiles(slots, rows, config.slots);
        std::vector<int> met(static_cast<size_t>(slots * rows));
        for (int64_t tile = 0; tile < tiles.count; ++tile) {
          REQUIRE(tiles.first_position(tile) < tiles.end_position(tile));
          REQUIRE(tiles.end_position(tile) - tiles.first_position(tile) <= config.slots);
          REQUIRE(tiles.first_row(tile) < rows);
          for (int64_t position = tiles.first_position(tile); position < tiles.end_position(tile); ++position) {
            for (int64_t row = tiles.first_row(tile);
                 row < std::min(tiles.first_row(tile) + nf4::kExpertsSlotsWarps, rows); ++row) {
              ++met[static_cast<size_t>(position * rows + row)];
            }
          }
        }
        CHECK(met == std::vector<int>(met.size(), 1));
      }
    }
  }
}

TEST_CASE("experts_slots: tiles are counted in 64 bits") {
  const nf4::ExpertsSlotsTiles tiles((int64_t{1} << 31) - 1, int64_t{1} << 28, 1);
  CHECK(tiles.count == ((int64_t{1} << 31) - 1) << 25);
  CHECK(tiles.first_position(tiles.count - 1) == (int64_t{1} << 31) - 2);
  CHECK(tiles.first_row(tiles.count - 1) == (int64_t{1} << 28) - 8);
}

TEST_CASE("experts_slots: slots are sorted for those that take several, unless they are") {
  for (const nf4::ExpertsSlotsConfig& config : nf4::kExpertsSlotsConfigs) {
    CHECK(nf4::sorts_slots(config, false) == (config.slots > 1));
    CHECK_FALSE(nf4::sorts_slots(config, true));
  }
  CHECK(nf4::kExpertsSlotsConfigs[0].slots == 1);  // the default needs no workspace
}

}  // namespace nf4test
