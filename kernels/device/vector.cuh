// 16 bytes of weights: what a lane moves at once.
#pragma once

#include <cstdint>
#include <type_traits>

#include "format/number.hpp"

namespace nf4 {

template <class T>
struct Vector {
  static constexpr int kCount = 16 / sizeof(T);
  uint32_t words[4];

  __device__ T operator[](int i) const {
    if constexpr (std::is_same_v<T, float>) {
      return bits_to_float(words[i]);
    } else {
      return {static_cast<uint16_t>(words[i / 2] >> (i % 2 * 16))};
    }
  }

  // Elements i and i + 1, i even, become a and b rounded to T: one instruction for both in 16 bits.
  __device__ void set_pair(int i, float a, float b) {
    if constexpr (std::is_same_v<T, float>) {
      words[i] = float_to_bits(a);
      words[i + 1] = float_to_bits(b);
    } else if constexpr (std::is_same_v<T, bf16>) {
      const __nv_bfloat162 pair = __floats2bfloat162_rn(a, b);
      words[i / 2] = uint32_t{__bfloat16_as_ushort(pair.y)} << 16 | __bfloat16_as_ushort(pair.x);
    } else {
      const __half2 pair = __floats2half2_rn(a, b);
      words[i / 2] = uint32_t{__half_as_ushort(pair.y)} << 16 | __half_as_ushort(pair.x);
    }
  }
};

// Read once: it leaves the caches first.
template <class T>
__device__ Vector<T> load_vector(const T* p) {
  const uint4 words = __ldcs(reinterpret_cast<const uint4*>(p));
  return {{words.x, words.y, words.z, words.w}};
}

// Streaming: it leaves the L2 cache before what others have in it.
template <bool Streaming, class T>
__device__ void store_vector(T* p, const Vector<T>& vector) {
  const uint4 words{vector.words[0], vector.words[1], vector.words[2], vector.words[3]};
  if constexpr (Streaming) {
    __stcs(reinterpret_cast<uint4*>(p), words);
  } else {
    *reinterpret_cast<uint4*>(p) = words;
  }
}

}  // namespace nf4
