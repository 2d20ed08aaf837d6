// The counting sort of slots, as the threads of its blocks share it.
#include "gemm/sort_experts.hpp"

#include <vector>

#include "gemm/row_pieces.hpp"
#include "support/routing.hpp"

namespace nf4test {
namespace {

// What the kernel does with `warps` warps a block: order, then ends.
std::vector<int32_t> sorted(const nf4::Routing& routing, int warps) {
  std::vector<int32_t> order(static_cast<size_t>(routing.slots), -1);
  std::vector<int32_t> ends(static_cast<size_t>(routing.experts), -1);
  const nf4::EqualRuns runs(routing.slots, warps);
  for (int64_t bin = 0; bin <= routing.experts; ++bin) {
    std::vector<int> own(static_cast<size_t>(warps));
    int first = 0;
    for (int w = 0; w < warps; ++w) {
      for (int lane = 0; lane < nf4::kWarpSize; ++lane) {
        const nf4::SlotCounts counts = count_slots(routing, bin, runs.begin(w), runs.begin(w + 1), lane);
        own[static_cast<size_t>(w)] += counts.own;
        first += counts.before;
      }
    }
    for (int w = 0; w < warps; ++w) {
      const int64_t end = runs.begin(w + 1);
      const auto own_of = [&](int64_t from) {
        uint32_t slots = 0;
        for (int lane = 0; lane < nf4::kWarpSize; ++lane)
          slots |= uint32_t{from + lane < end && bin_of(routing, from + lane) == bin} << lane;
        return slots;
      };
      for (int lane = 0; lane < nf4::kWarpSize; ++lane)
        nf4::place_slots(own_of, runs.begin(w), end, lane, order.data() + first);
      first += own[static_cast<size_t>(w)];
    }
    if (bin < routing.experts) ends[static_cast<size_t>(bin)] = first;
  }
  order.insert(order.end(), ends.begin(), ends.end());
  return order;
}

}  // namespace

TEST_CASE("sort_experts: the blocks together write a stable sort") {
  std::mt19937 random(7);
  for (const int64_t experts : {0, 1, 3, 40}) {
    for (const int64_t slots : {0, 1, 5, 64, 301}) {
      for (const int64_t hit : {int64_t{0}, std::min<int64_t>(experts, 1), experts}) {
        const RoutingData data = random_routing(random, experts, slots, 1, Form::ids64, hit, 15, false);
        const nf4::Routing routing{experts, slots, 1, data.ids.data(), true, nullptr, nullptr, nullptr};
        std::vector<int32_t> expected = data.order();
        const std::vector<int32_t> ends = data.ends();
        expected.insert(expected.end(), ends.begin(), ends.end());
        for (const int warps : {1, 2, 3, 32}) {
          INFO("experts " << experts << " slots " << slots << " hit " << hit << " warps " << warps);
          CHECK(sorted(routing, warps) == expected);
        }
      }
    }
  }
}

TEST_CASE("sort_experts: order and ends lie apart in a workspace, aligned") {
  for (const int64_t slots : {1, 63, 64, 65, 16384}) {
    for (const int64_t experts : {1, 64, 127, 512}) {
      const nf4::SortedSlots sorted = nf4::SortedSlots::of(slots, experts);
      CHECK(sorted.ends % 256 == 0);
      CHECK(sorted.bytes % 256 == 0);
      CHECK(sorted.ends >= static_cast<size_t>(slots) * 4);
      CHECK(sorted.bytes >= sorted.ends + static_cast<size_t>(experts) * 4);
      CHECK(sorted.bytes < static_cast<size_t>(slots + experts) * 4 + 512);
    }
  }
}

}  // namespace nf4test
