// How a producer of the pair kernels brings scales into shared memory, in fours: each of its lanes those of 4 blocks of
// 64 weights that follow one another in a row. It reads them when it knows which stage comes next, and stores them when
// there is room for it. They are addressed by the first of their blocks of 64, `block`, counted from the beginning of
// W, which has 2^30 at most; `inside` says how many of its row there are from there on. Past its end scales are zeros.
//
// A small stage is multiplied in some hundred cycles, which is all the time that a producer has for it. So how scales
// lie, their format, is known when compiling: dispatch() calls what is to be done with it.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <span>
#include <type_traits>

#include "device/ptx.cuh"
#include "format/absmax.hpp"
#include "format/number.hpp"
#include "gemm/pair_sizes.hpp"
#include "problem.hpp"

namespace nf4 {

// Whether, of every W, all fours of its scales that a multiple of 4 begins are quads: one aligned load each, of the
// same second level.
inline bool quad_scales(std::span<const GemmArgs> group) {
  return std::all_of(group.begin(), group.end(), [](const GemmArgs& args) {
    const Weight& weight = args.weight;
    const Absmax& absmax = weight.absmax;
    const unsigned bytes = absmax.dtype == Dtype::u8 ? 4 : absmax.dtype == Dtype::f32 ? 16 : 8;
    return 1 << weight.log2_blocksize == kPairBlock && weight.cols % (4 * kPairBlock) == 0 &&
           reinterpret_cast<uintptr_t>(absmax.values) % bytes == 0 &&
           (absmax.dtype != Dtype::u8 || absmax.log2_blocksize >= 2);
  });
}

template <bool Quads, bool Nested>
struct ScaleFormat {
  static constexpr bool kQuads = Quads;
  static constexpr bool kNested = Nested;  // else f32, f16 or bf16
};

// The scale of a block of 64.
__device__ __forceinline__ int scale_of(const Weight& weight, int block) {
  return block >> (weight.log2_blocksize - std::countr_zero(static_cast<unsigned>(kPairBlock)));
}

// absmax in fp32: copied, without waiting.
class F32Scales {
 public:
  static constexpr bool kAsync = true;

  template <class F>
  static __device__ __forceinline__ void dispatch(bool quads, const Weight&, const F& f) {
    quads ? f(ScaleFormat<true, false>{}) : f(ScaleFormat<false, false>{});
  }

  template <class Format>
  __device__ void read(Format, const Weight&, int block, int inside) {
    block_ = block;
    inside_ = inside;
  }
  // `to` and `map` are addresses in shared memory; the map and offset are those of nested scales.
  template <class Format>
  __device__ void store(Format format, const Weight& weight, uint32_t, float, uint32_t to) const {
    copy(format, weight, block_, inside_, to);
  }
  // Both at once.
  template <class Format>
  static __device__ __forceinline__ void copy(Format, const Weight& weight, int block, int inside, uint32_t to) {
    const auto* const values = static_cast<const float*>(weight.absmax.values);
    if constexpr (Format::kQuads) {
      const bool valid = inside > 0;
      copy_async(to, reinterpret_cast<const uint8_t*>(values + (valid ? block : 0)), valid);
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const bool valid = inside > i;
        copy_async_word(to + i * static_cast<int>(sizeof(float)), values + (valid ? scale_of(weight, block + i) : 0),
                        valid);
      }
    }
  }

 private:
  int block_ = 0;
  int inside_ = 0;
};

// absmax of other dtypes: decoded. What is read is kept as it lies, so that nothing waits for it before it is stored.
class PackedScales {
 public:
  static constexpr bool kAsync = false;

  template <class F>
  static __device__ __forceinline__ void dispatch(bool quads, const Weight& weight, const F& f) {
    if (weight.absmax.dtype == Dtype::u8) {
      quads ? f(ScaleFormat<true, true>{}) : f(ScaleFormat<false, true>{});
    } else {
      quads ? f(ScaleFormat<true, false>{}) : f(ScaleFormat<false, false>{});
    }
  }

  template <class Format>
  __device__ void read(Format, const Weight& weight, int block, int inside) {
    const Absmax& absmax = weight.absmax;
    inside_ = inside;
    if constexpr (Format::kQuads) {
      if (inside <= 0) return;
      if constexpr (Format::kNested) {
        words_[0] = __ldg(static_cast<const uint32_t*>(absmax.values) + block / 4u);
        level2_[0] = __ldg(absmax.absmax2 + (block >> absmax.log2_blocksize));
      } else {
        const uint2 pair = __ldg(static_cast<const uint2*>(absmax.values) + block / 4u);
        words_[0] = pair.x;
        words_[1] = pair.y;
      }
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (i >= inside) continue;
        const int scale = scale_of(weight, block + i);
        if constexpr (Format::kNested) {
          words_[i] = __ldg(static_cast<const uint8_t*>(absmax.values) + scale);
          level2_[i] = __ldg(absmax.absmax2 + (scale >> absmax.log2_blocksize));
        } else {
          words_[i] = __ldg(static_cast<const uint16_t*>(absmax.values) + scale);
        }
      }
    }
  }
  template <class Format>
  __device__ void store(Format, const Weight& weight, uint32_t map, float offset, uint32_t to) const {
    uint32_t scales[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      float scale;
      if constexpr (Format::kNested) {
        const uint32_t level1 = (Format::kQuads ? words_[0] >> 8 * i : words_[i]) & 255;
        scale = nested_absmax(bits_to_float(load_shared(map + level1 * 4)), level2_[Format::kQuads ? 0 : i], offset);
      } else {
        const auto bits = static_cast<uint16_t>(Format::kQuads ? words_[i / 2] >> i % 2 * 16 : words_[i]);
        scale = weight.absmax.dtype == Dtype::f16 ? to_float(f16{bits}) : to_float(bf16{bits});
      }
      scales[i] = i < inside_ ? float_to_bits(scale) : 0;
    }
    store_shared_quad(to, make_uint4(scales[0], scales[1], scales[2], scales[3]));
  }

 private:
  uint32_t words_[4] = {};
  float level2_[4] = {};
  int inside_ = 0;
};

}  // namespace nf4
