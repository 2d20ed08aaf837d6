// All problems that the options name, each by all contenders.
#pragma once

#include "contenders/contender.hpp"
#include "device/device.hpp"
#include "options.hpp"
#include "report/report.hpp"

namespace nf4bench {

// Measures and reports what the options say. Returns how many results were wrong.
size_t sweep(Device& device, nf4_handle_t handle, const SweepOptions& options);

// The same for these problems and contenders, which may be of any operation.
void measure_all(Device& device, nf4_handle_t handle, const SweepOptions& options, const std::vector<Problem>& problems,
                 const Contenders& contenders, Report& report);

}  // namespace nf4bench
