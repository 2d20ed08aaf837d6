// Products with routed experts: how a routing (problem.hpp) is read, on the host and in kernels.
//
// Work is numbered by positions. Positions of one expert follow one another if the routing is sorted, by ends; with ids
// position i is slot i.
//
//     ids     2 0 2 -1 0      order   1 4 0 2 3      ends   2 2 4       of 3 experts; slot 3 is of none
//
// Whatever ids, ends and order hold, no slot is outside of [0, slots), and no expert outside of [0, experts).
#pragma once

#include <cstdint>

#include "format/hd.hpp"
#include "problem.hpp"

namespace nf4 {

inline constexpr int64_t kNoExpert = -1;

// What a layout asks of a call: its sizes, and the form of its routing.
inline Problem problem_of(const GemmExpertsArgs& args) {
  Problem problem{};
  problem.m = args.routing.slots;
  problem.n = args.n;
  problem.k = args.weight.cols;
  problem.experts = args.routing.experts;
  problem.top_k = args.routing.top_k;
  problem.sorted = args.routing.ends != nullptr;
  problem.in_order = problem.sorted && args.routing.order == nullptr;
  return problem;
}

// The expert that ids name for a slot.
NF4_HD int64_t routed_expert(const Routing& routing, int64_t slot) {
  const int64_t id = routing.wide_ids ? static_cast<const int64_t*>(routing.ids)[slot]
                                      : int64_t{static_cast<const int32_t*>(routing.ids)[slot]};
  return id >= 0 && id < routing.experts ? id : kNoExpert;
}

// The first expert whose end lies behind a position; none where all lie before.
NF4_HD int64_t sorted_expert(const int32_t* ends, int64_t experts, int64_t position) {
  int64_t low = 0;
  for (int64_t high = experts; low < high;) {
    const int64_t middle = low + (high - low) / 2;
    if (ends[middle] > position) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low < experts ? low : kNoExpert;
}

// The position of a routing with ends where those of an expert end, whatever ends hold; of expert -1 the first one.
NF4_HD int expert_end(const Routing& routing, int64_t expert) {
  if (expert < 0) return 0;
  const auto slots = static_cast<int>(routing.slots);
  const int end = routing.ends[expert];
  return end < 0 ? 0 : end < slots ? end : slots;
}

NF4_HD int64_t expert_at(const Routing& routing, int64_t position) {
  return routing.ends != nullptr ? sorted_expert(routing.ends, routing.experts, position)
                                 : routed_expert(routing, position);
}

// The slot at a position, or -1 where order holds none.
NF4_HD int64_t slot_at(const Routing& routing, int64_t position) {
  if (routing.ends == nullptr || routing.order == nullptr) return position;
  const int64_t slot = routing.order[position];
  return slot >= 0 && slot < routing.slots ? slot : -1;
}

// The row of x that a slot multiplies. 64 bits would be divided by a function call.
NF4_HD int64_t row_of_x(const Routing& routing, int64_t slot) {
  return static_cast<uint32_t>(slot) / static_cast<uint32_t>(routing.top_k);
}

// Positions of one expert that follow one another.
struct ExpertRun {
  int64_t expert;  // or kNoExpert
  int64_t end;     // one past the last
};

// The run that begins at a position, as far as `limit`.
NF4_HD ExpertRun run_at(const Routing& routing, int64_t position, int64_t limit) {
  const int64_t expert = expert_at(routing, position);
  if (routing.ends != nullptr) {
    const int64_t end = expert != kNoExpert ? routing.ends[expert] : limit;
    return {expert, end < limit ? end : limit};
  }
  int64_t end = position + 1;
  while (end < limit && routed_expert(routing, end) == expert) ++end;
  return {expert, end};
}

}  // namespace nf4
