// Operands of any size, on memory that is not there: nothing reads them.
#pragma once

#include <cstdint>

#include "oracle.hpp"

namespace nf4test {

// Hands out addresses one behind the other, each `offset` bytes past a multiple of a page.
class Somewhere {
 public:
  template <class T>
  T* take(int64_t count, size_t size, size_t offset = 0) {
    constexpr uintptr_t kPage = 4096;
    const uintptr_t begin = next_ + offset;
    next_ = (begin + static_cast<uintptr_t>(count) * size + kPage - 1) / kPage * kPage;
    return reinterpret_cast<T*>(begin);
  }

  nf4_weight_t weight(int64_t rows, int64_t cols, int32_t blocksize, nf4_dtype_t absmax_dtype, size_t codes_offset = 0,
                      size_t absmax_offset = 0) {
    const int64_t blocks = (rows * cols + blocksize - 1) / blocksize;
    nf4_weight_t weight = NF4_WEIGHT_INIT;
    weight.rows = rows;
    weight.cols = cols;
    weight.blocksize = blocksize;
    weight.absmax_dtype = absmax_dtype;
    weight.codes = take<uint8_t>((rows * cols + 1) / 2, 1, codes_offset);
    weight.absmax = take<void>(blocks, static_cast<size_t>(nf4ref::size_of(absmax_dtype)), absmax_offset);
    weight.absmax_map = take<float>(256, sizeof(float));
    weight.absmax2 = take<float>((blocks + 255) / 256, sizeof(float));
    weight.absmax_offset = take<float>(1, sizeof(float));
    return weight;
  }

 private:
  uintptr_t next_ = uintptr_t{1} << 20;
};

}  // namespace nf4test
