// The results of a run as its reports show them.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "device/device.hpp"
#include "measure.hpp"

namespace nf4bench {

// What the figures of a run were measured on, and what they are compared with.
struct Context {
  std::vector<std::pair<std::string, std::string>> facts;
  Ceilings ceilings;
  std::vector<std::string> peers;  // names of the contenders that speed-ups are told over
};

// A row of ours, and how many times as fast as each peer it is; 0 where there is nothing to compare.
struct Line {
  Row row;
  double fraction = 0;  // of the ceiling
  std::vector<double> speedups;
};

// Results are compared with the ceiling of the direction that most of their bytes go: "read" or "write".
const char* ceiling_name(nf4_op_t op);

std::string ceilings_text(const Ceilings& ceilings);

// Lines of all rows of one problem.
std::vector<Line> lines_of(const Context& context, const std::vector<Row>& rows);

}  // namespace nf4bench
