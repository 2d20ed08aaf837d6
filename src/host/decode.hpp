// Runs of the flattened matrix, decoded.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "format/codebook.hpp"
#include "variant.hpp"

namespace nf4 {

// The values of the two elements that a byte of codes holds.
template <class Number>
struct Pair {
  Number high, low;
};

template <class Number>
inline constexpr auto kPairs = [] {
  std::array<Pair<Number>, 256> pairs{};
  for (size_t byte = 0; byte < pairs.size(); ++byte)
    pairs[byte] = {Number{kCodebook[byte >> 4]}, Number{kCodebook[byte & 15]}};
  return pairs;
}();

// Eight bytes of codes, the first in the lowest place: one load for all.
inline constexpr int64_t kWord = 8;
inline uint64_t word_of(const uint8_t* codes) {
  uint64_t word = 0;
  std::memcpy(&word, codes, sizeof word);
  return std::endian::native == std::endian::little ? word : __builtin_bswap64(word);
}

// Calls body(begin, end, scale) for each part of elements [begin, end) of the flattened matrix that shares a block.
template <class Body>
void for_each_block(const Weight& weight, int64_t begin, int64_t end, const Body& body) {
  while (begin < end) {
    const int64_t block = begin >> weight.log2_blocksize;
    const int64_t part = std::min(end, (block + 1) << weight.log2_blocksize);
    body(begin, part, absmax_at(weight.absmax, block));
    begin = part;
  }
}

// Writes round(codebook * absmax) of elements [begin, end) of the flattened matrix to out; the product is a Number.
template <class Number, class Out, class Round>
void decode(const Weight& weight, int64_t begin, int64_t end, Out* out, const Round& round) {
  for_each_block(weight, begin, end, [&](int64_t i, int64_t part, float absmax) {
    const Number scale{absmax};
    if ((i & 1) != 0) *out++ = round(kPairs<Number>[weight.codes[i++ >> 1]].low * scale);
    const auto write = [&](uint64_t byte, Out* pair) {
      pair[0] = round(kPairs<Number>[byte].high * scale);
      pair[1] = round(kPairs<Number>[byte].low * scale);
    };
    for (; i + 2 * kWord <= part; i += 2 * kWord, out += 2 * kWord) {
      const uint64_t word = word_of(weight.codes + (i >> 1));
#pragma GCC unroll 8
      for (int64_t byte = 0; byte < kWord; ++byte) write(word >> 8 * byte & 255, out + 2 * byte);
    }
    for (; i + 1 < part; i += 2, out += 2) write(weight.codes[i >> 1], out);
    if (i < part) *out++ = round(kPairs<Number>[weight.codes[i >> 1]].high * scale);
  });
}

}  // namespace nf4
