// Coding weights without a division for each: what pack.binned computes per element.
//
// Ratios from -1 to 1 are cut into bins, each narrower than the least distance of two midpoints, so that a bin holds
// one midpoint at most, and none near its edge. A ratio that is good to three digits finds the bin; the bin's entry
// says which code lies below its midpoint; one exact comparison decides between that and the next.
//
// The comparison. encode() holds x / absmax, rounded to fp32, against a midpoint m. Let h be half an ulp of m. The
// rounded quotient exceeds m if and only if x > (m + h) absmax, in real numbers: the quotient rounds up past m from
// m + h on, and is never m + h itself, since m + h has 25 significant bits, and so has (m + h) absmax at least, but x
// has 24.
//
//     f32        the sign of fma(h, absmax, fma(m, absmax, -x)). Near the midpoint the inner result is exact: the
//                remainder of a division by a quotient that is off by less than an ulp is a number of fp32. Far from it
//                the inner result is larger than h absmax, rounded or not.
//     f16, bf16  the sign of fma(m, absmax, -x) alone: x and absmax have 11 and 8 significant bits, and no ratio of
//                two such numbers lies between m and m + h, which a test shows for every pair.
//     bf16       the same with a number near m in its place, whose last 4 bits are the code below it, so that an entry
//                is one word: no ratio of two numbers of 8 bits lies between it and m either.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "format/codebook.hpp"
#include "format/hd.hpp"
#include "format/number.hpp"

namespace nf4 {

constexpr int kBins = 32;
constexpr float kQuarterBins = 51.0f;  // to a ratio of 1; with kMiddle, keeps midpoints 0.007 from the edges of bins
constexpr float kMiddle = 64.0f;       // quarter bins below a ratio of 0
constexpr float kBinBias = 0x1.8p23f + kMiddle;  // its ulp is 1: what is added to it is rounded to a whole number

// Entry b, in two planes: words[b] holds the bits of the midpoint m, words[kBins + b] those of h, with the code below
// the midpoint in its last 4 bits. For bf16 the one plane is that of m, with the code in its last 4 bits.
template <class T>
struct BinTable {
  static constexpr bool kOnePlane = std::is_same_v<T, bf16>;
  static constexpr int kWords = kOnePlane ? kBins : 2 * kBins;
  uint32_t words[kWords];
};

template <class T>
constexpr BinTable<T> make_bin_table() {
  constexpr uint32_t kNever = 0x40800000u;  // 4.0, which no ratio exceeds: the entry of a bin without a midpoint
  BinTable<T> table{};
  uint32_t below = 0;  // code of the first ratio of the bin
  for (int bin = 0; bin < kBins; ++bin) {
    uint32_t m = kNever;
    uint32_t h = 0;
    const uint32_t code = below;
    if (code < 15) {
      const double steps = double{kMidpoints[code]} * kQuarterBins + kMiddle;
      if (static_cast<int>(steps + 0.5) / 4 == bin) {
        m = std::bit_cast<uint32_t>(kMidpoints[code]);
        h = ((m >> 23 & 0xffu) - 24) << 23;
        ++below;
      }
    }
    if constexpr (BinTable<T>::kOnePlane) {
      table.words[bin] = ((m - code + 8) & ~15u) + code;  // the nearest to m that ends in the code
    } else {
      table.words[bin] = m;
      table.words[kBins + bin] = h | code;
    }
  }
  return table;
}

template <class T>
inline constexpr BinTable<T> kBinTable = make_bin_table<T>();

// Reads a table that lies in memory; a kernel has its own way to read one in shared memory. `at` is the entry's offset
// in bytes.
struct BinWords {
  const uint32_t* words;

  NF4_HD uint32_t first(uint32_t at) const { return words[at / 4]; }
  NF4_HD uint32_t second(uint32_t at) const { return words[kBins + at / 4]; }
};

// Offset of the entry of x, where `bins` is kQuarterBins / absmax to 20 bits or better.
NF4_HD uint32_t bin_of(float x, float bins) { return float_to_bits(fmaf(x, bins, kBinBias)) & (kBins - 1) * 4; }

// A number whose last 4 bits are encode(x / absmax), of an absmax in range and an x of T.
template <class T, class Table>
NF4_HD uint32_t code_in_bin(float x, float absmax, uint32_t at, const Table& table) {
  const uint32_t m = table.first(at);
  float excess = fmaf(bits_to_float(m), absmax, -x);  // negative if x lies above the midpoint
  if constexpr (BinTable<T>::kOnePlane) return m + (float_to_bits(excess) >> 31);
  const uint32_t h = table.second(at);
  if constexpr (std::is_same_v<T, float>) excess = fmaf(bits_to_float(h & ~15u), absmax, excess);
  return h + (float_to_bits(excess) >> 31);
}

// In range, from 2^-96 to 2^126, neither a product of the above nor the reciprocal of absmax is subnormal.
NF4_HD bool in_range(float absmax) {
  return float_to_bits(absmax) - float_to_bits(0x1p-96f) < float_to_bits(0x1p126f) - float_to_bits(0x1p-96f);
}

// Within 1 ulp, for an x in range.
NF4_HD float approximate_reciprocal(float x) {
#if defined(__CUDA_ARCH__)
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
#else
  return 1.0f / x;
#endif
}

// Puts the last 4 bits of `code` before the codes that `word` holds from its top bit on.
NF4_HD uint32_t push_code(uint32_t word, uint32_t code) {
#if defined(__CUDA_ARCH__)
  return __funnelshift_r(word, code, 4);
#else
  return word >> 4 | code << 28;
#endif
}

// codes_of() for an absmax in range.
template <class T, int Count, class Table>
NF4_HD uint32_t codes_in_range(const float (&x)[Count], float absmax, const Table& table) {
  const float bins = kQuarterBins * approximate_reciprocal(absmax);
  uint32_t word = 0;
  for (int j = 0; j < Count; ++j) {
    const float weight = x[j ^ 1];
    word = push_code(word, code_in_bin<T>(weight, absmax, bin_of(weight, bins), table));
  }
  return word >> (32 - 4 * Count);
}

// The codes of 8 weights of a block, or of 4 in the low half, as they are stored: in a little-endian word, the earlier
// of each two in the high nibble of their byte.
template <class T, int Count, class Table>
NF4_HD uint32_t codes_of(const float (&x)[Count], float absmax, const Table& table) {
  static_assert(Count == 4 || Count == 8);
  if (in_range(absmax)) return codes_in_range<T>(x, absmax, table);
  if (!(absmax > 0.0f && absmax <= 0x1.fffffep127f)) return kZeroCode * 0x11111111u >> (32 - 4 * Count);
  // A power of two brings the block into range. Weights that it makes subnormal are far too small to be coded as
  // anything but zero.
  const float factor = absmax < 1.0f ? 0x1p100f : 0x1p-8f;
  float scaled[Count];
  for (int j = 0; j < Count; ++j) scaled[j] = x[j] * factor;
  return codes_in_range<T>(scaled, absmax * factor, table);
}

}  // namespace nf4
