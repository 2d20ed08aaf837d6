// A block of 64 columns of 32 rows of W, decoded by the pair table and multiplied on the tensor cores, as warps do it
// whose stages lie in shared memory with codes in rows of 128 bytes, swizzled, and scales in the holes of the table.
#pragma once

#include <cstdint>

#include "device/ptx.cuh"
#include "dispatch.hpp"
#include "format/number.hpp"
#include "gemm/pair_fragment.cuh"
#include "gemm/pair_sizes.hpp"
#include "gemm/pair_table.cuh"

namespace nf4 {

// The sums of a lane: of rows 16 tile + operand_row(g) in [tile][c][0] and [1], of the rows 8 further in [2] and [3],
// by columns 8 c + 2 t and the next one.
template <int ColTiles>
using PairSums = float[2][ColTiles][4];

// Of a lane, in a stage: its codes of block 0 of the warp's rows, which begin at `warp_row`. The next blocks are 2
// pieces further on, before pieces are exchanged.
__device__ __forceinline__ int pair_codes_offset(int warp_row, int lane) {
  const int t = lane % 4, row = operand_row(lane / 4);
  return (warp_row + row) * kPairBoxBytes + (t / 2 ^ row) * 16 + t % 2 * 8;
}

// The codes and scales of a block, of a lane: of rows 16 tile + operand_row(g), and of those 8 further on.
struct PairOperand {
  uint2 codes[2][2];
  float scales[2][2];
};

// Loads them: `codes` and `scales` are addresses of the lane's codes and of row operand_row(g)'s scale; the scales of
// the rows 8 further on are in the next holes.
__device__ __forceinline__ PairOperand load_pair_operand(uint32_t codes, uint32_t scales) {
  PairOperand w;
#pragma unroll
  for (int eighth = 0; eighth < 4; ++eighth) {
    w.codes[eighth / 2][eighth % 2] = load_shared_pair(codes + eighth * 8 * kPairBoxBytes);
    w.scales[eighth / 2][eighth % 2] = bits_to_float(load_shared(scales + eighth * PairTable::kEntryBytes));
  }
  return w;
}

template <int Byte, class Table>
__device__ __forceinline__ void look_up_operand(const Table& table, uint32_t upper, uint32_t lower, uint32_t (&a)[4]) {
  a[0] = table.template look_up<Byte>(upper);
  a[1] = table.template look_up<Byte>(lower);
  a[2] = table.template look_up<Byte + 1>(upper);
  a[3] = table.template look_up<Byte + 1>(lower);
}

// Adds the products of a block to `sums`. load_b(c, half) loads elements 16 t + 8 half to 16 t + 8 half + 7 of row 8 c
// + g of x, operand B.
template <class T, class Table, int ColTiles, class LoadB>
__device__ __forceinline__ void multiply_pair_block(const Table& table, const PairOperand& w, const LoadB& load_b,
                                                    PairSums<ColTiles>& sums) {
  float dots[2][ColTiles][4] = {};
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    // Load operand B, look up operand A in the pair table, and multiply (mma).
    uint4 b[ColTiles];
#pragma unroll
    for (int c = 0; c < ColTiles; ++c) b[c] = load_b(c, half);
    const auto step = [&](auto byte) {
      constexpr int kByte = decltype(byte)::value;
      uint32_t a[2][4];
#pragma unroll
      for (int tile = 0; tile < 2; ++tile) {
        const uint2 upper = w.codes[tile][0], lower = w.codes[tile][1];
        look_up_operand<kByte>(table, half ? upper.y : upper.x, half ? lower.y : lower.x, a[tile]);
      }
#pragma unroll
      for (int c = 0; c < ColTiles; ++c) {
        const uint32_t b0 = kByte == 0 ? b[c].x : b[c].z;
        const uint32_t b1 = kByte == 0 ? b[c].y : b[c].w;
#pragma unroll
        for (int tile = 0; tile < 2; ++tile) mma<T>(dots[tile][c], a[tile], b0, b1);
      }
    };
    step(Constant<0>{});
    step(Constant<2>{});
  }
  // Apply the scale of the block to its products.
#pragma unroll
  for (int tile = 0; tile < 2; ++tile) {
#pragma unroll
    for (int c = 0; c < ColTiles; ++c) {
#pragma unroll
      for (int e = 0; e < 4; ++e) sums[tile][c][e] = fmaf(dots[tile][c][e], w.scales[tile][e / 2], sums[tile][c][e]);
    }
  }
}

}  // namespace nf4
