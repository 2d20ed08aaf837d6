// How gemm_experts.slots divides its work among blocks and warps: what the host works out for a launch, in plain C++,
// so that it is tested without a GPU.
#pragma once

#include <cstdint>
#include <iterator>
#include <string>

#include "device/math.hpp"
#include "format/hd.hpp"
#include "gemm/sort_experts.hpp"

namespace nf4 {

struct ExpertsSlotsConfig {
  int slots;  // that a block takes, one after the other in the order of experts if there are several

  std::string text() const { return "slots=" + std::to_string(slots); }
  bool operator==(const ExpertsSlotsConfig&) const = default;
};

inline constexpr ExpertsSlotsConfig kExpertsSlotsConfigs[] = {{1}, {8}};
constexpr int kExpertsSlotsWarps = 8;  // of a block, each with a row of W

// Whether a call sorts its slots first, into its workspace: several at a time are worth it only where they share an
// expert.
constexpr bool sorts_slots(const ExpertsSlotsConfig& config, bool sorted) { return config.slots > 1 && !sorted; }

// A chunk is some positions, a group some rows of W of an expert. A block has one chunk, and goes through the groups at
// a distance: one group as a rule, more where a grid cannot hold all. Neighbours read the same rows for other slots.
//
//     block     0     1     ...   chunks - 1   chunks   ...
//     chunk     0     1     ...   chunks - 1     0      ...
//     group     0     0     ...      0           1      ...
struct ExpertsSlotsPlan {
  uint32_t chunks;   // 1 or more
  int64_t groups;    // 1 or more
  int64_t distance;  // between the groups of a block

  static constexpr ExpertsSlotsPlan of(int64_t slots, int64_t rows, const ExpertsSlotsConfig& config) {
    constexpr int64_t kLargestGrid = 0x7fffffff;
    const int64_t chunks = ceil_div(slots, config.slots);
    const int64_t groups = ceil_div(rows, kExpertsSlotsWarps);
    return {static_cast<uint32_t>(chunks), groups, groups < kLargestGrid / chunks ? groups : kLargestGrid / chunks};
  }

  constexpr int64_t blocks() const { return chunks * distance; }
  NF4_HD int64_t chunk(uint32_t block) const { return block % chunks; }
  NF4_HD int64_t first_group(uint32_t block) const { return block / chunks; }
};

}  // namespace nf4
