// Which of the architectures that the kernels were compiled for serves a device.
#pragma once

namespace nf4 {

// Writes 10 * major + minor of the virtual architecture whose code device `ordinal` runs: 90 on an H200 in a build for
// 90a, but 75 on a device that gets its code from PTX of compute_75. Code under a check of __CUDA_ARCH__ is there only
// from that on. Returns a cudaError_t; the calling thread's device stays what it was.
int compiled_architecture(int ordinal, int* architecture);

}  // namespace nf4
