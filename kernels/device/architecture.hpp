// What of a device only the compiled kernels can tell.
#pragma once

#include <array>

namespace nf4 {

// Writes 10 * major + minor of the virtual architecture whose code device `ordinal` runs: 90 on an H200 in a build for
// 90a, but 80 on a device that gets its code from PTX of compute_80. Code under a check of __CUDA_ARCH__ is there only
// from that on. Returns a cudaError_t; the calling thread's device stays what it was.
int compiled_architecture(int ordinal, int* architecture);

// Writes how many clusters of 1, 2, 4 and 8 blocks, each of which fills an SM, run at once on device `ordinal`: 0 where
// it has no clusters. Fewer than its SMs hold, since a cluster stays in one group of SMs. Returns a cudaError_t.
int resident_clusters(int ordinal, std::array<int, 4>* clusters);

}  // namespace nf4
