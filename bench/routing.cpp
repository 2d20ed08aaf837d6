#include "routing.hpp"

#include <algorithm>
#include <cmath>

#include "random.hpp"

namespace nf4bench {

std::vector<int64_t> routed_experts(const Problem& problem) {
  std::vector<double> weights;
  for (int64_t e = 0; e < problem.experts; ++e) weights.push_back(std::pow(static_cast<double>(e + 1), -problem.skew));
  std::vector<int64_t> out;
  for (int64_t row = 0; row < problem.m; ++row) {
    // The largest of uniform^(1 / weight) are a sample without replacement.
    std::vector<std::pair<double, int64_t>> keys;
    for (int64_t e = 0; e < problem.experts; ++e) {
      const auto i = static_cast<uint64_t>(row * problem.experts + e);
      const auto uniform = static_cast<double>(random_uniform(i, 7, 0.0f, 1.0f));
      keys.emplace_back(-std::log(uniform + 1e-9) / weights[static_cast<size_t>(e)], e);
    }
    std::partial_sort(keys.begin(), keys.begin() + problem.top_k, keys.end());
    for (int64_t i = 0; i < problem.top_k; ++i) out.push_back(keys[static_cast<size_t>(i)].second);
  }
  if (problem.form == RoutingForm::rows) std::sort(out.begin(), out.end());
  return out;
}

SortedSlots sorted_slots(const Problem& problem) {
  const std::vector<int64_t> experts = routed_experts(problem);
  SortedSlots out;
  for (int64_t e = 0; e < problem.experts; ++e) {
    for (size_t slot = 0; slot < experts.size(); ++slot) {
      if (experts[slot] == e) out.order.push_back(static_cast<int32_t>(slot));
    }
    out.ends.push_back(static_cast<int32_t>(out.order.size()));
  }
  return out;
}

int64_t experts_hit(const Problem& problem) {
  std::vector<int64_t> experts = routed_experts(problem);
  std::sort(experts.begin(), experts.end());
  return std::unique(experts.begin(), experts.end()) - experts.begin();
}

}  // namespace nf4bench
