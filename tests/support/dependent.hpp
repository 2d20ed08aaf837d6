// Kernels that start early, by programmatic dependent launch, for tests of what others leave them.
#pragma once

#include <cuda_runtime.h>

namespace nf4test {

// Lets the next kernel of the stream start at once, takes about a millisecond, and sets `flag` to 1. Where kernels
// cannot start early (before compute capability 9.0) it only takes its time.
cudaError_t set_late(int* flag, cudaStream_t stream);

// Starts as early as the kernel before lets it, waits for nothing, and copies `flag` to `seen`.
cudaError_t look_early(const int* flag, int* seen, cudaStream_t stream);

}  // namespace nf4test
