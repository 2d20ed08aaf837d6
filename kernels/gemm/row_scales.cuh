// How a lane keeps the scales of 4 blocks of 64 weights that follow one another in a row: it reads them as they lie, so
// that nothing waits for them, and decodes them when they are needed. They are addressed as in pair_scales.cuh.
#pragma once

#include <cstdint>

#include "device/ptx.cuh"
#include "format/absmax.hpp"
#include "format/number.hpp"
#include "gemm/pair_scales.cuh"
#include "problem.hpp"

namespace nf4 {

class RowScales {
 public:
  // Of blocks that are not inside of the row none is read. `quads` is what quad_scales() says.
  __device__ void read(bool quads, const Weight& weight, int block, int inside) {
    const Absmax& absmax = weight.absmax;
    if (quads) {
      if (absmax.dtype == Dtype::f32) {
        const uint4 quad = __ldg(static_cast<const uint4*>(absmax.values) + block / 4u);
        words_[0] = quad.x;
        words_[1] = quad.y;
        words_[2] = quad.z;
        words_[3] = quad.w;
      } else if (absmax.dtype == Dtype::u8) {
        words_[0] = __ldg(static_cast<const uint32_t*>(absmax.values) + block / 4u);
        words_[1] = float_to_bits(__ldg(absmax.absmax2 + (block >> absmax.log2_blocksize)));
      } else {
        const uint2 pair = __ldg(static_cast<const uint2*>(absmax.values) + block / 4u);
        words_[0] = pair.x;
        words_[1] = pair.y;
      }
      return;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (i >= inside) break;
      const int scale = scale_of(weight, block + i);
      if (absmax.dtype == Dtype::f32) {
        words_[i] = __ldg(static_cast<const uint32_t*>(absmax.values) + scale);
      } else if (absmax.dtype == Dtype::u8) {
        words_[i] = __ldg(static_cast<const uint8_t*>(absmax.values) + scale);
      } else {
        words_[i] = __ldg(static_cast<const uint16_t*>(absmax.values) + scale);
      }
    }
  }

  // What was read, of the same arguments; `map` is the address in shared memory of the map of nested scales.
  __device__ void decode(bool quads, const Weight& weight, int block, int inside, uint32_t map,
                         float (&scales)[4]) const {
    const Absmax& absmax = weight.absmax;
    const float offset = absmax.dtype == Dtype::u8 ? __ldg(absmax.offset) : 0.0f;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (i >= inside) break;
      if (absmax.dtype == Dtype::f32) {
        scales[i] = bits_to_float(words_[i]);
      } else if (absmax.dtype == Dtype::u8) {
        const uint32_t level1 = quads ? words_[0] >> 8 * i & 255 : words_[i];
        const float level2 = quads ? bits_to_float(words_[1])
                                   : __ldg(absmax.absmax2 + (scale_of(weight, block + i) >> absmax.log2_blocksize));
        scales[i] = nested_absmax(bits_to_float(load_shared(map + level1 * 4)), level2, offset);
      } else {
        const auto bits = static_cast<uint16_t>(quads ? words_[i / 2] >> i % 2 * 16 : words_[i]);
        scales[i] = absmax.dtype == Dtype::f16 ? to_float(f16{bits}) : to_float(bf16{bits});
      }
    }
  }

 private:
  uint32_t words_[4];
};

}  // namespace nf4
