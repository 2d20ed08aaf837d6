#include "dispatch.hpp"
#include "format/codebook.hpp"
#include "host.hpp"
#include "parallel.hpp"

namespace nf4 {

int host_unpack(const UnpackArgs& args, const Device& device, int, Stream) {
  const Weight& weight = args.weight;
  with_dtype(args.dtype, [&](auto type) {
    using T = decltype(type);
    parallel_for(device.multiprocessors, weight.rows, 4 * weight.cols, [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row) {
        T* out = static_cast<T*>(args.w) + row * args.ldw;
        for (int64_t col = 0; col < weight.cols; ++col) {
          const int64_t i = row * weight.cols + col;
          out[col] =
              from_float<T>(kCodebook[code_at(weight.codes, i)] * absmax_at(weight.absmax, i >> weight.log2_blocksize));
        }
      }
    });
  });
  return 0;
}

}  // namespace nf4
