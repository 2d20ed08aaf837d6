// Running as an older device: for tests and measurements of kernels that were written for devices which are not at
// hand.
#pragma once

#include <string_view>

#include "problem.hpp"

namespace nf4 {

// `device` with the variants, shared memory and clusters of compute capability `text`, "8.6" for example, and a name
// of its own, so that rows of a tuning table for the whole device are not for it. Fails with NF4_ERROR_INVALID_ARGUMENT
// unless `text` is a compute capability from 7.5 up to the device's. Speed and number of multiprocessors stay.
Device as_older_device(const Device& device, std::string_view text);

}  // namespace nf4
