// gemm.tiled and gemm_transposed.tiled: the fused product for any M, on the CUDA cores in fp32.
//
// A block computes a tile of tile_m rows of x by 64 outputs: rows of W, or columns where it is transposed. It walks the
// length of x's rows in slices of 32: the slice's weights are decoded and scaled once into shared memory, x is
// converted beside them, both along the length first, and each thread multiplies a patch of (tile_m / 16) x 4. A slice
// is summed for itself and then added to the total, so that no term passes more than length/32 + 32 roundings; all sums
// run along the length in order, so the result does not depend on the grid.
//
//        n: 64 outputs              thread (tm, tn) = (tid / 16, tid % 16) owns
//      +----------------+           rows m = tm + 16 * i, i < tile_m / 16
//    m |  tile_m x 64   |           outputs n = tn + 16 * j, j < 4
//      +----------------+
//
// Right for every shape and every alignment; the tensor cores are other variants' business.
#include "device/chunk.cuh"
#include "device/launch.cuh"
#include "device/math.hpp"
#include "device/table.cuh"
#include "dispatch.hpp"
#include "families.hpp"
#include "format/codebook.hpp"

namespace nf4 {
namespace {

struct Config {
  int tile_m;

  std::string text() const { return "tile_m=" + std::to_string(tile_m); }
  bool operator==(const Config&) const = default;
};

constexpr Config kConfigs[] = {{64}, {16}};

constexpr int kTileN = 64;
constexpr int kTileK = 32;
constexpr int kSide = 16;  // threads along m and along n
constexpr int kThreads = kSide * kSide;
constexpr int kPad = 1;  // keeps the transposing stores off each other's banks

// Decodes and scales elements `begin` to `begin + 8` of W, of which those from `left` on count as zeros: out(i,
// weight).
template <bool Words, class Out>
__device__ void decode_chunk(const Weight& weight, const SharedTable& table, int64_t begin, int64_t left,
                             const Out& out) {
  if (Words && left > 0) {
    const uint32_t codes = *reinterpret_cast<const uint32_t*>(weight.codes + (begin >> 1));
    const float absmax = absmax_at(weight.absmax, begin >> weight.log2_blocksize);
#pragma unroll
    for (int i = 0; i < kChunk; ++i) out(i, table[code_at(codes, i)] * absmax);
  } else {
    for (int i = 0; i < kChunk; ++i) {
      out(i, i < left ? table[code_at(weight.codes, begin + i)] *
                            absmax_at(weight.absmax, (begin + i) >> weight.log2_blocksize)
                      : 0.0f);
    }
  }
}

// Stores the weights of outputs [n0, n0 + 64) by [k0, k0 + 32) of the length, scaled, into tile[k][n]; zeros outside of
// W.
template <bool Transposed, bool Words>
__device__ void load_weights(float (&tile)[kTileK][kTileN + kPad], const Weight& weight, const SharedTable& table,
                             int64_t n0, int64_t k0) {
  static_assert(kTileN * kTileK == kThreads * kChunk, "a chunk of 8 weights for each thread");
  constexpr int kRowChunks = (Transposed ? kTileN : kTileK) / kChunk;
  const int row = threadIdx.x / kRowChunks;  // of the tile, along W's
  const int col = threadIdx.x % kRowChunks * kChunk;
  const int64_t w_row = (Transposed ? k0 : n0) + row;
  const int64_t w_col = (Transposed ? n0 : k0) + col;
  const int64_t left = w_row < weight.rows ? weight.cols - w_col : 0;  // elements of the row from here on
  decode_chunk<Words>(weight, table, w_row * weight.cols + w_col, left, [&](int i, float value) {
    if constexpr (Transposed) {
      tile[row][col + i] = value;
    } else {
      tile[col + i][row] = value;
    }
  });
}

template <class T, int ConfigIndex, bool Transposed, bool Words>
__global__ void __launch_bounds__(kThreads) gemm_tiled(T* __restrict__ y,        // [m, outputs]
                                                       int64_t ldy,              // elements
                                                       const T* __restrict__ x,  // [m, length]
                                                       int64_t ldx,              // elements
                                                       int64_t m, const __grid_constant__ Weight weight,
                                                       const T* __restrict__ bias)  // [outputs] or null
{
  constexpr int kTileM = kConfigs[ConfigIndex].tile_m;
  constexpr int kPatchM = kTileM / kSide;
  constexpr int kPatchN = kTileN / kSide;
  __shared__ float ws[kTileK][kTileN + kPad];
  __shared__ float xs[kTileK][kTileM + kPad];
  const SharedTable table = SharedTable::make();
  const int tm = threadIdx.x / kSide;
  const int tn = threadIdx.x % kSide;
  const int64_t outputs = Transposed ? weight.cols : weight.rows;
  const int64_t length = Transposed ? weight.rows : weight.cols;
  const int64_t tiles_n = (outputs + kTileN - 1) / kTileN;
  const int64_t tiles = tiles_n * ((m + kTileM - 1) / kTileM);

  for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const int64_t n0 = tile % tiles_n * kTileN;
    const int64_t m0 = tile / tiles_n * kTileM;
    float sum[kPatchM][kPatchN] = {};
    for (int64_t k0 = 0; k0 < length; k0 += kTileK) {
      load_weights<Transposed, Words>(ws, weight, table, n0, k0);
      for (int i = threadIdx.x; i < kTileM * kTileK; i += kThreads) {
        const int row = i / kTileK;
        const int k = i % kTileK;
        const bool inside = m0 + row < m && k0 + k < length;
        xs[k][row] = inside ? to_float(x[(m0 + row) * ldx + k0 + k]) : 0.0f;
      }
      __syncthreads();
      float slice[kPatchM][kPatchN] = {};
#pragma unroll 8
      for (int k = 0; k < kTileK; ++k) {
#pragma unroll
        for (int i = 0; i < kPatchM; ++i) {
#pragma unroll
          for (int j = 0; j < kPatchN; ++j)
            slice[i][j] = fmaf(ws[k][tn + kSide * j], xs[k][tm + kSide * i], slice[i][j]);
        }
      }
#pragma unroll
      for (int i = 0; i < kPatchM; ++i) {
#pragma unroll
        for (int j = 0; j < kPatchN; ++j) sum[i][j] += slice[i][j];
      }
      __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < kPatchM; ++i) {
#pragma unroll
      for (int j = 0; j < kPatchN; ++j) {
        const int64_t row = m0 + tm + kSide * i;
        const int64_t n = n0 + tn + kSide * j;
        if (row < m && n < outputs) {
          y[row * ldy + n] = from_float<T>(bias != nullptr ? sum[i][j] + to_float(bias[n]) : sum[i][j]);
        }
      }
    }
  }
}

template <bool Transposed, class Args>
int launch_tiled(const Args& args, const void* bias, int config, Stream stream) {
  const Weight& weight = args.weight;
  const bool words = weight.cols % kChunk == 0 && reinterpret_cast<uintptr_t>(weight.codes) % 4 == 0;
  const int64_t outputs = Transposed ? weight.cols : weight.rows;
  return with_dtype(args.dtype, [&](auto type) {
    using T = decltype(type);
    return with_config<kConfigs>(config, [&](auto index) {
      constexpr int kIndex = decltype(index)::value;
      const auto kernel = words ? gemm_tiled<T, kIndex, Transposed, true> : gemm_tiled<T, kIndex, Transposed, false>;
      const int64_t tiles = ceil_div(outputs, kTileN) * ceil_div(args.m, kConfigs[kIndex].tile_m);
      return launch(kernel, grid_for(tiles), kThreads, stream, static_cast<T*>(args.y), args.ldy,
                    static_cast<const T*>(args.x), args.ldx, args.m, weight, static_cast<const T*>(bias));
    });
  });
}

int launch_gemm_tiled(const GemmArgs& args, const Device&, int config, Stream stream) {
  return launch_tiled<false>(args, args.bias, config, stream);
}

int launch_gemm_transposed_tiled(const GemmTransposedArgs& args, const Device&, int config, Stream stream) {
  return launch_tiled<true>(args, nullptr, config, stream);
}

template <class Args, int (*Launch)(const Args&, const Device&, int, Stream)>
constexpr Variant variant(const char* name) {
  return {name,
          "shared-memory tiles in fp32 on the CUDA cores, any M",
          "fp32",
          Args::kOp,
          false,
          std::size(kConfigs),
          config_text<kConfigs>,
          always_supported,
          nullptr,
          erased<Args, Launch>};
}

constexpr Variant kVariants[] = {variant<GemmArgs, launch_gemm_tiled>("gemm.tiled")};
constexpr Variant kTransposedVariants[] = {
    variant<GemmTransposedArgs, launch_gemm_transposed_tiled>("gemm_transposed.tiled")};

}  // namespace

std::span<const Variant> gemm_tiled_variants() { return kVariants; }
std::span<const Variant> gemm_transposed_tiled_variants() { return kTransposedVariants; }

}  // namespace nf4
