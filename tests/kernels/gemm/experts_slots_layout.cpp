// How gemm_experts.slots divides its work.
#include "gemm/experts_slots_layout.hpp"

#include <vector>

#include "catch.hpp"

namespace nf4test {

TEST_CASE("experts_slots: each slot meets each row of W in one block") {
  for (const int64_t slots : {1, 7, 8, 9, 40}) {
    for (const int64_t rows : {1, 7, 8, 9, 50}) {
      for (const nf4::ExpertsSlotsConfig& config : nf4::kExpertsSlotsConfigs) {
        const auto whole = nf4::ExpertsSlotsPlan::of(slots, rows, config);
        for (int64_t distance = 1; distance <= whole.distance; ++distance) {  // as if the grid could hold no more
          INFO("slots " << slots << " rows " << rows << " " << config.text() << " distance " << distance);
          const nf4::ExpertsSlotsPlan plan{whole.chunks, whole.groups, distance};
          std::vector<int> met(static_cast<size_t>(slots * rows));
          for (uint32_t block = 0; block < plan.blocks(); ++block) {
            const int64_t first = plan.chunk(block) * config.slots;
            REQUIRE(first < slots);
            for (int64_t group = plan.first_group(block); group < plan.groups; group += plan.distance) {
              for (int64_t position = first; position < std::min(first + config.slots, slots); ++position) {
                const int64_t row = group * nf4::kExpertsSlotsWarps;
                for (int64_t r = row; r < std::min(row + nf4::kExpertsSlotsWarps, rows); ++r)
                  ++met[static_cast<size_t>(position * rows + r)];
              }
            }
          }
          CHECK(met == std::vector<int>(met.size(), 1));
        }
      }
    }
  }
}

TEST_CASE("experts_slots: a grid holds the blocks, whatever the sizes") {
  for (const int64_t slots : {int64_t{1}, int64_t{3}, int64_t{16384}, (int64_t{1} << 31) - 1}) {
    for (const int64_t rows : {int64_t{1}, int64_t{768}, int64_t{1} << 30, int64_t{1} << 58}) {
      for (const nf4::ExpertsSlotsConfig& config : nf4::kExpertsSlotsConfigs) {
        const auto plan = nf4::ExpertsSlotsPlan::of(slots, rows, config);
        CHECK((plan.blocks() >= 1 && plan.blocks() <= 0x7fffffff && plan.distance >= 1));
        CHECK(plan.groups == (rows + 7) / 8);
      }
    }
  }
}

TEST_CASE("experts_slots: slots are sorted for those that take several, unless they are") {
  for (const nf4::ExpertsSlotsConfig& config : nf4::kExpertsSlotsConfigs) {
    CHECK(nf4::sorts_slots(config, false) == (config.slots > 1));
    CHECK_FALSE(nf4::sorts_slots(config, true));
  }
  CHECK(nf4::kExpertsSlotsConfigs[0].slots == 1);  // the default needs no workspace
}

}  // namespace nf4test
