// Weights as unpacking gives them, nearly: a pair of codebook values from a table in f16, multiplied by the scale of
// their block in fp32, and rounded once.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "format/number.hpp"

namespace nf4 {

// Two codebook values in f16, each scaled and rounded to T.
template <class T>
__device__ __forceinline__ uint32_t scale_pair(uint32_t pair, float low, float high);
template <>
__device__ __forceinline__ uint32_t scale_pair<bf16>(uint32_t pair, float low, float high) {
  const float2 values = __half22float2(reinterpret_cast<const __half2&>(pair));
  const __nv_bfloat162 scaled = __floats2bfloat162_rn(values.x * low, values.y * high);
  return reinterpret_cast<const uint32_t&>(scaled);
}
template <>
__device__ __forceinline__ uint32_t scale_pair<f16>(uint32_t pair, float low, float high) {
  const float2 values = __half22float2(reinterpret_cast<const __half2&>(pair));
  const __half2 scaled = __floats2half2_rn(values.x * low, values.y * high);
  return reinterpret_cast<const uint32_t&>(scaled);
}
// Of one block.
template <class T>
__device__ __forceinline__ uint32_t scale_pair(uint32_t pair, float scale) {
  return scale_pair<T>(pair, scale, scale);
}

}  // namespace nf4
