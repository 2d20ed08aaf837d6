// Results as CSV, below comments that tell about the run.
#pragma once

#include <string>

#include "report/lines.hpp"

namespace nf4bench {

std::string csv_head(const Context& context);
std::string csv_line(const Line& line);

}  // namespace nf4bench
