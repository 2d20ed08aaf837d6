#include "overlap.hpp"
#include "select.hpp"

using namespace nf4;

nf4_status_t nf4_unpack(nf4_handle_t handle, void* w, int64_t ldw, nf4_dtype_t dtype, const nf4_weight_t* weight,
                        const nf4_options_t* options, nf4_stream_t stream) {
  return guarded([&] {
    check_handle(handle);
    const Dtype type = check_dtype("dtype", dtype);
    const Weight view = check_weight(weight, Reads::codes_and_scales);
    check_leading("ldw", ldw, "weight->cols", view.cols, view.rows);
    const int64_t elements = view.rows * view.cols;
    check_data("w", w, size_of(type), elements);
    check_apart(matrix_extent("w", w, view.rows, view.cols, ldw, size_of(type)), weight_extents(view));
    const Options checked = check_options(options, false);
    check_stream(*handle, stream);
    if (elements == 0) return;

    const bool strided = view.rows > 1 && ldw != view.cols;
    Alignment alignment;
    alignment.add(w).add(view.codes).add(view.absmax.values);
    if (strided) alignment.add_bytes(ldw * static_cast<int64_t>(size_of(type)));
    const Problem problem{Op::unpack,        type,   1, view.rows, view.cols, weight->blocksize, view.absmax.dtype,
                          alignment.value(), strided};
    run(*handle, problem, UnpackArgs{w, strided ? ldw : view.cols, type, view}, checked, stream);
  });
}
