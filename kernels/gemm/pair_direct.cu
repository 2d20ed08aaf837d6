// gemm.pair_direct: the fused product on the tensor cores by the means of compute capability 7.5: no cp.async, no
// barriers in shared memory, mma.m16n8k8. Codes, scales and x go from memory straight into the registers of the lanes
// that need them, and codes are decoded by the pair table.
//
// Product. As in pair_multistage.cuh: W is the A operand in its native layout, so that lane (g, t) needs 16 weights,
// 8 bytes, of rows g and g + 8 of a block of 64 columns; x is B with K permuted alike, so that the lane needs elements
// 16t to 16t + 15 of row g of x, 32 bytes. A block's products meet in fresh accumulators that its absmax multiplies in
// fp32.
//
// Work. A CTA has 16 or 32 rows of W, and its warps take blocks of them in turn: each row is read in pieces of 512
// bytes. A warp loads a block's codes and scales while it multiplies the block before; the other warps hide the rest.
// x is read again for each CTA, from L1 or L2. In the end the warps' sums meet in the place of the table, and are added
// in the order of the warps.
#include <algorithm>
#include <cstdint>
#include <iterator>
#include <string>
#include <type_traits>

#include "device/launch.cuh"
#include "device/math.hpp"
#include "device/ptx.cuh"
#include "device/warp.hpp"
#include "dispatch.hpp"
#include "families.hpp"
#include "format/absmax.hpp"
#include "format/number.hpp"
#include "gemm/limits.hpp"
#include "gemm/pair_codebook.hpp"
#include "gemm/pair_scales.cuh"
#include "gemm/pair_table.cuh"

namespace nf4 {
namespace {

struct Config {
  int rows;  // of W, for a CTA

  std::string text() const { return "rows=" + std::to_string(rows); }
};

constexpr Config kConfigs[] = {{32}, {16}};

template <int RowTiles, int ColTiles>
struct Shape {
  static constexpr int kRows = 16 * RowTiles;            // of W
  static constexpr int kCols = 8 * ColTiles;             // of x
  static constexpr int kSums = kRows * kCols;            // of a warp
  static constexpr int kWarps = ColTiles > 2 ? 12 : 16;  // of up to 168 and 128 registers a lane
  static constexpr int kThreads = kWarps * kWarpSize;
  static_assert(kWarps * kSums * static_cast<int>(sizeof(float)) <= PairTable::kBytes);
};

// What a lane reads of a block of W: of rows g and g + 8 of each tile of 16.
template <int RowTiles>
struct DirectBlock {
  uint2 codes[RowTiles][2];
  float scales[RowTiles][2];
};

// Reads blocks of the rows of W from `row` on; past the last row, it again.
template <int RowTiles>
class DirectRows {
 public:
  __device__ DirectRows(const Weight& weight, int64_t row, int g, int t)
      : weight_(weight), blocks_(static_cast<int>(weight.cols / kPairBlock)) {
#pragma unroll
    for (int i = 0; i < 2 * RowTiles; ++i)
      first_[i] = static_cast<int>(min(row + g + i * 8, weight.rows - 1)) * blocks_;
    codes_ = weight.codes + t * static_cast<int>(sizeof(uint2));
  }

  __device__ int blocks() const { return blocks_; }
  __device__ void read(int block, DirectBlock<RowTiles>& to) const {
#pragma unroll
    for (int i = 0; i < 2 * RowTiles; ++i) {
      const int at = first_[i] + block;
      to.codes[i / 2][i % 2] = __ldg(reinterpret_cast<const uint2*>(codes_ + int64_t{at} * kPairBlockBytes));
      to.scales[i / 2][i % 2] = absmax_at(weight_.absmax, scale_of(weight_, at));
    }
  }

 private:
  const Weight& weight_;
  const uint8_t* codes_;  // of the lane, in the first block
  int blocks_;            // of a row
  int first_[2 * RowTiles];
};

// mma() for T. Compute capability 7.5 has no bf16, and takes half of K an instruction (PTX ISA, mma.m16n8k8).
template <class T>
__device__ __forceinline__ void direct_mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  if constexpr (kCompiledArchitecture >= 80) {
    mma<T>(c, a, b0, b1);
  } else {
    const uint32_t b[2] = {b0, b1};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},{%4,%5},{%6},{%0,%1,%2,%3};"
                   : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                   : "r"(a[2 * half]), "r"(a[2 * half + 1]), "r"(b[half]));
    }
  }
}

// Multiplies a block by the lane's x of that block, rows of which lie at x[c].
template <class T, int RowTiles, int ColTiles>
__device__ __forceinline__ void direct_multiply(const uint8_t* table, uint32_t lane4, const DirectBlock<RowTiles>& w,
                                                const T* const (&x)[ColTiles], int column,
                                                float (&sums)[RowTiles][ColTiles][4]) {
  uint32_t a[RowTiles][4][4];
#pragma unroll
  for (int tile = 0; tile < RowTiles; ++tile) {
    const auto decode = [&](auto byte, uint32_t upper, uint32_t lower, uint32_t(&to)[4]) {
      constexpr int kByte = decltype(byte)::value;
      to[0] = PairTable::look_up<kByte>(table, upper, lane4);
      to[1] = PairTable::look_up<kByte>(table, lower, lane4);
      to[2] = PairTable::look_up<kByte + 1>(table, upper, lane4);
      to[3] = PairTable::look_up<kByte + 1>(table, lower, lane4);
    };
    const uint2 upper = w.codes[tile][0], lower = w.codes[tile][1];
    decode(Constant<0>{}, upper.x, lower.x, a[tile][0]);
    decode(Constant<2>{}, upper.x, lower.x, a[tile][1]);
    decode(Constant<0>{}, upper.y, lower.y, a[tile][2]);
    decode(Constant<2>{}, upper.y, lower.y, a[tile][3]);
  }
#pragma unroll
  for (int c = 0; c < ColTiles; ++c) {
    const auto* const quads = reinterpret_cast<const uint4*>(x[c] + column);
    const uint4 low = __ldg(quads), high = __ldg(quads + 1);
    const uint32_t b[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
    for (int tile = 0; tile < RowTiles; ++tile) {
      float dots[4] = {};
#pragma unroll
      for (int step = 0; step < 4; ++step) direct_mma<T>(dots, a[tile][step], b[2 * step], b[2 * step + 1]);
#pragma unroll
      for (int e = 0; e < 4; ++e) sums[tile][c][e] = fmaf(dots[e], w.scales[tile][e / 2], sums[tile][c][e]);
    }
  }
}

template <class T, int RowTiles, int ColTiles>
__global__ void __launch_bounds__(Shape<RowTiles, ColTiles>::kThreads, 1)
    gemm_pair_direct(T* __restrict__ y,  // [m, weight.rows]
                     int64_t ldy,        // elements
                     const T* __restrict__ x, int64_t ldx, int m, const __grid_constant__ Weight weight,
                     const T* __restrict__ bias,  // [weight.rows] or null
                     const __grid_constant__ PairCodebook codebook) {
  constexpr bool kHasType = kCompiledArchitecture >= (std::is_same_v<T, f16> ? 75 : 80);
  if constexpr (kHasType) {
    using Size = Shape<RowTiles, ColTiles>;
    extern __shared__ __align__(1024) uint8_t shared[];
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize, warp = static_cast<int>(threadIdx.x) / kWarpSize;
    const int g = lane / 4, t = lane % 4;
    const int64_t row = int64_t{blockIdx.x} * Size::kRows;
    const DirectRows<RowTiles> rows(weight, row, g, t);
    const T* own_x[ColTiles];
#pragma unroll
    for (int c = 0; c < ColTiles; ++c) own_x[c] = x + min(c * 8 + g, m - 1) * ldx + t * 16;

    DirectBlock<RowTiles> next;
    if (warp < rows.blocks()) rows.read(warp, next);
    PairTable::fill(shared, codebook, Size::kWarps);
    __syncthreads();
    float sums[RowTiles][ColTiles][4] = {};
    for (int block = warp; block < rows.blocks(); block += Size::kWarps) {
      const DirectBlock<RowTiles> w = next;
      if (block + Size::kWarps < rows.blocks()) rows.read(block + Size::kWarps, next);
      direct_multiply<T>(shared, static_cast<uint32_t>(lane * 4), w, own_x, block * kPairBlock, sums);
    }

    // The sum of lane l that element e of its accumulator of (tile, c) holds is number ((tile, c), e, l) of its warp's.
    __syncthreads();
    auto* const all = reinterpret_cast<float*>(shared);
#pragma unroll
    for (int tile = 0; tile < RowTiles; ++tile) {
#pragma unroll
      for (int c = 0; c < ColTiles; ++c) {
#pragma unroll
        for (int e = 0; e < 4; ++e)
          all[warp * Size::kSums + ((tile * ColTiles + c) * 4 + e) * kWarpSize + lane] = sums[tile][c][e];
      }
    }
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < Size::kSums; i += Size::kThreads) {
      const int r = i % Size::kRows, col = i / Size::kRows;
      const int fragment = r / 16 * ColTiles + col / 8, e = r / 8 % 2 * 2 + col % 2;
      const int number = (fragment * 4 + e) * kWarpSize + r % 8 * 4 + col % 8 / 2;
      float sum = 0.0f;
#pragma unroll
      for (int of = 0; of < Size::kWarps; ++of) sum += all[of * Size::kSums + number];
      if (row + r >= weight.rows || col >= m) continue;
      // Rounded before the bias is added, see kCodebookInverse.
      float total = __fmul_rn(sum, kCodebookInverse<T>);
      if (bias != nullptr) total += to_float(bias[row + r]);
      y[col * ldy + row + r] = from_float<T>(total);
    }
  }
}

template <class T, int RowTiles, int ColTiles>
int launch_pass(const GemmArgs& args, int64_t m0, int m, const Device& device, Stream stream) {
  using Size = Shape<RowTiles, ColTiles>;
  constexpr auto kKernel = gemm_pair_direct<T, RowTiles, ColTiles>;
  if (const int error = allow_shared_memory<kKernel>(device.ordinal, PairTable::kBytes); error != cudaSuccess)
    return error;
  const Blocks blocks{ceil_div(args.weight.rows, Size::kRows), Size::kThreads, PairTable::kBytes, 1, false};
  return nf4::launch(kKernel, blocks, stream, static_cast<T*>(args.y) + m0 * args.ldy, args.ldy,
                     static_cast<const T*>(args.x) + m0 * args.ldx, args.ldx, m, args.weight,
                     static_cast<const T*>(args.bias), pair_codebook<T>());
}

int launch_gemm_pair_direct(const GemmArgs& args, const Device& device, int config, Stream stream) {
  return in_passes(args.m, [&](int64_t m0, int64_t& rows) {
    const auto pass = [&](auto col_tiles) {
      constexpr int kColTiles = decltype(col_tiles)::value;
      rows = std::min<int64_t>(rows, 8 * kColTiles);
      return with_16bit(args.dtype, [&](auto type) {
        return with_config<kConfigs>(config, [&](auto index) {
          return launch_pass<decltype(type), kConfigs[decltype(index)::value].rows / 16, kColTiles>(
              args, m0, static_cast<int>(rows), device, stream);
        });
      });
    };
    return rows > 16 ? pass(Constant<4>{}) : rows > 8 ? pass(Constant<2>{}) : pass(Constant<1>{});
  });
}

const char* unsupported(const Problem& problem, const Device& device) {
  if (device.architecture < 75) return "it needs code for compute capability 7.5 or newer, on such a device";
  if (device.architecture < 80 && problem.dtype == Dtype::bf16)
    return "the tensor cores of compute capability 7.5 take f16 and not bf16";
  if (const char* reason = pair_scales_unsupported(problem); reason != nullptr) return reason;
  if (device.shared_memory < PairTable::kBytes) return "shared memory must hold the pair table";
  return nullptr;
}

constexpr Variant kVariants[] = {
    {"gemm.pair_direct", "pair table and tensor cores, codes and x straight into registers", "codebook16", Op::gemm,
     false, static_cast<int>(std::size(kConfigs)), config_text<kConfigs>, unsupported, nullptr,
     erased<GemmArgs, launch_gemm_pair_direct>},
};

}  // namespace

std::span<const Variant> gemm_pair_direct_variants() { return kVariants; }

}  // namespace nf4
