// gemm.fma: the fused product in fp32 on the CUDA cores, for up to 4 rows of x a pass, any K and any alignment.
//
// Codes. A lane takes pieces of 32 weights (16 with more than 2 rows of x): 16 consecutive bytes of codes, at a
// multiple of that in flattened W (row_pieces.hpp), so a warp's load is one run of 512 bytes and a piece has one scale.
//
//     step 0                                        step 1
//     [ lane 0 | lane 1 | ...          | lane 31 ][ lane 0 | ...          of one row: 1024 weights a step
//
// x. The warps of a block are `teams` of `parts`. A warp keeps the x of one step of K in registers, walks with it over
// the rows of its team, and goes on to the step `parts` further on. So x costs nothing per weight: it is read once for
// all rows of the block, in runs of consecutive elements which lanes then transpose among themselves. Where K is no
// multiple of a piece, rows begin inside of pieces; those that do so at the same element are taken together, with x
// shifted alike and zeros before and after it.
//
// Decoding. A table of 256 pairs of fp32 values: an 8-byte look-up gives the two weights of a byte. An entry is
// repeated 16 times; the hardware serves half a warp at a time, each lane from banks of its own. Entries lie 256 bytes
// apart, and the address is one byte permute: [ 0 | 0 | byte of codes | lane % 16 * 8 ].
//
//     entry   [ 16 pairs, 128 bytes | a hole of 128 bytes ]       holes: the map of nested scales, sums of rows
//
// Sums. A lane sums up its 32 products, multiplies the sum by the scale, and the sums of a few rows meet in a butterfly
// of shuffles which halves the number of rows at each level. What a warp found of a row goes to a hole of its own; the
// parts of a row are added up in order when the block has come through its rows, or as many as holes have room for.
//
// Loads. While a row is multiplied the pieces of the next `rows` rows are under way, in the registers that it and those
// before it have left: 4 KiB for each of 16 warps with 8 rows.
#include <algorithm>
#include <bit>
#include <type_traits>

#include "device/launch.cuh"
#include "device/math.hpp"
#include "device/warp.hpp"
#include "dispatch.hpp"
#include "families.hpp"
#include "gemm/fma_layout.hpp"
#include "gemm/row_pieces.hpp"

namespace nf4 {
namespace {

struct Config {
  int rows;  // of W that a warp takes at a time

  std::string text() const { return "rows=" + std::to_string(rows); }
  bool operator==(const Config&) const = default;
};

constexpr Config kConfigs[] = {{8}, {4}, {2}};

// The table of pairs, and the holes in it.
struct Table : FmaTableSizes {
  uint8_t* bytes;

  // A barrier must follow.
  __device__ void fill(const float (&codebook)[16], const Absmax& absmax) const {
    constexpr int kPieces = kUsedBytes / 16;
    const float value = codebook[threadIdx.x % 16];  // one access to parameters; lanes exchange the rest
    for (int i = threadIdx.x; i < kEntries * kPieces; i += blockDim.x) {
      const int e = i / kPieces;
      const float high = __shfl_sync(~0u, value, e >> 4);
      const float low = __shfl_sync(~0u, value, e & 15);
      *reinterpret_cast<float4*>(bytes + e * kEntryBytes + i % kPieces * 16) = make_float4(high, low, high, low);
    }
    if (absmax.dtype == Dtype::u8) {
      for (int i = threadIdx.x; i < kMap; i += blockDim.x) *hole(i) = __ldg(absmax.map + i);
    }
  }

  // The two weights of byte `Byte` of `codes`; `lane8` is 8 * (lane % 16).
  template <int Byte>
  __device__ __forceinline__ float2 look_up(uint32_t codes, uint32_t lane8) const {
    return *reinterpret_cast<const float2*>(bytes + __byte_perm(codes, lane8, 0x5504 | Byte << 4));
  }

  // Float i of the holes.
  __device__ float* hole(uint32_t i) const {
    return reinterpret_cast<float*>(bytes + i / kWarpSize * kEntryBytes + kUsedBytes) + i % kWarpSize;
  }
  __device__ float map(uint32_t code) const { return *hole(code); }
  __device__ float* sum(uint32_t i) const { return hole(kMap + i); }
};

// Whether all pieces of W are complete, at aligned addresses.
template <int Piece>
__host__ __device__ bool whole_pieces(const Weight& weight) {
  return weight.rows * weight.cols % Piece == 0 && reinterpret_cast<uintptr_t>(weight.codes) % (Piece / 2) == 0;
}

// A lane's pieces of rows that are under way, as they are stored: asking for one waits for nothing.
// Plain: all pieces of W are complete and aligned, and absmax is fp32.
template <int Piece, int Rows, bool Plain>
class Ring {
 public:
  // Of a run of rows, `stride` pieces apart, the lane has piece `first` in row 0, if that is `inside` of the row.
  __device__ Ring(const Weight& weight, int64_t first, uint32_t stride, bool inside)
      : weight_(weight),
        dtype_(Plain ? Dtype::f32 : weight.absmax.dtype),
        first_(first),
        stride_(stride),
        inside_(inside) {}

  // Asks for the piece of row `row`, which the lane must have one inside of.
  __device__ void read(int r, uint32_t row) {
    const int64_t piece = piece_of_row(row);
    codes_[r] = Plain || whole_pieces<Piece>(weight_) ? __ldcs(reinterpret_cast<const Codes*>(weight_.codes) + piece)
                                                      : read_bytes(piece);
    const int64_t block = block_of(piece);
    const void* const absmax = weight_.absmax.values;
    if (dtype_ == Dtype::f32) {
      stored_[r] = __ldg(static_cast<const uint32_t*>(absmax) + block);
    } else if (dtype_ == Dtype::u8) {
      stored_[r] = __ldg(static_cast<const uint8_t*>(absmax) + block);
    } else {
      stored_[r] = __ldg(static_cast<const uint16_t*>(absmax) + block);
    }
  }

  __device__ uint32_t word(int r, int i) const { return reinterpret_cast<const uint32_t*>(&codes_[r])[i]; }

  // The second level of a nested scale, which is near: blocks share it.
  __device__ float level2(uint32_t row) const {
    if (!inside_ || dtype_ != Dtype::u8) return 0.0f;
    return __ldg(weight_.absmax.absmax2 + (block_of(piece_of_row(row)) >> weight_.absmax.log2_blocksize));
  }
  __device__ float scale(int r, float level2, float offset, const Table& table) const {
    const uint32_t stored = stored_[r];
    float scale = bits_to_float(stored);
    if (dtype_ != Dtype::f32) {
      const auto half = static_cast<uint16_t>(stored);
      scale = dtype_ == Dtype::u8    ? nested_absmax(table.map(stored), level2, offset)
              : dtype_ == Dtype::f16 ? to_float(f16{half})
                                     : to_float(bf16{half});
    }
    return inside_ ? scale : 0.0f;
  }

 private:
  using Codes = std::conditional_t<Piece == 32, uint4, uint2>;

  __device__ int64_t piece_of_row(uint32_t row) const {
    return first_ + static_cast<int64_t>(uint64_t{row} * stride_);  // one instruction
  }
  __device__ int64_t block_of(int64_t piece) const {
    return piece >> (weight_.log2_blocksize - std::countr_zero(unsigned{Piece}));
  }

  // Any alignment, and the end of W inside of the piece.
  __device__ Codes read_bytes(int64_t piece) const {
    constexpr int kBytes = Piece / 2;
    const uint8_t* const from = weight_.codes + piece * kBytes;
    const int64_t left = (weight_.rows * weight_.cols + 1) / 2 - piece * kBytes;
    Codes codes{};
    auto* const words = reinterpret_cast<uint32_t*>(&codes);
#pragma unroll
    for (int i = 0; i < kBytes; ++i) {
      if (i < left) words[i / 4] |= uint32_t{from[i]} << i % 4 * 8;
    }
    return codes;
  }

  const Weight& weight_;
  const Dtype dtype_;
  const int64_t first_;
  const uint32_t stride_;
  const bool inside_;
  Codes codes_[Rows] = {};
  uint32_t stored_[Rows] = {};  // absmax
};

// Lane l's value i for lane i's value l, within groups of Piece lanes.
template <int Piece>
__device__ void transpose(float (&values)[Piece], int lane) {
#pragma unroll
  for (int distance = Piece / 2; distance > 0; distance /= 2) {
    const bool upper = (lane & distance) != 0;
#pragma unroll
    for (int i = 0; i < Piece; ++i) {
      if ((i & distance) != 0) continue;
      const float kept = upper ? values[i + distance] : values[i];
      const float received = __shfl_xor_sync(~0u, upper ? values[i] : values[i + distance], distance);
      values[i] = upper ? received : kept;
      values[i + distance] = upper ? kept : received;
    }
  }
}

// The warp's sums of Count values, a power of two: lane l gets that of value l / (32 / Count).
template <int Distance = kWarpSize / 2, int Count>
__device__ float sum_over_lanes(const float (&values)[Count], int lane) {
  if constexpr (Distance == 0) {
    return values[0];
  } else if constexpr (Count == 1) {
    const float sum[1] = {values[0] + __shfl_xor_sync(~0u, values[0], Distance)};
    return sum_over_lanes<Distance / 2>(sum, lane);
  } else {
    constexpr int kHalf = Count / 2;
    const bool upper = (lane & Distance) != 0;
    float sums[kHalf];
#pragma unroll
    for (int i = 0; i < kHalf; ++i) {
      const float sent = upper ? values[i] : values[i + kHalf];
      sums[i] = (upper ? values[i + kHalf] : values[i]) + __shfl_xor_sync(~0u, sent, Distance);
    }
    return sum_over_lanes<Distance / 2>(sums, lane);
  }
}

// The lane's Piece elements of each row of x, from element `begin` of the warp's step; zeros outside of [0, cols).
template <class T, int Cols, int Piece>
__device__ void read_x(float (&values)[Cols][Piece], const T* x, int64_t ldx, int m, int cols, int begin, int lane) {
#pragma unroll
  for (int c = 0; c < Cols; ++c) {
#pragma unroll
    for (int i = 0; i < Piece; ++i) {
      const int k = begin + read_element<Piece>(lane, i);
      values[c][i] = c < m && k >= 0 && k < cols ? to_float(x[c * ldx + k]) : 0.0f;
    }
    transpose<Piece>(values[c], lane);
  }
}

template <class T, int Cols, int Rows, bool Plain>
__global__ void __launch_bounds__(kFmaWarps* kWarpSize, 1)
    gemm_fma(T* __restrict__ y,        // [m, weight.rows]
             int64_t ldy,              // elements
             const T* __restrict__ x,  // [m, weight.cols]
             int64_t ldx,              // elements
             int m,                    // 1 to Cols
             const __grid_constant__ Weight weight,
             const T* __restrict__ bias,  // [weight.rows] or null
             const __grid_constant__ FmaPlan plan) {
  constexpr int kPiece = fma_piece(Cols);
  constexpr int kLanes = kWarpSize / (Rows * Cols);  // that get the same sum
  extern __shared__ __align__(16) uint8_t shared[];
  const Table table{{}, shared};
  const int lane = threadIdx.x % kWarpSize;
  const int warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / kWarpSize, 0);  // known to be the warp's
  const int part = warp % plan.parts;
  const int team = warp / plan.parts;
  const uint32_t lane8 = lane % 16 * 8;
  const RowPieces<kPiece> pieces(weight.rows, weight.cols);
  const EqualRuns blocks(weight.rows, gridDim.x);
  const float offset = weight.absmax.dtype == Dtype::u8 ? __ldg(weight.absmax.offset) : 0.0f;
  table.fill(plan.codebook, weight.absmax);
  __syncthreads();

  const int64_t end = blocks.begin(blockIdx.x + 1);
  for (int64_t place = blocks.begin(blockIdx.x); place < end;) {
    const auto run = pieces.at(place);
    const auto rows = static_cast<int>(min(min(run.rows, end - place), int64_t{plan.chunk}));
    for (int step = part; step < plan.steps; step += plan.parts) {
      const int column = step * kWarpSize + lane;
      const bool inside = column < run.columns;
      Ring<kPiece, Rows, Plain> ring(weight, run.piece + column, pieces.stride, inside);
      // Prologue: load codes and scales of the first rows, and x of the step into registers.
      const int stride = plan.teams * Rows;
      int row = team * Rows;
#pragma unroll
      for (int r = 0; r < Rows; ++r) {
        if (inside && row < rows) ring.read(r, min(row + r, rows - 1));
      }
      float xs[Cols][kPiece];
      read_x(xs, x, ldx, m, static_cast<int>(weight.cols), step * kWarpSize * kPiece - run.shift, lane);
      for (; row < rows; row += stride) {
        float sums[Rows * Cols] = {};
#pragma unroll
        for (int r = 0; r < Rows; ++r) {
          // Look up the weights of a row's piece, and multiply (FFMA).
          const float level2 = ring.level2(min(row + r, rows - 1));
#pragma unroll
          for (int k = 0; k < kPiece; k += 8) {
            const uint32_t word = ring.word(r, k / 8);
            const float2 pairs[4] = {table.look_up<0>(word, lane8), table.look_up<1>(word, lane8),
                                     table.look_up<2>(word, lane8), table.look_up<3>(word, lane8)};
#pragma unroll
            for (int i = 0; i < 4; ++i) {
#pragma unroll
              for (int c = 0; c < Cols; ++c) {
                float& sum = sums[r * Cols + c];
                sum = fmaf(pairs[i].x, xs[c][k + 2 * i], sum);
                sum = fmaf(pairs[i].y, xs[c][k + 2 * i + 1], sum);
              }
            }
          }
          // Load the next row into the registers that are free now, and apply the scale.
          const float scale = ring.scale(r, level2, offset, table);
          if (inside && row + stride < rows) ring.read(r, min(row + stride + r, rows - 1));
#pragma unroll
          for (int c = 0; c < Cols; ++c) sums[r * Cols + c] *= scale;
        }
        // Add up over the lanes, and to what the warp found of the row in the steps before.
        const float sum = sum_over_lanes(sums, lane);
        const int found = row + lane / kLanes / Cols;
        if (lane % kLanes == 0 && found < rows) {
          float* const total = table.sum((part * plan.chunk + found) * Cols + lane / kLanes % Cols);
          *total = step == part ? sum : *total + sum;
        }
      }
    }
    // Epilogue: add up the parts of K, bias, rounding.
    __syncthreads();
    for (int i = threadIdx.x; i < rows * m; i += blockDim.x) {
      const int c = i / rows;
      const int r = i % rows;
      const int64_t n = run.row + int64_t{r} * pieces.classes;
      float total = 0.0f;
      for (int p = 0; p < plan.parts; ++p) total += *table.sum((p * plan.chunk + r) * Cols + c);
      y[c * ldy + n] = from_float<T>(bias != nullptr ? total + to_float(bias[n]) : total);
    }
    __syncthreads();
    place += rows;
  }
}

template <class T, int Cols, int Rows>
int launch_pass(const GemmArgs& args, int64_t m0, int m, const Device& device, Stream stream) {
  constexpr int kPiece = fma_piece(Cols);
  const Weight& weight = args.weight;
  const int64_t blocks = std::min<int64_t>(weight.rows, device.multiprocessors);
  const FmaPlan plan = FmaPlan::of(RowPieces<kPiece>(weight.rows, weight.cols).most_columns(),
                                   ceil_div(weight.rows, blocks), Cols, Rows);
  const bool plain = weight.absmax.dtype == Dtype::f32 && whole_pieces<kPiece>(weight);
  const auto run = [&](auto is_plain) {
    constexpr auto kKernel = gemm_fma<T, Cols, Rows, decltype(is_plain)::value>;
    if (const int error = allow_shared_memory<kKernel>(device.ordinal, Table::kBytes); error != cudaSuccess)
      return error;
    return launch(kKernel, Blocks{blocks, plan.parts * plan.teams * kWarpSize, Table::kBytes, 1, false}, stream,
                  static_cast<T*>(args.y) + m0 * args.ldy, args.ldy, static_cast<const T*>(args.x) + m0 * args.ldx,
                  args.ldx, m, weight, static_cast<const T*>(args.bias), plan);
  };
  return plain ? run(std::true_type{}) : run(std::false_type{});
}

// Passes of 4 rows of x, the last one narrower if that will do.
int launch_gemm_fma(const GemmArgs& args, const Device& device, int config, Stream stream) {
  return with_dtype(args.dtype, [&](auto type) {
    return with_config<kConfigs>(config, [&](auto index) {
      using T = decltype(type);
      constexpr int kRows = kConfigs[decltype(index)::value].rows;
      constexpr int kFewRows = std::min(kRows, 4);  // where x takes more registers
      return in_passes(args.m, [&](int64_t m0, int64_t& rows) {
        rows = std::min<int64_t>(rows, kFmaMostCols);
        const auto m = static_cast<int>(rows);
        return m == 1   ? launch_pass<T, 1, kRows>(args, m0, m, device, stream)
               : m == 2 ? launch_pass<T, 2, kFewRows>(args, m0, m, device, stream)
                        : launch_pass<T, 4, kFewRows>(args, m0, m, device, stream);
      });
    });
  });
}

const char* unsupported(const Problem& problem, const Device& device) {
  if (device.shared_memory < Table::kBytes) return "its table takes 64 KiB of shared memory";
  if (problem.n > int64_t{1} << 30 || problem.k > int64_t{1} << 30) return "n and k must be 2^30 at most";
  return nullptr;
}

constexpr Variant kVariants[] = {
    {"gemm.fma", "fp32 on the CUDA cores, two weights a look-up, x in registers, any K and alignment", "fp32", Op::gemm,
     false, std::size(kConfigs), config_text<kConfigs>, unsupported, nullptr, erased<GemmArgs, launch_gemm_fma>},
};

}  // namespace

std::span<const Variant> gemm_fma_variants() { return kVariants; }

}  // namespace nf4
