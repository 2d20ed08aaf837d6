// Which experts the tokens of a problem are routed to.
#pragma once

#include <cstdint>
#include <vector>

#include "problem.hpp"

namespace nf4bench {

// top_k different experts for each row of x, the same on every run. Expert e is drawn with weight (e + 1)^-skew: with
// skew 0 all are as likely, with 1 the first has twice the slots of the second. In ascending order for
// RoutingForm::rows.
std::vector<int64_t> routed_experts(const Problem& problem);

// The slots in the order of their experts, and where in it those of each end.
struct SortedSlots {
  std::vector<int32_t> order, ends;
};
SortedSlots sorted_slots(const Problem& problem);

// How many of the experts have a slot.
int64_t experts_hit(const Problem& problem);

}  // namespace nf4bench
