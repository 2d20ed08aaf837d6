#include "overlap.hpp"
#include "select.hpp"

using namespace nf4;

nf4_status_t nf4_pack_absmax(nf4_handle_t handle, uint8_t* absmax_codes, float* absmax2, float* offset,
                             const float* absmax, int64_t count, const float* map, int32_t blocksize,
                             const nf4_options_t* options, nf4_stream_t stream) {
  return guarded([&] {
    check_handle(handle);
    check_count("count", count);
    const int log2_blocksize = check_blocksize("blocksize", blocksize);
    check_data("absmax_codes", absmax_codes, 1, count);
    check_data("absmax2", absmax2, sizeof(float), (count + blocksize - 1) >> log2_blocksize);
    check_data("offset", offset, sizeof(float), 1);
    check_data("absmax", absmax, sizeof(float), count);
    check_data("map", map, sizeof(float), count > 0 ? 256 : 0);
    constexpr auto kFloat = static_cast<int64_t>(sizeof(float));
    const Extent operands[] = {
        array_extent("absmax_codes", absmax_codes, count),
        array_extent("absmax2", absmax2, ((count + blocksize - 1) >> log2_blocksize) * kFloat),
        array_extent("offset", offset, kFloat),
        array_extent("absmax", absmax, count * kFloat),
        array_extent("map", map, count > 0 ? 256 * kFloat : 0),
    };
    for (size_t output = 0; output < 3; ++output)
      check_apart(operands[output], std::span(operands).subspan(output + 1));
    const Options checked = check_options(options, false);
    Alignment alignment;
    alignment.add(absmax_codes).add(absmax2).add(absmax);
    const Problem problem{Op::pack_absmax, Dtype::f32, 1, 1, count, blocksize, Dtype::f32, alignment.value(), false};
    run(*handle, problem, PackAbsmaxArgs{absmax_codes, absmax2, offset, absmax, count, map, log2_blocksize}, checked,
        stream);
  });
}

nf4_status_t nf4_unpack_absmax(nf4_handle_t handle, float* absmax, const nf4_weight_t* weight,
                               const nf4_options_t* options, nf4_stream_t stream) {
  return guarded([&] {
    check_handle(handle);
    const Weight view = check_weight(weight, Reads::scales);
    const int64_t count = blocks_of(view);
    check_data("absmax", absmax, sizeof(float), count);
    const auto codes_and_scales = weight_extents(view);
    check_apart(array_extent("absmax", absmax, count * static_cast<int64_t>(sizeof(float))),
                std::span(codes_and_scales).subspan(1));
    const Options checked = check_options(options, false);
    check_stream(*handle, stream);
    if (count == 0) return;
    Alignment alignment;
    alignment.add(absmax).add(view.absmax.values);
    const Problem problem{Op::unpack_absmax, Dtype::f32,        1,    view.rows, view.cols, weight->blocksize,
                          view.absmax.dtype, alignment.value(), false};
    run(*handle, problem, UnpackAbsmaxArgs{absmax, view.absmax, count}, checked, stream);
  });
}
