// All pairs: the fewest rows that a greedy search finds such that any two values of any two factors meet in some row.
#pragma once

#include <cstddef>
#include <random>
#include <vector>

namespace nf4test {

// `sizes` holds the number of values of each factor; a row holds an index for each.
inline std::vector<std::vector<size_t>> pairwise(const std::vector<size_t>& sizes, unsigned seed) {
  constexpr int kCandidates = 30;
  std::mt19937 random(seed);
  std::vector<size_t> first(sizes.size() + 1, 0);  // of a factor's values, all numbered in one row
  for (size_t f = 0; f < sizes.size(); ++f) first[f + 1] = first[f] + sizes[f];
  const size_t values = first.back();
  std::vector<char> open(values * values, 0);
  size_t left = 0;
  for (size_t f = 0; f < sizes.size(); ++f) {
    for (size_t g = f + 1; g < sizes.size(); ++g) {
      for (size_t a = first[f]; a < first[f + 1]; ++a) {
        for (size_t b = first[g]; b < first[g + 1]; ++b) {
          open[a * values + b] = 1;
          ++left;
        }
      }
    }
  }
  const auto new_pairs = [&](const std::vector<size_t>& row) {
    size_t count = 0;
    for (size_t f = 0; f < row.size(); ++f) {
      for (size_t g = f + 1; g < row.size(); ++g)
        count += static_cast<size_t>(open[(first[f] + row[f]) * values + first[g] + row[g]]);
    }
    return count;
  };

  std::vector<std::vector<size_t>> rows;
  while (left > 0) {
    std::vector<size_t> best;
    size_t best_count = 0;
    for (int c = 0; c < kCandidates || best_count == 0; ++c) {
      std::vector<size_t> row;
      for (const size_t size : sizes) row.push_back(random() % size);
      if (best_count == 0 && c >= kCandidates) {  // luck ran out: force an open pair in
        size_t pair = 0;
        while (open[pair] == 0) ++pair;
        for (size_t f = 0; f < sizes.size(); ++f) {
          for (const size_t value : {pair / values, pair % values}) {
            if (first[f] <= value && value < first[f + 1]) row[f] = value - first[f];
          }
        }
      }
      if (const size_t count = new_pairs(row); count > best_count) {
        best_count = count;
        best = row;
      }
    }
    left -= best_count;
    for (size_t f = 0; f < best.size(); ++f) {
      for (size_t g = f + 1; g < best.size(); ++g) open[(first[f] + best[f]) * values + first[g] + best[g]] = 0;
    }
    rows.push_back(best);
  }
  return rows;
}

}  // namespace nf4test
