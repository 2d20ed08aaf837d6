// From measured problems to a tuning table, in the form of docs/tuning.md.
//
// Each row holds for a box of M, N and K. The boxes of one operation and dtype are the fewest, of those that halving
// again and again can give, within which one choice is at most kMerged slower than the best on every measured problem.
// A problem that was not measured falls into the box of its neighbours: N and K are divided at the geometric mean of
// two measured values; an M between two measured ones belongs to the larger, since kernels round M up to their tiles.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "tune_state.hpp"

namespace nf4bench {

inline constexpr double kMerged = 1.015;  // as much slower than the best that a choice may be, to save rows
inline constexpr double kWorst = 1.03;    // and a table with more than this is not written

struct Span {
  int64_t low = 1;
  int64_t high = std::numeric_limits<int64_t>::max();

  bool contains(int64_t value) const { return low <= value && value <= high; }
  bool operator==(const Span&) const = default;
};

struct TableRow {
  std::string device;
  nf4_op_t op;
  std::string dtype;        // or "*"
  std::array<Span, 3> box;  // M, N, K
  std::string blocksize;    // or "*"
  Choice choice;
  bool workspace = false;        // the choice needs one
  double microseconds = 0;       // geometric mean over the measured problems that it holds for; 0: not to be told
  double gain = 1;               // geometric mean of how many times as fast as what was selected before
  std::vector<size_t> problems;  // of those measured

  bool contains(const Problem& problem) const;
};

// Rows for `device`, by what was measured on it. A row for a choice that needs a workspace is followed by rows for the
// same box that need none. Then, unless it is the host, rows for any other device: for each M the variants in the order
// of their speed here, each in the config that was best over all shapes. Where several dtypes or blocksizes were
// measured, the last serves all others too. A choice that failed once is nowhere in the table.
std::vector<TableRow> make_table(std::string_view device, const std::vector<Measured>& measured);

// The row that `problem` gets, or NULL.
const TableRow* find_row(const std::vector<TableRow>& table, const Problem& problem, std::string_view device,
                         bool workspace);

// How much slower than the best the choice of the table is on the measured problem where that is worst.
double worst_loss(const std::vector<TableRow>& table, const std::vector<Measured>& measured, std::string_view device);

std::string table_line(const TableRow& row);
// `comment` goes below the first line.
std::string table_text(const std::vector<TableRow>& table, std::string_view comment);
// The same as src/tuning_builtin.hpp.
std::string table_header(const std::vector<TableRow>& table, std::string_view comment);

}  // namespace nf4bench
