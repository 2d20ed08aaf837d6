// Sorting slots by their experts on the device, for whoever needs them sorted: a stable counting sort, without atomics.
// Each expert has a block, which finds where its slots begin and which they are; so has "none", which comes last. The
// threads of a block share the slots out in equal runs.
//
//     slots      | thread 0 | thread 1 | ...      each counts those of the experts before, and its own;
//     order      ... before | own 0 | own 1 | ... and writes its own behind those of the threads before it
#pragma once

#include "gemm/experts.hpp"

namespace nf4 {

// Where a slot is sorted to: its expert, or behind all for none.
NF4_HD int64_t bin_of(const Routing& routing, int64_t slot) {
  const int64_t expert = routed_expert(routing, slot);
  return expert != kNoExpert ? expert : routing.experts;
}

struct SlotCounts {
  int before;  // of the bins before this one
  int own;
};

// Of slots begin to end - 1.
NF4_HD SlotCounts count_slots(const Routing& routing, int64_t bin, int64_t begin, int64_t end) {
  SlotCounts counts{0, 0};
  for (int64_t slot = begin; slot < end; ++slot) {
    const int64_t other = bin_of(routing, slot);
    counts.before += other < bin ? 1 : 0;
    counts.own += other == bin ? 1 : 0;
  }
  return counts;
}

// Writes those of the bin to `order`, in their order.
NF4_HD void place_slots(const Routing& routing, int64_t bin, int64_t begin, int64_t end, int32_t* order) {
  for (int64_t slot = begin; slot < end; ++slot) {
    if (bin_of(routing, slot) == bin) *order++ = static_cast<int32_t>(slot);
  }
}

// What a workspace holds of slots that were sorted into it: order, then ends.
struct SortedSlots {
  size_t ends;   // bytes from its start
  size_t bytes;  // of all

  static constexpr SortedSlots of(int64_t slots, int64_t experts) {
    const auto padded = [](int64_t count) { return (static_cast<size_t>(count) * sizeof(int32_t) + 255) / 256 * 256; };
    return {padded(slots), padded(slots) + padded(experts)};
  }
};

// Launches sort_experts.count.
int launch_sort_experts(const SortExpertsArgs& args, const Device& device, int config, Stream stream);

}  // namespace nf4
