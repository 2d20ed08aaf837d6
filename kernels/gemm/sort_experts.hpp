// Sorting slots by their experts on the device, for whoever needs them sorted: a stable counting sort, without atomics.
// Each expert has a block, which finds where its slots begin and which they are; so has "none", which comes last. The
// warps of a block share the slots out in equal runs, and the lanes of a warp take neighbours.
//
//     slots      | warp 0 | warp 1 | ...          each counts those of the experts before, and its own;
//     order      ... before | own 0 | own 1 | ... and writes its own behind those of the warps before it
#pragma once

#include <bit>

#include "device/warp.hpp"
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

// Of a lane's slots among begin to end - 1.
NF4_HD SlotCounts count_slots(const Routing& routing, int64_t bin, int64_t begin, int64_t end, int lane) {
  SlotCounts counts{0, 0};
  for (int64_t slot = begin + lane; slot < end; slot += kWarpSize) {
    const int64_t other = bin_of(routing, slot);
    counts.before += other < bin ? 1 : 0;
    counts.own += other == bin ? 1 : 0;
  }
  return counts;
}

// Writes a lane's slots of the bin to `order`, where those of all lanes come in their order. `own(first)` tells of 32
// slots from `first` on, as bits, which are of the bin.
template <class Own>
NF4_HD void place_slots(const Own& own, int64_t begin, int64_t end, int lane, int32_t* order) {
  for (int64_t first = begin; first < end; first += kWarpSize) {
    const uint32_t slots = own(first);
    const uint32_t before = slots & ((uint32_t{1} << lane) - 1);
#if defined(__CUDA_ARCH__)
    const int lanes_before = __popc(before), all = __popc(slots);
#else
    const int lanes_before = std::popcount(before), all = std::popcount(slots);
#endif
    if ((slots >> lane & 1) != 0) order[lanes_before] = static_cast<int32_t>(first) + lane;
    order += all;
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

// The same into a workspace: the routing, which has ids, has order and ends there in their place.
int sort_into(void* workspace, const Device& device, Stream stream, Routing& routing);

}  // namespace nf4
