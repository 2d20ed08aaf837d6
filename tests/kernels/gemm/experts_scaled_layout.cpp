// How gemm_experts.scaled_wgmma numbers its tiles, as each CTA finds its own, and its workspace.
#include "gemm/experts_scaled_layout.hpp"

#include <climits>
#include <random>
#include <string>
#include <vector>

#include "catch.hpp"

namespace nf4test {
namespace {

using nf4::ExpertsScaledPlan;
using nf4::ExpertsScaledTile;
using nf4::Routing;

Routing routing_of(const std::vector<int32_t>& ends, int64_t slots) {
  return {static_cast<int64_t>(ends.size()), slots, 1, nullptr, false, ends.data(), nullptr, nullptr};
}

ExpertsScaledPlan plan_of(const Routing& routing, int64_t n, const nf4::ExpertsScaledConfig& config) {
  nf4::Problem problem{};
  problem.m = routing.slots;
  problem.experts = routing.experts;
  problem.n = n;
  return ExpertsScaledPlan::of(problem, config);
}

// As the lanes of a warp find it, each among its part of the experts.
ExpertsScaledTile tile_of(const Routing& routing, const ExpertsScaledPlan& plan, int tile, int lanes) {
  const auto experts = static_cast<int>(routing.experts);
  const int per_lane = (experts + lanes - 1) / lanes;
  int before = 0;
  for (int lane = 0; lane < lanes; ++lane) {
    const int begin = std::min(lane * per_lane, experts), end = std::min(begin + per_lane, experts);
    const int chunks = nf4::chunks_of(routing, begin, end, plan.cols);
    if (before + chunks > tile / plan.row_tiles) return nf4::tile_among(routing, plan, begin, end, before, tile);
    before += chunks;
  }
  return {};
}

// What is wrong with the tiles of a routing; empty if nothing is.
std::string wrong_with_tiles(const Routing& routing, int64_t n, const nf4::ExpertsScaledConfig& config, int lanes) {
  const ExpertsScaledPlan plan = plan_of(routing, n, config);
  const int64_t routed = nf4::expert_end(routing, routing.experts - 1);
  std::vector<int> covered(static_cast<size_t>(plan.row_tiles * routed));
  bool ended = false;
  ExpertsScaledTile last;
  for (int t = 0; t < plan.tiles; ++t) {
    const ExpertsScaledTile tile = tile_of(routing, plan, t, lanes);
    if (tile.expert < 0) {
      ended = true;
      continue;
    }
    if (ended) return "a tile behind one that there is not";
    const int begin = nf4::expert_end(routing, tile.expert - 1), end = nf4::expert_end(routing, tile.expert);
    if (tile.slots < 1 || tile.slots > config.cols) return "slots";
    if (tile.first < begin || tile.first + tile.slots > end) return "slots of another expert";
    if (tile.row < 0 || tile.row >= n || tile.row % 128 != 0) return "rows";
    for (int i = 0; i < tile.slots; ++i) {
      const int64_t position = tile.first + i;
      ++covered[static_cast<size_t>(tile.row / 128 * routed + position)];
    }
    // Neighbours share rows of W, unless the group of chunks has come to its end.
    const bool same_rows = tile.expert == last.expert && tile.row == last.row;
    const bool group_begins = (tile.first - begin) / config.cols % nf4::kExpertsScaledNeighbours == 0;
    if (!same_rows && !group_begins) return "order";
    last = tile;
  }
  return covered == std::vector<int>(covered.size(), 1) ? "" : "not each position by each row once";
}

}  // namespace

TEST_CASE("experts_scaled_layout: each slot meets each row tile in one tile, whatever the routing") {
  std::mt19937 random(11);
  std::string fault;
  int routings = 0;
  for (const auto& config : nf4::kExpertsScaledConfigs) {
    for (const int64_t n : {1, 128, 129, 704, 2880}) {
      for (const int experts : {1, 3, 8, 33, 128, 300}) {
        for (const int slots : {1, 127, 128, 129, 257, 1000, 5000}) {
          for (const int hit : {0, 1, 2, experts}) {
            std::vector<int32_t> counts(static_cast<size_t>(experts));
            for (int slot = 0; slot < slots; ++slot) {
              const auto e = random() % static_cast<unsigned>(std::min(hit, experts) + 1);  // the last: none
              if (e < static_cast<unsigned>(std::min(hit, experts))) ++counts[(e * 7) % counts.size()];
            }
            std::vector<int32_t> ends;
            int32_t end = 0;
            for (const int32_t count : counts) ends.push_back(end += count);
            const Routing routing = routing_of(ends, slots);
            for (const int lanes : {1, 32}) {
              const std::string wrong = wrong_with_tiles(routing, n, config, lanes);
              if (!wrong.empty() && fault.empty())
                fault = wrong + ": " + config.text() + ", n " + std::to_string(n) + ", " + std::to_string(experts) +
                        " experts, " + std::to_string(slots) + " slots, " + std::to_string(hit) + " hit";
              ++routings;
            }
          }
        }
      }
    }
  }
  CHECK(fault == "");
  CHECK(routings > 3'000);
}

TEST_CASE("experts_scaled_layout: whatever ends hold, a tile is of slots and rows that there are") {
  std::mt19937 random(13);
  int64_t tiles = 0;
  const std::vector<int32_t> odd = {INT_MIN, -1, 0, 1, 127, 128, 300, 599, 600, 601, INT_MAX};
  for (int i = 0; i < 500; ++i) {
    std::vector<int32_t> ends(70);
    for (int32_t& end : ends) end = odd[random() % odd.size()];
    const Routing routing = routing_of(ends, 600);
    for (const auto& config : nf4::kExpertsScaledConfigs) {
      const ExpertsScaledPlan plan = plan_of(routing, 300, config);
      for (int t = 0; t < plan.tiles; ++t) {
        const ExpertsScaledTile tile = tile_of(routing, plan, t, 32);
        if (tile.expert < 0) continue;
        ++tiles;
        REQUIRE((tile.expert < 70 && tile.row >= 0 && tile.row < 300));
        REQUIRE((tile.first >= 0 && tile.slots > 0 && tile.slots <= config.cols && tile.first + tile.slots <= 600));
      }
    }
  }
  CHECK(tiles > 10'000);
}

TEST_CASE("experts_scaled_layout: the workspace holds what the form of the routing needs") {
  nf4::Problem problem{};
  problem.m = 1001;
  problem.k = 704;
  problem.experts = 65;
  problem.top_k = 1;
  const size_t rows = 1001 * 704 * 2, sorted = nf4::SortedSlots::of(1001, 65).bytes;
  const auto room = [&](bool has_ends, bool in_order, int64_t top_k) {
    problem.sorted = has_ends;
    problem.in_order = in_order;
    problem.top_k = top_k;
    return nf4::ExpertsScaledRoom::of(problem);
  };
  CHECK(room(false, false, 7).x == sorted);
  CHECK(room(false, false, 7).bytes == sorted + rows);
  CHECK(room(true, false, 1).x == 0);
  CHECK(room(true, false, 1).bytes == rows);
  CHECK(room(true, true, 7).bytes == rows);
  CHECK(room(true, true, 1).bytes == 0);
}

}  // namespace nf4test
