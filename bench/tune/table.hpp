// From measured problems to a tuning table, in the form of docs/guide/tuning.md.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tune/plan.hpp"

namespace nf4bench {

inline constexpr double kMerged = 1.015;  // as much slower than the best that a choice may be, to save rows
inline constexpr double kWorst = 1.03;    // and a table with more than this is not written

struct TableRow {
  std::string device;
  nf4_op_t op;
  std::string dtype;      // or "*"
  Box box;                // M, N, K
  std::string blocksize;  // or "*"
  Choice choice;
  bool workspace = false;        // the choice needs one
  double microseconds = 0;       // geometric mean over the measured problems that it holds for; 0: not to be told
  double gain = 1;               // geometric mean of how many times as fast as what was selected before
  std::vector<size_t> problems;  // of those measured

  bool contains(const Problem& problem) const;
};

// Rows for `device`, by what was measured on it. A row for a choice that needs a workspace is followed by rows for the
// same box that need none. Then, unless it is the host, rows for any other device: for each M the variants in the order
// of their speed here, each in the config that was best over all shapes. bf16 serves all dtypes that were not measured,
// and blocksize 64 all blocksizes; without them, the next that was. A choice that failed once is nowhere in the table.
// Rows that say the same, and could be one without changing what is selected, are.
std::vector<TableRow> make_table(std::string_view device, const std::vector<Measured>& measured);

// The row that `problem` gets, or NULL.
const TableRow* find_row(const std::vector<TableRow>& table, const Problem& problem, std::string_view device,
                         bool workspace);

// How much slower than the best the choice of the table is on the measured problem where that is worst.
double worst_loss(const std::vector<TableRow>& table, const std::vector<Measured>& measured, std::string_view device);

std::string table_line(const TableRow& row);
// `comment` goes below the first line.
std::string table_text(const std::vector<TableRow>& table, std::string_view comment);

}  // namespace nf4bench
