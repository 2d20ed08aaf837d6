// The dense product of cuBLAS, loaded at run time.
#pragma once

#include <cublas_v2.h>

#include "contenders/dynamic_library.hpp"
#include "device/device.hpp"

namespace nf4bench {

class Cublas {
 public:
  Cublas(Device& device, const std::string& path);
  ~Cublas();
  Cublas(const Cublas&) = delete;
  Cublas& operator=(const Cublas&) = delete;

  // y [m, N] = x [m, K] W^T, all of `dtype`, accumulated in fp32.
  void gemm(void* y, const void* x, const void* w, nf4_dtype_t dtype, int64_t m, int64_t n, int64_t k,
            nf4_stream_t stream) const;

  // y [m, K] = x [m, N] W.
  void gemm_transposed(void* y, const void* x, const void* w, nf4_dtype_t dtype, int64_t m, int64_t n, int64_t k,
                       nf4_stream_t stream) const;

 private:
  void multiply(cublasOperation_t of_w, void* y, const void* x, const void* w, nf4_dtype_t dtype, int64_t m,
                int64_t outputs, int64_t length, nf4_stream_t stream) const;

  // Spelled out, for C++ overloads the name.
  using GemmEx = cublasStatus_t(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m, int n,
                                int k, const void* alpha, const void* a, cudaDataType a_type, int lda, const void* b,
                                cudaDataType b_type, int ldb, const void* beta, void* c, cudaDataType c_type, int ldc,
                                cublasComputeType_t compute_type, cublasGemmAlgo_t algorithm);

  DynamicLibrary library_;
  GemmEx* gemm_;
  decltype(&cublasSetStream_v2) set_stream_;
  decltype(&cublasSetWorkspace_v2) set_workspace_;
  cublasHandle_t handle_ = nullptr;
  Buffer workspace_;
};

}  // namespace nf4bench
