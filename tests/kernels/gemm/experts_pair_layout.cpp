// What gemm_experts.pair_stream lays out: for any sizes nothing in shared memory overlaps, and whatever the routing,
// each row group of each chunk is in one item of one CTA.
#include "experts_pair_layout.hpp"

#include <random>
#include <string>

#include "catch.hpp"

namespace nf4test {
namespace {

nf4::Problem problem_of(int64_t experts, int64_t slots, int64_t n, int64_t k, bool sorted) {
  nf4::Problem problem{};
  problem.op = nf4::Op::gemm_experts;
  problem.m = slots;
  problem.n = n;
  problem.k = k;
  problem.experts = experts;
  problem.sorted = sorted;
  return problem;
}

// As many slots of each expert as a routing gives: all alike, or `skew` times as many of each expert as of the next.
std::vector<int> routed(std::mt19937& random, int experts, int slots, double skew) {
  std::vector<double> weights(static_cast<size_t>(experts));
  double weight = 1;
  for (double& w : weights) w = weight = weight / skew;
  std::shuffle(weights.begin(), weights.end(), random);
  std::discrete_distribution<int> expert(weights.begin(), weights.end());
  std::vector<int> counts(static_cast<size_t>(experts));
  for (int slot = 0; slot < slots; ++slot) ++counts[static_cast<size_t>(expert(random))];
  return counts;
}

int chunks_of(const std::vector<int>& counts, int cols) {
  int chunks = 0;
  for (const int count : counts) chunks += (count + cols - 1) / cols;
  return chunks;
}

// What is wrong with how the row groups of so many chunks are divided; empty if nothing is.
std::string wrong_with_items(const nf4::ExpertsPairPlan& plan, int chunks) {
  const int64_t all = int64_t{chunks} * plan.row_groups;
  int64_t next = 0;  // of all chunks' row groups, that are in an item
  for (int cta = 0; cta < plan.ctas; ++cta) {
    const int64_t begin = next;
    nf4::ExpertsPairItems items(plan, chunks, cta);
    const int segments = items.segments(), first = items.first_chunk();
    if (segments > plan.most_segments) return "more segments than there is room for";
    for (; items.more(); items.next()) {
      if (items.groups() < 1 || items.groups() > plan.groups) return "groups of an item";
      if (items.segment() < 0 || items.segment() >= segments) return "segment";
      if (items.group() + items.groups() > plan.row_groups) return "an item of two chunks";
      if (int64_t{first + items.segment()} * plan.row_groups + items.group() != next) return "order";
      next += items.groups();
    }
    if (next - begin != all / plan.ctas && next - begin != all / plan.ctas + 1) return "unequal parts";
  }
  return next == all ? "" : "not all row groups";
}

}  // namespace

TEST_CASE("experts_pair_layout: nothing overlaps, for any sizes") {
  const struct {
    int64_t experts, slots;
    bool sorted;
  } routings[] = {{1, 1, false}, {512, 8192, false}, {128, 65536, true}};
  for (const auto& routing : routings) {
    INFO(routing.experts << " experts, " << routing.slots << " slots");
    check_layouts(nf4::kExpertsPairConfigs,
                  [&](const nf4::Device& device, const nf4::ExpertsPairConfig& config, int64_t n,
                      int64_t k) -> std::optional<std::string> {
                    nf4::ExpertsPairPlan plan{};
                    const nf4::Problem problem = problem_of(routing.experts, routing.slots, n, k, routing.sorted);
                    if (!nf4::lay_out_experts_pair(problem, device, config, plan)) {
                      // Many slots for a device of one SM, or row groups for 31 bits, have no room.
                      const bool many = routing.slots > 8 * device.clusters(1) * 64 || n * routing.slots > 1 << 30;
                      return many ? std::nullopt : std::optional<std::string>("no room");
                    }
                    return wrong_with(plan, config, device, problem);
                  });
  }
}

TEST_CASE("experts_pair_layout: each slot's rows of W are in one item, whatever the routing") {
  std::mt19937 random(1);
  const nf4::Device device = layout_devices().front();
  std::string fault;
  int64_t routings = 0;
  for (const auto& config : nf4::kExpertsPairConfigs) {
    for (const int n : {1, 704, 1536, 2880, 5760, 28672}) {
      for (const int experts : {1, 8, 32, 128, 512}) {
        for (const int slots : {1, 2, 8, 64, 256, 2048, 8192}) {
          nf4::ExpertsPairPlan plan{};
          if (!nf4::lay_out_experts_pair(problem_of(experts, slots, n, 768, false), device, config, plan)) {
            fault = "no room";
            continue;
          }
          for (const double skew : {1.0, 1.05, 1e9}) {
            const std::vector<int> counts = routed(random, experts, slots, skew);
            const int chunks = chunks_of(counts, plan.cols);
            std::string wrong = chunks <= plan.most_chunks ? wrong_with_items(plan, chunks) : "more chunks than bound";
            if (!wrong.empty() && fault.empty())
              fault = wrong + ": " + config.text() + ", n " + std::to_string(n) + ", " + std::to_string(experts) +
                      " experts, " + std::to_string(slots) + " slots";
            ++routings;
          }
        }
      }
    }
  }
  CHECK(fault == "");
  CHECK(routings > 5'000);
  nf4::ExpertsPairPlan none{};
  REQUIRE(nf4::lay_out_experts_pair(problem_of(8, 8, 64, 64, false), device, nf4::kExpertsPairConfigs[0], none));
  CHECK(wrong_with_items(none, 0) == "");
}

}  // namespace nf4test
