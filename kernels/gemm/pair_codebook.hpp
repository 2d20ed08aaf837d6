// The codebook as the 16-bit types hold it, in plain C++: the host passes it to the kernels.
#pragma once

#include <cstdint>

#include "format/codebook.hpp"
#include "format/number.hpp"

namespace nf4 {

// What codebook values are multiplied by before they are rounded to T, and sums divided by in the end: of the factors
// that T holds, which keep 0, -1 and 1 exact, the one by which the 16 values err least. Weights with normal deviates
// for values then err by 8.1e-5 of their root mean square in f16, in place of 1.8e-4, and in bf16 by 8.9e-4 in place of
// 1.36e-3; no value by more than half of T's unit roundoff. Below 1, so that no sum overflows that would not without.
template <class T>
inline constexpr float kCodebookFactor = 0;
template <>
inline constexpr float kCodebookFactor<f16> = 0.68310546875f;
template <>
inline constexpr float kCodebookFactor<bf16> = 0.55859375f;

// Its inverse, which errs by less than 2^-25: n * factor * inverse is n wherever n and n * factor are fp32 numbers.
template <class T>
inline constexpr float kCodebookInverse = 1.0f / kCodebookFactor<T>;

// The same where the table's values are scaled before they are multiplied (scale_pair.cuh), in f16 whatever T is: above
// 1, lest absmax overflow when divided by it.
inline constexpr float kScaledTableFactor = 2 * kCodebookFactor<f16>;

struct PairCodebook {
  uint16_t values[16];
};

template <class T>
PairCodebook pair_codebook(float factor = kCodebookFactor<T>) {
  PairCodebook codebook;
  for (int code = 0; code < 16; ++code) codebook.values[code] = from_float<T>(kCodebook[code] * factor).bits;
  return codebook;
}

}  // namespace nf4
