#include <algorithm>

#include "host.hpp"
#include "parallel.hpp"

namespace nf4 {

int host_pack_absmax(const PackAbsmaxArgs& args, const Device& device, int, Stream) {
  double sum = 0.0;
  for (int64_t i = 0; i < args.count; ++i) sum += static_cast<double>(args.absmax[i]);
  const float mean = args.count > 0 ? static_cast<float>(sum / static_cast<double>(args.count)) : 0.0f;
  *args.offset = mean;
  const int64_t blocksize = int64_t{1} << args.log2_blocksize;
  const int64_t groups = (args.count + blocksize - 1) >> args.log2_blocksize;
  parallel_for(device.multiprocessors, groups, 32 * blocksize, [&](int64_t first, int64_t last) {
    for (int64_t group = first; group < last; ++group) {
      const int64_t begin = group << args.log2_blocksize;
      const int64_t end = std::min(begin + blocksize, args.count);
      uint32_t largest = 0;  // magnitudes compare as their bits do, NaN above Inf above every number
      for (int64_t i = begin; i < end; ++i)
        largest = std::max(largest, float_to_bits(args.absmax[i] - mean) & 0x7fffffffu);
      const float scale = bits_to_float(largest);
      args.absmax2[group] = scale;
      for (int64_t i = begin; i < end; ++i) {
        args.codes[i] = static_cast<uint8_t>(nearest_in_map(args.map, (args.absmax[i] - mean) / scale));
      }
    }
  });
  return 0;
}

int host_unpack_absmax(const UnpackAbsmaxArgs& args, const Device& device, int, Stream) {
  parallel_for(device.multiprocessors, args.count, 4, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) args.out[i] = absmax_at(args.absmax, i);
  });
  return 0;
}

}  // namespace nf4
