// NF4_HD marks what a kernel computes per element: compiled for the device by nvcc, and for the host by any compiler,
// so that the host backend and the tests run the very same code.
#pragma once

#if defined(__CUDACC__)
#define NF4_HD __host__ __device__ __forceinline__
#else
#define NF4_HD inline
#endif
