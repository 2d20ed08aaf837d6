// Makes a tuning table: tries every variant and config, and writes rows of the fastest.
#pragma once

#include "device/device.hpp"
#include "options.hpp"

namespace nf4bench {

// Measures what options.state does not hold yet, then writes the table, and tells what it gains over what was selected
// before. False if options.limit came first, so that there is no table yet, or if a result was wrong.
bool tune(Device& device, nf4_handle_t handle, const TuneOptions& options);

}  // namespace nf4bench
