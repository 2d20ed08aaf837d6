// Which problems a run is about.
#pragma once

#include <vector>

#include "device/device.hpp"
#include "options.hpp"

namespace nf4bench {

// Every problem that the options name; --sweep full stands for a list of its own. Without shapes, models, M or dtypes,
// those that suit the run.
std::vector<Problem> problems_of(const Device& device, const Options& options);

}  // namespace nf4bench
