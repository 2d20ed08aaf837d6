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

// A tile is some positions by some rows of W of an expert. Positions come first: neighbours share x.
struct ExpertsSlotsTiles {
  int64_t slots, rows;  // in all, of an expert
  int64_t at_once;      // positions of a tile
  int64_t groups;       // of rows
  int64_t count;

  NF4_HD ExpertsSlotsTiles(int64_t the_slots, int64_t the_rows, int the_positions)
      : slots(the_slots),
        rows(the_rows),
        at_once(the_positions),
        groups((the_rows + kExpertsSlotsWarps - 1) / kExpertsSlotsWarps),
        count((the_slots + the_positions - 1) / the_positions * groups) {}

  NF4_HD int64_t first_position(int64_t tile) const { return tile / groups * at_once; }
  NF4_HD int64_t end_position(int64_t tile) const {
    const int64_t end = first_position(tile) + at_once;
    return end < slots ? end : slots;
  }
  NF4_HD int64_t first_row(int64_t tile) const { return tile % groups * kExpertsSlotsWarps; }
};

}  // namespace nf4
