// What is wrong with a layout of gemm.fma, as a test computes it or a launch has it.
#pragma once

#include "gemm/fma_layout.hpp"

#include <algorithm>
#include <iterator>
#include <string>

namespace nf4test {

// The most pieces that a row of W [n, k] touches, row by row.
inline int64_t most_pieces(int64_t n, int64_t k, int piece) {
  int64_t most = 0;
  for (int64_t row = 0; row < std::min<int64_t>(n, piece); ++row)  // from there on they begin as those before
    most = std::max(most, (row * k % piece + k + piece - 1) / piece);
  return most;
}

// Of W [n, k] by `cols` rows of x, in so many blocks whose warps take `at_once` rows at a time.
inline std::string wrong_with(const nf4::FmaPlan& plan, int64_t n, int64_t k, int cols, int64_t blocks, int at_once) {
  constexpr int kWarps = 16, kHoleFloats = 256 * 128 / 4, kMap = 256;
  if (plan.parts < 1 || plan.teams != kWarps / plan.parts) return "warps";
  const int64_t lanes = int64_t{plan.steps} * 32;
  const int64_t pieces = most_pieces(n, k, cols <= 2 ? 32 : 16);
  if (lanes < pieces) return "columns that are nobody's";
  if (plan.steps > 1 && lanes - 32 > pieces) return "steps without columns";
  if (plan.parts > plan.steps) return "a part without a step";
  if (plan.chunk < 1 || plan.parts * plan.chunk * cols > kHoleFloats - kMap) return "sums do not fit into the holes";
  if (!std::equal(std::begin(plan.codebook), std::end(plan.codebook), nf4::kCodebook)) return "codebook";

  // A warp has nothing more to do than with any other division.
  const int64_t rows = (n + blocks - 1) / blocks;
  const auto cost = [&](int64_t parts) {
    const int64_t teams_rows = kWarps / parts * at_once;
    return (plan.steps + parts - 1) / parts * ((rows + teams_rows - 1) / teams_rows * at_once + 4);
  };
  for (int parts = 1; parts <= std::min(plan.steps, kWarps); ++parts) {
    if (cost(parts) < cost(plan.parts) || (cost(parts) == cost(plan.parts) && parts > plan.parts)) return "division";
  }
  return "";
}

}  // namespace nf4test
