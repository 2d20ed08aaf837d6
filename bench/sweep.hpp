// All problems that the options name, each by all contenders.
#pragma once

#include "contenders/contender.hpp"
#include "options.hpp"
#include "report/report.hpp"

namespace nf4bench {

// Measures and reports. `contenders` are of any operation.
void sweep(Device& device, nf4_handle_t handle, const Options& options, const Contenders& contenders, Report& report);

}  // namespace nf4bench
