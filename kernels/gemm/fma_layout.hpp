// How gemm.fma divides its work among blocks, teams and warps, and what its table leaves room for: what the host works
// out for a launch, in plain C++, so that it is tested without a GPU.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>

#include "device/math.hpp"
#include "device/warp.hpp"
#include "format/codebook.hpp"

namespace nf4 {

constexpr int kFmaWarps = 16;  // at most
constexpr int kFmaMostCols = 4;

// Pieces of as many weights as let their x stay in 32 or 64 registers.
constexpr int fma_piece(int cols) { return cols <= 2 ? 32 : 16; }

// The table of pairs, and the holes in it.
struct FmaTableSizes {
  static constexpr int kEntries = 256;
  static constexpr int kEntryBytes = 256;
  static constexpr int kUsedBytes = 128;
  static constexpr int kBytes = kEntries * kEntryBytes;
  static constexpr int kMap = 256;                                                // floats of holes, of nested absmax
  static constexpr int kSums = kEntries * (kEntryBytes - kUsedBytes) / 4 - kMap;  // the rest
};

// How a block works: `teams` teams of `parts` warps.
struct FmaPlan {
  int parts;
  int teams;
  int steps;           // of 32 pieces
  int chunk;           // rows of a block whose sums the holes hold
  float codebook[16];  // as a parameter it is at hand when the kernel starts

  // The division in which a warp has least to do, of those alike the one with most parts. A block has `rows` rows, of
  // which a warp takes `at_once`; to read the x of a step costs it as much as about 4 rows.
  static FmaPlan of(int64_t most_columns, int64_t rows, int cols, int at_once) {
    FmaPlan plan{1, kFmaWarps, static_cast<int>(std::max<int64_t>(ceil_div(most_columns, kWarpSize), 1)), 0, {}};
    const auto cost = [&](int parts) {
      return ceil_div(plan.steps, parts) * (ceil_div(rows, kFmaWarps / parts * at_once) * at_once + 4);
    };
    for (int parts = 2; parts <= std::min(plan.steps, kFmaWarps); ++parts) {
      if (cost(parts) <= cost(plan.parts)) plan.parts = parts;
    }
    plan.teams = kFmaWarps / plan.parts;
    plan.chunk = FmaTableSizes::kSums / (plan.parts * cols);
    std::copy(std::begin(kCodebook), std::end(kCodebook), plan.codebook);
    return plan;
  }
};

}  // namespace nf4
