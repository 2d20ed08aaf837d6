// Integer divisions.
#pragma once

#include <cstdint>

namespace nf4 {

// Rounds up.
constexpr int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b != 0 ? 1 : 0); }

// Division by a number that the host knows, in two instructions in place of some 30: exact for a >= 0, divisor >= 1 and
// a * divisor < 2^31.
struct Divisor {
  uint32_t inverse = 0;

  static constexpr Divisor of(int divisor) {
    const auto d = static_cast<uint64_t>(divisor);
    return {static_cast<uint32_t>(((uint64_t{1} << 31) + d - 1) / d)};
  }
  constexpr int quotient(int a) const { return static_cast<int>(static_cast<uint64_t>(a) * inverse >> 31); }
};

}  // namespace nf4
