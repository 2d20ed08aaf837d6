// The rates that plain kernels reach on the current CUDA device: what the measured kernels are compared with.
#pragma once

#include "device/device.hpp"

namespace nf4bench {

Ceilings cuda_ceilings(Device& device);

}  // namespace nf4bench
