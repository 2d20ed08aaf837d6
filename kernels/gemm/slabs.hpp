// How a product goes through W by slabs: columns `begin` to `begin + width` of all rows, unpacked one after the other
// to the same memory, so that W is never there as a whole.
#pragma once

#include <algorithm>
#include <cstdint>

#include "device/math.hpp"

namespace nf4 {

constexpr int64_t kSlabStep = 256;  // columns: a warp unpacks so many of a row at a time (unpack_slab.cu)

struct Slabs {
  int64_t cols;   // of W
  int64_t width;  // of a slab but for the last, which may be narrower; a multiple of kSlabStep, or cols

  // As equal slabs as can be, each of `bytes` at most, or of one step.
  static constexpr Slabs of(int64_t rows, int64_t cols, int64_t element_bytes, int64_t bytes) {
    const int64_t steps = ceil_div(cols, kSlabStep);
    const int64_t fitting = std::max<int64_t>(1, bytes / kSlabStep / element_bytes / std::max<int64_t>(1, rows));
    const int64_t count = ceil_div(steps, fitting);
    return {cols, std::min(cols, ceil_div(steps, std::max<int64_t>(1, count)) * kSlabStep)};
  }

  constexpr int64_t width_at(int64_t begin) const { return std::min(width, cols - begin); }
};

}  // namespace nf4
