// Results as JSON Lines: an object about the run, one for each result, and one of what there was no time for.
#pragma once

#include <string>
#include <vector>

#include "report/lines.hpp"

namespace nf4bench {

std::string json_head(const Context& context);
std::string json_line(const Context& context, const Line& line);
std::string json_not_measured(const std::vector<Problem>& problems);

}  // namespace nf4bench
