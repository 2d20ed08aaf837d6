#include "select.hpp"

using namespace nf4;

namespace {

void gemm(nf4_handle_t handle, void* y, int64_t ldy, const void* x, int64_t ldx, int64_t m, nf4_dtype_t dtype,
          const nf4_weight_t* weight, const void* bias, const nf4_options_t* options, nf4_stream_t stream) {
  check_handle(handle);
  const Dtype type = check_dtype("dtype", dtype);
  const Weight view = check_weight(weight, true);
  const int64_t n = view.rows;
  const int64_t k = view.cols;
  const int64_t inputs = check_matrix("m", m, "weight->cols", k);
  const int64_t outputs = check_matrix("m", m, "weight->rows", n);
  check_leading("ldy", ldy, "weight->rows", n, m);
  check_leading("ldx", ldx, "weight->cols", k, m);
  const size_t size = size_of(type);
  check_data("y", y, size, outputs);
  check_data("x", x, size, outputs > 0 ? inputs : 0);
  check_data("bias", bias, size, 0);
  const Options checked = check_options(options, false);
  check_stream(*handle, stream);
  if (outputs == 0) return;

  const bool strided = m > 1 && (ldy != n || ldx != k);
  Alignment alignment;
  alignment.add(x).add(view.codes);
  if (m > 1) alignment.add_bytes(ldx * static_cast<int64_t>(size));
  const Problem problem{Op::gemm, type, m, n, k, weight->blocksize, view.absmax.dtype, alignment.value(), strided};
  run(*handle, problem, GemmArgs{y, ldy, x, ldx, m, type, view, bias, checked.workspace}, checked, stream);
}

}  // namespace

nf4_status_t nf4_gemm(nf4_handle_t handle, void* y, int64_t ldy, const void* x, int64_t ldx, int64_t m,
                      nf4_dtype_t dtype, const nf4_weight_t* weight, const void* bias, const nf4_options_t* options,
                      nf4_stream_t stream) {
  return guarded([&] { gemm(handle, y, ldy, x, ldx, m, dtype, weight, bias, options, stream); });
}

nf4_status_t nf4_gemv(nf4_handle_t handle, void* y, const void* x, nf4_dtype_t dtype, const nf4_weight_t* weight,
                      const void* bias, const nf4_options_t* options, nf4_stream_t stream) {
  return guarded([&] {
    check_handle(handle);
    check_struct("weight", weight);
    gemm(handle, y, weight->rows, x, weight->cols, 1, dtype, weight, bias, options, stream);
  });
}
