// gemv.lut_global and gemv.lut_shared: the plain GEMV, with the codebook in global or in shared memory.
//
// One warp per row of W. Where rows allow it each lane takes 32 consecutive weights at a time: one 16-byte load of
// codes, 32 look-ups, 32 fp32 multiply-adds with x, and one multiplication by the absmax of the block that holds
// all 32. Otherwise lanes take single elements. The lanes' sums meet in a butterfly of shuffles, in a fixed order.
//
// One look-up per weight keeps the load/store unit busy long before the memory is (docs/design/kernels/): these two are
// the baseline that the paper compares, not the fast path.
#include "device/chunk.cuh"
#include "device/launch.cuh"
#include "device/math.hpp"
#include "device/table.cuh"
#include "device/warp.hpp"
#include "dispatch.hpp"
#include "families.hpp"
#include "format/codebook.hpp"

namespace nf4 {
namespace {

struct Config {
  int warps;  // per block

  constexpr int threads() const { return warps * kWarpSize; }
  std::string text() const { return "warps=" + std::to_string(warps); }
  bool operator==(const Config&) const = default;
};

constexpr Config kConfigs[] = {{8}, {4}, {16}};

constexpr int kSpan = 32;  // weights per lane and step; divides every blocksize, so a span lies in one block

// Sum over the row's spans that belong to this lane. `begin` is the index of the row's first element in flattened W.
template <class T, class Table>
__device__ float dot_spans(const T* x, const Weight& weight, int64_t begin, const Table& table, int lane) {
  float sum = 0.0f;
  for (int64_t k = lane * kSpan; k < weight.cols; k += kWarpSize * kSpan) {
    const uint4 packed = *reinterpret_cast<const uint4*>(weight.codes + ((begin + k) >> 1));
    const uint32_t words[4] = {packed.x, packed.y, packed.z, packed.w};
    float dot = 0.0f;
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      const Chunk<T> chunk = load_chunk(x + k + w * kChunk);
#pragma unroll
      for (int i = 0; i < kChunk; ++i) dot = fmaf(table[code_at(words[w], i)], to_float(chunk.values[i]), dot);
    }
    sum = fmaf(absmax_at(weight.absmax, (begin + k) >> weight.log2_blocksize), dot, sum);
  }
  return sum;
}

// The same for any K and any alignment, element by element.
template <class T, class Table>
__device__ float dot_elements(const T* x, const Weight& weight, int64_t begin, const Table& table, int lane) {
  float sum = 0.0f;
  for (int64_t k = lane; k < weight.cols; k += kWarpSize) {
    const int64_t i = begin + k;
    const float value = table[code_at(weight.codes, i)] * absmax_at(weight.absmax, i >> weight.log2_blocksize);
    sum = fmaf(value, to_float(x[k]), sum);
  }
  return sum;
}

template <class T, class Table, int ConfigIndex, bool Spans>
__global__ void __launch_bounds__(kConfigs[ConfigIndex].threads())
    gemv_lut(T* __restrict__ y,        // [weight.rows]
             const T* __restrict__ x,  // [weight.cols]
             const __grid_constant__ Weight weight,
             const T* __restrict__ bias)  // [weight.rows] or null
{
  constexpr Config config = kConfigs[ConfigIndex];
  const Table table = Table::make();
  const int lane = threadIdx.x % kWarpSize;
  const int warp = threadIdx.x / kWarpSize;
  for (int64_t row = int64_t{blockIdx.x} * config.warps + warp; row < weight.rows;
       row += int64_t{gridDim.x} * config.warps) {
    const int64_t begin = row * weight.cols;
    float sum = Spans ? dot_spans(x, weight, begin, table, lane) : dot_elements(x, weight, begin, table, lane);
    for (int distance = kWarpSize / 2; distance > 0; distance /= 2) sum += __shfl_xor_sync(~0u, sum, distance);
    if (lane == 0) y[row] = from_float<T>(bias != nullptr ? sum + to_float(bias[row]) : sum);
  }
}

template <class Table>
int launch_gemv_lut(const GemmArgs& args, const Device&, int config, Stream stream) {
  const auto aligned = [](const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; };
  const bool spans = args.weight.cols % kSpan == 0 && aligned(args.weight.codes) && aligned(args.x);
  return with_dtype(args.dtype, [&](auto type) {
    using T = decltype(type);
    return with_config<kConfigs>(config, [&](auto index) {
      constexpr int kIndex = decltype(index)::value;
      const auto kernel = spans ? gemv_lut<T, Table, kIndex, true> : gemv_lut<T, Table, kIndex, false>;
      const unsigned grid = grid_for(ceil_div(args.weight.rows, kConfigs[kIndex].warps));
      return launch(kernel, grid, kConfigs[kIndex].threads(), stream, static_cast<T*>(args.y),
                    static_cast<const T*>(args.x), args.weight, static_cast<const T*>(args.bias));
    });
  });
}

const char* unsupported(const Problem& problem, const Device&) {
  return problem.m == 1 ? nullptr : "gemv variants take one row of x (m = 1)";
}

template <class Table>
constexpr Variant variant(const char* name, const char* description) {
  return {name,
          description,
          "fp32",
          Op::gemm,
          false,
          std::size(kConfigs),
          config_text<kConfigs>,
          unsupported,
          nullptr,
          erased<GemmArgs, launch_gemv_lut<Table>>};
}

constexpr Variant kVariants[] = {
    variant<SharedTable>("gemv.lut_shared", "a warp per row, codebook in 64 bytes of shared memory (arXiv 2604.02556)"),
    variant<GlobalTable>("gemv.lut_global", "a warp per row, codebook in global memory: the baseline"),
};

}  // namespace

std::span<const Variant> gemv_lut_variants() { return kVariants; }

}  // namespace nf4
