// Holds what the library selects against the best of all variants and configs.
#pragma once

#include "device/device.hpp"
#include "options.hpp"

namespace nf4bench {

// Tries everything on each problem, and reports what is selected, what was faster and what was wrong. Returns how many
// results were wrong.
size_t measure_regret(Device& device, nf4_handle_t handle, const RegretOptions& options);

}  // namespace nf4bench
