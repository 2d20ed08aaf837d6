#include "support/dependent.hpp"

namespace nf4test {
namespace {

__global__ void set_late_kernel(volatile int* flag) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  cudaTriggerProgrammaticLaunchCompletion();
#endif
  for (const long long begin = clock64(); clock64() - begin < 2'000'000;) {
  }
  *flag = 1;
}

__global__ void look_early_kernel(const volatile int* flag, volatile int* seen) { *seen = *flag; }

}  // namespace

cudaError_t set_late(int* flag, cudaStream_t stream) {
  set_late_kernel<<<1, 1, 0, stream>>>(flag);
  return cudaGetLastError();
}

cudaError_t look_early(const int* flag, int* seen, cudaStream_t stream) {
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = 1;
  config.blockDim = 1;
  config.stream = stream;
  config.attrs = &early;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, look_early_kernel, flag, seen);
}

}  // namespace nf4test
