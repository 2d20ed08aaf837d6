// Tensor maps (TMA) of a product's operands.
#pragma once

#include <cstdint>
#include <span>

#include "device/math.hpp"
#include "device/tensor_map.cuh"
#include "problem.hpp"

namespace nf4 {

// Describes the codes of each product's W, to be copied in boxes of `box_rows` rows by `box_bytes`.
inline int encode_codes_maps(std::span<CUtensorMap> maps, std::span<const GemmArgs> group, int box_rows,
                             int box_bytes) {
  for (size_t i = 0; i < group.size(); ++i) {
    const Weight& weight = group[i].weight;
    const int error = encode_tensor_map(&maps[i], CU_TENSOR_MAP_DATA_TYPE_UINT8, weight.codes, weight.rows,
                                        weight.cols / 2, weight.cols / 2, box_rows, box_bytes);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

// Describes rows m0 to m0 + m of the product's x, of 16-bit type, to be copied in boxes of `box_rows` rows.
template <class Args>
int encode_x_map(CUtensorMap* map, const Args& args, int64_t m0, int64_t m, int box_rows, int box_columns) {
  constexpr int64_t kElementBytes = 2, kPitch = 16;  // what a pitch is a multiple of
  // The only row of an x may be followed by any distance.
  const int64_t pitch =
      args.m > 1 ? args.ldx * kElementBytes : ceil_div(args.x_cols() * kElementBytes, kPitch) * kPitch;
  return encode_tensor_map(map, CU_TENSOR_MAP_DATA_TYPE_UINT16, static_cast<const uint8_t*>(args.x) + m0 * pitch, m,
                           args.x_cols(), pitch, box_rows, box_columns);
}

}  // namespace nf4
