// See unpack_slab.hpp. A warp takes 256 columns of 4 rows: of each row a lane loads 8 codes, which are a word, and
// stores their 8 weights; loads and stores of a warp are coalesced. All that a lane loads is under way before the first
// is used. The weights stay in the L2 cache, as far as it holds them, for the product to find.
#include "gemm/unpack_slab.hpp"

#include "device/launch.cuh"
#include "device/table.cuh"
#include "device/vector.cuh"
#include "device/warp.hpp"
#include "dispatch.hpp"
#include "format/codebook.hpp"
#include "gemm/slabs.hpp"

namespace nf4 {
namespace {

constexpr int kWarps = 8;
constexpr int kRows = 4;     // of a warp at a time
constexpr int kWeights = 8;  // of a lane in a row
constexpr int kTileRows = kWarps * kRows;

static_assert(kSlabStep == kWarpSize * kWeights);

template <class T>
__global__ void __launch_bounds__(kWarps* kWarpSize)
    unpack_slab(T* __restrict__ slab,  // [weight.rows, cols]
                int64_t first, int64_t cols, const __grid_constant__ Weight weight) {
  const SharedTable table = SharedTable::make();
  const int64_t steps = (cols + kSlabStep - 1) / kSlabStep;
  const int64_t tiles = steps * ((weight.rows + kTileRows - 1) / kTileRows);
  for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const int64_t col = tile % steps * kSlabStep + threadIdx.x % kWarpSize * kWeights;
    const int64_t row = tile / steps * kTileRows + threadIdx.x / kWarpSize * kRows;
    if (col >= cols) continue;
    uint32_t codes[kRows];
    float scales[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (row + r >= weight.rows) break;
      const int64_t i =
          (row + r) * weight.cols + first + col;  // of the first weight: none of the 8 is of another block
      codes[r] = __ldcs(reinterpret_cast<const uint32_t*>(weight.codes + (i >> 1)));
      scales[r] = absmax_at(weight.absmax, i >> weight.log2_blocksize);
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (row + r >= weight.rows) break;
      T* const out = slab + (row + r) * cols + col;
#pragma unroll
      for (int i = 0; i < kWeights; i += Vector<T>::kCount) {
        Vector<T> weights;
#pragma unroll
        for (int j = 0; j < Vector<T>::kCount; j += 2) {
          weights.set_pair(j, table[code_at(codes[r], i + j)] * scales[r],
                           table[code_at(codes[r], i + j + 1)] * scales[r]);
        }
        store_vector<false>(out + i, weights);
      }
    }
  }
}

}  // namespace

int launch_unpack_slab(void* slab, const Weight& weight, int64_t first, int64_t cols, Dtype dtype, Stream stream) {
  return with_dtype(dtype, [&](auto type) {
    using T = decltype(type);
    const int64_t tiles = ceil_div(cols, kSlabStep) * ceil_div(weight.rows, kTileRows);
    return launch(unpack_slab<T>, grid_for(tiles), kWarps * kWarpSize, stream, static_cast<T*>(slab), first, cols,
                  weight);
  });
}

}  // namespace nf4
