// Runs of the flattened matrix, decoded.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

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
    for (; i + 1 < part; i += 2, out += 2) {
      const Pair<Number>& pair = kPairs<Number>[weight.codes[i >> 1]];
      out[0] = round(pair.high * scale);
      out[1] = round(pair.low * scale);
    }
    if (i < part) *out++ = round(kPairs<Number>[weight.codes[i >> 1]].high * scale);
  });
}

}  // namespace nf4
