// The end of a product whose sums lie as sum_tile.hpp says: from registers to shared memory, and on to y (epilogue).
#pragma once

#include <cstdint>

#include "gemm/sum_tile.hpp"
#include "gemm/totals.cuh"

namespace nf4 {

// Stores a thread's accumulators of a wgmma: element 4 i + e is that of column 8 i + 2 t + e % 2, and of row g, which
// is `to`'s, for e < 2, or g + 8, which is Apart rows further on.
template <int Apart = 8, int Count>
__device__ __forceinline__ void store_sums(float* to, int pitch, const float (&sums)[Count]) {
#pragma unroll
  for (int i = 0; i < Count; ++i) {
    const int col = i / 4 * 8 + 2 * (threadIdx.x % 4) + i % 2;
    to[col * pitch + i / 2 % 2 * Apart] = sums[i];
  }
}

// Adds up the partial sums of a tile that begins at row `row` of W [rows, ..] and has `tile_rows`, for `cols` rows of
// x, of which y has the first one's.
template <class T>
__device__ __forceinline__ void write_tile(const Partials& partials, T* y, int64_t ldy, int64_t row, int tile_rows,
                                           int64_t rows, int cols, const T* bias) {
  const int here = static_cast<int>(min(rows - row, int64_t{tile_rows}));
  write_totals(partials, y + row, ldy, here, cols, bias == nullptr ? bias : bias + row);
}

}  // namespace nf4
