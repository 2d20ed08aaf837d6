// The scale of a block, in each of the ways a checkpoint stores it.
#pragma once

#include <cstdint>

#include "format/dtype.hpp"
#include "format/hd.hpp"
#include "format/number.hpp"

namespace nf4 {

constexpr int kMapSize = 256;  // values of the first level of a nested scale

struct Absmax {
  const void* values;    // [blocks] of dtype
  Dtype dtype;           // u8: nested, the fields below are set
  const float* map;      // [256]
  const float* absmax2;  // [ceil(blocks / 2^log2_blocksize)]
  const float* offset;   // [1]
  int log2_blocksize;    // of the second level
};

// The nested scale rounds the product, then the sum, as bitsandbytes' dequantize_blockwise followed by an addition
// does; a fused multiply-add would differ in the last bit.
NF4_HD float nested_absmax(float level1, float level2, float offset) {
#if defined(__CUDA_ARCH__)
  return __fadd_rn(__fmul_rn(level1, level2), offset);
#else
  const volatile float product = level1 * level2;  // volatile: keeps a host compiler from contracting
  return product + offset;
#endif
}

NF4_HD float absmax_at(const Absmax& absmax, int64_t block) {
  switch (absmax.dtype) {
    case Dtype::f32:
      return static_cast<const float*>(absmax.values)[block];
    case Dtype::f16:
      return to_float(static_cast<const f16*>(absmax.values)[block]);
    case Dtype::bf16:
      return to_float(static_cast<const bf16*>(absmax.values)[block]);
    default:
      return nested_absmax(absmax.map[static_cast<const uint8_t*>(absmax.values)[block]],
                           absmax.absmax2[block >> absmax.log2_blocksize], *absmax.offset);
  }
}

// Index of the value of the ascending map [256] nearest to x; a tie takes the even index, as bitsandbytes' binary
// search does: its last probe is at an even index, which only a strictly nearer neighbour replaces. NaN, which a group
// whose second-level scale is 0 or not finite gives, is coded as 0.
NF4_HD uint32_t nearest_in_map(const float* map, float x) {
  if (x != x) x = 0.0f;
  uint32_t low = 0;  // the largest index with map[low] < x, or 0
  for (uint32_t step = 128; step > 0; step >>= 1) {
    if (map[low + step] < x) low += step;
  }
  if (low == 255) return low;
  const float midpoint = (map[low] + map[low + 1]) * 0.5f;
  if (x == midpoint) return low + (low & 1u);
  return x > midpoint ? low + 1 : low;
}

}  // namespace nf4
