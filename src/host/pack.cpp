#include <algorithm>
#include <cmath>

#include "dispatch.hpp"
#include "format/codebook.hpp"
#include "host.hpp"
#include "parallel.hpp"

namespace nf4 {
namespace {

// Packs blocks [first, last) of the flattened matrix. Blocks hold an even number of elements, so no byte is shared.
template <class T>
void pack_blocks(const PackArgs& args, int64_t first, int64_t last) {
  const T* w = static_cast<const T*>(args.w);
  const int64_t elements = args.rows * args.cols;
  const auto element = [&](int64_t i) { return to_float(w[i / args.cols * args.ldw + i % args.cols]); };
  for (int64_t block = first; block < last; ++block) {
    const int64_t begin = block << args.log2_blocksize;
    const int64_t end = std::min(begin + (int64_t{1} << args.log2_blocksize), elements);
    uint32_t largest = 0;  // magnitudes compare as their bits do, NaN above Inf above every number
    for (int64_t i = begin; i < end; ++i) largest = std::max(largest, float_to_bits(element(i)) & 0x7fffffffu);
    const float scale = bits_to_float(largest);
    args.absmax[block] = scale;
    for (int64_t i = begin; i < end; i += 2) {
      const uint32_t high = encode(element(i) / scale);
      const uint32_t low = i + 1 < end ? encode(element(i + 1) / scale) : kZeroCode;
      args.codes[i >> 1] = static_cast<uint8_t>(high << 4 | low);
    }
  }
}

}  // namespace

int host_pack(const PackArgs& args, const Device& device, int, Stream) {
  const int64_t blocksize = int64_t{1} << args.log2_blocksize;
  const int64_t blocks = (args.rows * args.cols + blocksize - 1) >> args.log2_blocksize;
  with_dtype(args.dtype, [&](auto type) {
    parallel_for(device.multiprocessors, blocks, 16 * blocksize,
                 [&](int64_t first, int64_t last) { pack_blocks<decltype(type)>(args, first, last); });
  });
  return 0;
}

}  // namespace nf4
