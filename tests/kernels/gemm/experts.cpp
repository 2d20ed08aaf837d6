// How kernels and the host read a routing.
#include "gemm/experts.hpp"

#include <climits>
#include <vector>

#include "support/routing.hpp"

namespace nf4test {
namespace {

using nf4::kNoExpert;
using nf4::Routing;

// The routing as launchers have it, of host data in memory of its own.
struct Held {
  RoutingData data;
  std::vector<int32_t> narrow, ends, order;
  Routing routing{};

  explicit Held(RoutingData of)
      : data(std::move(of)), narrow(data.ids.begin(), data.ids.end()), ends(data.ends()), order(data.order()) {
    routing = {data.experts, data.slots(), data.top_k, nullptr, data.form == Form::ids64, nullptr, nullptr, nullptr};
    if (data.form == Form::ids64) routing.ids = data.ids.data();
    if (data.form == Form::ids32) routing.ids = narrow.data();
    if (!data.by_ids()) routing.ends = ends.data();
    if (data.form == Form::sorted) routing.order = order.data();
  }
};

}  // namespace

TEST_CASE("experts: each position has its slot and expert, and runs are as long as they can be") {
  std::mt19937 random(3);
  for (const Form form : kForms) {
    for (const int64_t experts : {1, 2, 7, 64, 512}) {
      for (const int64_t hit : {int64_t{0}, int64_t{1}, experts}) {
        for (const int64_t tokens : {1, 9, 40}) {
          const Held held(random_routing(random, experts, tokens, 2, form, hit, 20, false));
          const Routing& routing = held.routing;
          const std::vector<int64_t> expert = held.data.expert();
          std::vector<int> seen(static_cast<size_t>(routing.slots));
          for (int64_t position = 0; position < routing.slots; ++position) {
            const int64_t slot = slot_at(routing, position);
            REQUIRE((slot >= 0 && slot < routing.slots));
            ++seen[static_cast<size_t>(slot)];
            REQUIRE(expert_at(routing, position) == expert[static_cast<size_t>(slot)]);
          }
          CHECK(seen == std::vector<int>(static_cast<size_t>(routing.slots), 1));
          for (const int64_t width : {1, 3, 8, 1000}) {
            for (int64_t first = 0; first < routing.slots; first += width) {
              const int64_t limit = std::min(first + width, routing.slots);
              for (int64_t position = first; position < limit;) {
                const nf4::ExpertRun run = run_at(routing, position, limit);
                REQUIRE((run.end > position && run.end <= limit));
                for (int64_t p = position; p < run.end; ++p) REQUIRE(expert_at(routing, p) == run.expert);
                REQUIRE((run.end == limit || expert_at(routing, run.end) != run.expert));
                position = run.end;
              }
            }
          }
        }
      }
    }
  }
}

TEST_CASE("experts: a slot's row of x is that of its token") {
  for (const int64_t top_k : {int64_t{1}, int64_t{3}, int64_t{8}, int64_t{1} << 30, (int64_t{1} << 31) - 1}) {
    const Routing routing{1, top_k, top_k, nullptr, false, nullptr, nullptr, nullptr};
    for (const int64_t slot : {int64_t{0}, int64_t{1}, int64_t{7}, int64_t{8}, (int64_t{1} << 31) - 2})
      CHECK(row_of_x(routing, slot) == slot / top_k);
  }
}

TEST_CASE("experts: an id is taken in all of its bits") {
  const std::vector<int64_t> ids = {0, 4, 5, -1, INT64_MIN, INT64_MAX, int64_t{1} << 32, (int64_t{1} << 32) + 2};
  const Routing routing{5, 8, 1, ids.data(), true, nullptr, nullptr, nullptr};
  std::vector<int64_t> found;
  for (int64_t slot = 0; slot < 8; ++slot) found.push_back(routed_expert(routing, slot));
  CHECK(found == std::vector<int64_t>{0, 4, kNoExpert, kNoExpert, kNoExpert, kNoExpert, kNoExpert, kNoExpert});
}

TEST_CASE("experts: whatever ends and order hold, slots and experts are some that there are, and runs go on") {
  std::mt19937 random(5);
  const std::vector<int32_t> odd = {INT_MIN, -1, 0, 1, 3, 9, 10, 11, INT_MAX};
  for (int i = 0; i < 2000; ++i) {
    std::vector<int32_t> ends(6), order(10);
    for (int32_t& end : ends) end = odd[random() % odd.size()];
    for (int32_t& slot : order) slot = odd[random() % odd.size()];
    const Routing routing{6, 10, 1, nullptr, false, ends.data(), order.data(), nullptr};
    for (int64_t position = 0; position < 10;) {
      const nf4::ExpertRun run = run_at(routing, position, 10);
      REQUIRE((run.end > position && run.end <= 10));
      REQUIRE((run.expert == kNoExpert || (run.expert >= 0 && run.expert < 6)));
      for (; position < run.end; ++position) {
        const int32_t slot = order[static_cast<size_t>(position)];
        REQUIRE(slot_at(routing, position) == (slot >= 0 && slot < 10 ? slot : -1));
      }
    }
  }
}

}  // namespace nf4test
