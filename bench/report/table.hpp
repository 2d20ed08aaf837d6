// Results of one problem as a table for the terminal.
#pragma once

#include <string>
#include <vector>

#include "report/lines.hpp"

namespace nf4bench {

// "name: value" lines for the head of a run.
std::string context_text(const Context& context);

std::string table_of(const Context& context, const std::vector<Line>& lines);

}  // namespace nf4bench
