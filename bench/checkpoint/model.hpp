// Real weights: packs, unpacks and multiplies the matrices of a checkpoint.
#pragma once

#include "device/device.hpp"
#include "options.hpp"

namespace nf4bench {

// Prints what the matrices become, or are, packed, and how fast and exact each variant is. Returns how many results
// were wrong.
size_t measure_model(Device& device, nf4_handle_t handle, const ModelOptions& options);

}  // namespace nf4bench
