// The CUDA device as the host code sees it. device_cuda.cpp asks the CUDA runtime; device_none.cpp stands in for it in
// a build without CUDA.
#pragma once

#include "variant.hpp"

namespace nf4 {

// Describes CUDA device `ordinal`, or fails with NF4_ERROR_NO_DEVICE, NF4_ERROR_UNSUPPORTED or NF4_ERROR_CUDA.
Device query_device(int ordinal);

// Fails unless the calling thread's device is `device` and CUDA has no error pending.
void check_ready(const Device& device);

// Fails with NF4_ERROR_CUDA if `error`, what launching `what` returned, is not cudaSuccess.
void check_launched(int error, const char* what);

}  // namespace nf4
