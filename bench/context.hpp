// What the figures of a run are measured on, for its reports.
#pragma once

#include <string>

#include "device/device.hpp"
#include "report/lines.hpp"

namespace nf4bench {

// Takes seconds, for the ceilings. There are no peers in it yet.
Context describe_run(Device& device, const std::string& commit, bool hot, bool pending);

}  // namespace nf4bench
