// Divides the space of M, N and K into boxes, one choice for each.
//
// The boxes are the fewest, of those that halving again and again can give, within which one choice is at most a given
// tolerance slower than the best on every measured problem. A problem that was not measured falls into the box of its
// neighbours: N and K are divided at the geometric mean of two measured values; an M between two measured ones belongs
// to the larger, since kernels round M up to their tiles.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include "tune/state.hpp"

namespace nf4bench {

struct Span {
  int64_t low = 1;
  int64_t high = std::numeric_limits<int64_t>::max();

  bool contains(int64_t value) const { return low <= value && value <= high; }
  bool operator==(const Span&) const = default;
};

using Box = std::array<Span, 3>;  // M, N, K

inline std::array<int64_t, 3> place(const Problem& problem) { return {problem.m, problem.n, problem.k}; }

struct Region {
  Box box;
  Choice choice;
  std::vector<size_t> problems;  // those in the box, as indices of all that was measured
};

// Which trials are to be considered; a problem without any such trial is left out.
using Filter = std::function<bool(const Trial&)>;

struct Division {
  double tolerance;  // log of the largest loss; it gives way where no further cut is possible
  size_t axes;       // cuts go along the first ones of M, N, K
};

// Divides `box`, which holds `problems`; the regions are in ascending order.
std::vector<Region> divide(const std::vector<Measured>& measured, const std::vector<size_t>& problems, const Box& box,
                           const Division& division, const Filter& counts);

}  // namespace nf4bench
