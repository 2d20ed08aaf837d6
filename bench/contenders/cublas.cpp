#include "contenders/cublas.hpp"

#include <stdexcept>

namespace nf4bench {
namespace {

constexpr size_t kWorkspaceBytes = 64 << 20;

void check(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw std::runtime_error(std::string(what) + " failed with status " + std::to_string(static_cast<int>(status)));
}

cudaDataType data_type(nf4_dtype_t dtype) {
  return dtype == NF4_F32 ? CUDA_R_32F : dtype == NF4_F16 ? CUDA_R_16F : CUDA_R_16BF;
}

}  // namespace

Cublas::Cublas(Device& device, const std::string& path)
    : library_(path),
      gemm_(library_.get<GemmEx>("cublasGemmEx")),
      set_stream_(library_.get<decltype(cublasSetStream_v2)>("cublasSetStream_v2")),
      set_workspace_(library_.get<decltype(cublasSetWorkspace_v2)>("cublasSetWorkspace_v2")),
      workspace_(device, kWorkspaceBytes) {
  check(library_.get<decltype(cublasCreate_v2)>("cublasCreate_v2")(&handle_), "cublasCreate");
}

Cublas::~Cublas() { library_.get<decltype(cublasDestroy_v2)>("cublasDestroy_v2")(handle_); }

void Cublas::gemm(void* y, const void* x, const void* w, nf4_dtype_t dtype, int64_t m, int64_t n, int64_t k,
                  nf4_stream_t stream) const {
  multiply(CUBLAS_OP_T, y, x, w, dtype, m, n, k, stream);
}

void Cublas::gemm_transposed(void* y, const void* x, const void* w, nf4_dtype_t dtype, int64_t m, int64_t n, int64_t k,
                             nf4_stream_t stream) const {
  multiply(CUBLAS_OP_N, y, x, w, dtype, m, k, n, stream);
}

void Cublas::multiply(cublasOperation_t of_w, void* y, const void* x, const void* w, nf4_dtype_t dtype, int64_t m,
                      int64_t outputs, int64_t length, nf4_stream_t stream) const {
  check(set_stream_(handle_, stream), "cublasSetStream");
  // Setting the stream resets the workspace; our own keeps allocation out of graphs.
  check(set_workspace_(handle_, workspace_.get(), workspace_.bytes()), "cublasSetWorkspace");
  const float one = 1;
  const float zero = 0;
  const cudaDataType type = data_type(dtype);
  const auto rows = static_cast<int>(outputs);
  const auto depth = static_cast<int>(length);
  // Row-major y [m, outputs] is column-major [outputs, m]; W is K x N there, transposed back for gemm.
  check(gemm_(handle_, of_w, CUBLAS_OP_N, rows, static_cast<int>(m), depth, &one, w, type,
              of_w == CUBLAS_OP_T ? depth : rows, x, type, depth, &zero, y, type, rows, CUBLAS_COMPUTE_32F,
              CUBLAS_GEMM_DEFAULT),
        "cublasGemmEx");
}

}  // namespace nf4bench
