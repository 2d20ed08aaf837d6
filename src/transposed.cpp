// The entry points of the product with W itself, where nf4_gemm has W^T.
#include "host/host.hpp"
#include "overlap.hpp"
#include "product.hpp"
#include "select.hpp"

using namespace nf4;

namespace {

// All that sizes and types tell of a product; x and y as nf4_gemm_transposed likes them best: aligned, and without
// gaps.
GemmTransposedArgs check_sizes(int64_t m, nf4_dtype_t dtype, const nf4_weight_t* weight, Reads reads) {
  const Dtype type = check_dtype("dtype", dtype);
  const Weight view = check_weight(weight, reads);
  check_matrix("m", m, "weight->cols", view.cols);
  check_matrix("m", m, "weight->rows", view.rows);
  return {nullptr, view.cols, nullptr, view.rows, m, type, view, nullptr};
}

bool has_outputs(const GemmTransposedArgs& args) { return args.m > 0 && args.weight.cols > 0; }

GemmTransposedArgs check_gemm_transposed(void* y, int64_t ldy, const void* x, int64_t ldx, int64_t m, nf4_dtype_t dtype,
                                         const nf4_weight_t* weight) {
  GemmTransposedArgs args = check_sizes(m, dtype, weight, Reads::codes_and_scales);
  const Weight& view = args.weight;
  check_leading("ldy", ldy, "weight->cols", view.cols, m);
  check_leading("ldx", ldx, "weight->rows", view.rows, m);
  const size_t size = size_of(args.dtype);
  const int64_t rows_of_x = has_outputs(args) ? m : 0;
  check_data("y", y, size, m * view.cols);
  check_data("x", x, size, rows_of_x * view.rows);
  args.y = y;
  args.ldy = ldy;
  args.x = x;
  args.ldx = ldx;
  const Extent output = matrix_extent("y", y, m, view.cols, ldy, size);
  check_apart(output, std::array{matrix_extent("x", x, rows_of_x, view.rows, ldx, size)});
  check_apart(output, weight_extents(view));
  return args;
}

Problem problem_of(const GemmTransposedArgs& args) {
  const Weight& weight = args.weight;
  Alignment alignment;
  alignment.add(args.x).add(weight.codes);
  if (args.m > 1) alignment.add_bytes(args.ldx * static_cast<int64_t>(size_of(args.dtype)));
  const bool strided = args.m > 1 && (args.ldy != weight.cols || args.ldx != weight.rows);
  return {Op::gemm_transposed, args.dtype,        args.m, weight.rows, weight.cols, 1 << weight.log2_blocksize,
          weight.absmax.dtype, alignment.value(), strided};
}

}  // namespace

nf4_status_t nf4_gemm_transposed(nf4_handle_t handle, void* y, int64_t ldy, const void* x, int64_t ldx, int64_t m,
                                 nf4_dtype_t dtype, const nf4_weight_t* weight, const nf4_options_t* options,
                                 nf4_stream_t stream) {
  return guarded([&] {
    check_handle(handle);
    const GemmTransposedArgs args = check_gemm_transposed(y, ldy, x, ldx, m, dtype, weight);
    run_product(*handle, args, has_outputs(args), options, stream, problem_of, host_gemm_transposed_scratch);
  });
}

nf4_status_t nf4_gemm_transposed_workspace(nf4_handle_t handle, int64_t m, nf4_dtype_t dtype,
                                           const nf4_weight_t* weight, size_t* bytes) {
  return guarded([&] {
    check_handle(handle);
    const GemmTransposedArgs args = check_sizes(m, dtype, weight, Reads::nothing);
    check_not_null("bytes", bytes);
    Options ample;
    ample.workspace_size = SIZE_MAX;
    const Problem problem = problem_of(args);
    *bytes = has_outputs(args) ? select(*handle, problem, ample).workspace_size(problem, handle->device) : 0;
  });
}
