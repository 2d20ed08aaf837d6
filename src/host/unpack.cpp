#include "decode.hpp"
#include "dispatch.hpp"
#include "host.hpp"
#include "parallel.hpp"

namespace nf4 {

int host_unpack(const UnpackArgs& args, const Device& device, int, Stream) {
  const Weight& weight = args.weight;
  with_dtype(args.dtype, [&](auto type) {
    using T = decltype(type);
    parallel_for(device.multiprocessors, weight.rows, 4 * weight.cols, [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row) {
        decode<float>(weight, row * weight.cols, (row + 1) * weight.cols, static_cast<T*>(args.w) + row * args.ldw,
                      [](float value) { return from_float<T>(value); });
      }
    });
  });
  return 0;
}

}  // namespace nf4
