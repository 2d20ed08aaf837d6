// What the lines of summaries are about: each kind of work, over the shapes that were measured.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "measure.hpp"

namespace nf4bench {

// The problem without its shape.
Problem kind_of(Problem problem);

// "gemm M=1, bf16, blocksize 64"
std::string title(const Problem& kind);
inline constexpr size_t kTitleWidth = 40;

// The kinds of the right rows that `contender` has, in their order.
std::vector<Problem> kinds_of(const std::vector<Row>& rows, std::string_view contender);

// The fastest right row on `problem` that counts; NULL if there is none.
template <typename Counts>
const Row* fastest(const std::vector<Row>& rows, const Problem& problem, const Counts& counts) {
  const Row* best = nullptr;
  for (const Row& row : rows) {
    const bool one_of_them = row.median > 0 && row.problem == problem && counts(row);
    if (one_of_them && (best == nullptr || row.median < best->median)) best = &row;
  }
  return best;
}

}  // namespace nf4bench
