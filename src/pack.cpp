#include "overlap.hpp"
#include "select.hpp"

using namespace nf4;

nf4_status_t nf4_pack(nf4_handle_t handle, uint8_t* codes, float* absmax, const void* w, int64_t ldw, nf4_dtype_t dtype,
                      int64_t rows, int64_t cols, int32_t blocksize, const nf4_options_t* options,
                      nf4_stream_t stream) {
  return guarded([&] {
    check_handle(handle);
    const Dtype type = check_dtype("dtype", dtype);
    const int64_t elements = check_matrix("rows", rows, "cols", cols);
    check_leading("ldw", ldw, "cols", cols, rows);
    const int log2_blocksize = check_blocksize("blocksize", blocksize);
    check_data("codes", codes, 1, elements);
    const int64_t blocks = (elements + blocksize - 1) >> log2_blocksize;
    check_data("absmax", absmax, sizeof(float), blocks);
    check_data("w", w, size_of(type), elements);
    const Extent operands[] = {
        array_extent("codes", codes, (elements + 1) / 2),
        array_extent("absmax", absmax, blocks * static_cast<int64_t>(sizeof(float))),
        matrix_extent("w", w, rows, cols, ldw, size_of(type)),
    };
    for (size_t output = 0; output < 2; ++output)
      check_apart(operands[output], std::span(operands).subspan(output + 1));
    const Options checked = check_options(options, false);
    check_stream(*handle, stream);
    if (elements == 0) return;

    const bool strided = rows > 1 && ldw != cols;
    Alignment alignment;
    alignment.add(codes).add(absmax).add(w);
    if (strided) alignment.add_bytes(ldw * static_cast<int64_t>(size_of(type)));
    const Problem problem{Op::pack, type, 1, rows, cols, blocksize, Dtype::f32, alignment.value(), strided};
    run(*handle, problem, PackArgs{codes, absmax, w, strided ? ldw : cols, type, rows, cols, log2_blocksize}, checked,
        stream);
  });
}
