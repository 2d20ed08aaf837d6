// The 16-bit floating-point types of the API, and their conversions to and from fp32 on host and device.
#pragma once

#include <bit>
#include <cstdint>

#include "format/hd.hpp"

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace nf4 {

// IEEE binary16 and bfloat16 as stored. Every NaN converts to the NaN 0x7fff, on the host as on the device.
struct f16 {
  uint16_t bits;
};
struct bf16 {
  uint16_t bits;
};

NF4_HD float bits_to_float(uint32_t bits) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(bits);
#else
  return std::bit_cast<float>(bits);
#endif
}

NF4_HD uint32_t float_to_bits(float value) {
#if defined(__CUDA_ARCH__)
  return __float_as_uint(value);
#else
  return std::bit_cast<uint32_t>(value);
#endif
}

NF4_HD float to_float(float value) { return value; }

NF4_HD float to_float(bf16 value) { return bits_to_float(static_cast<uint32_t>(value.bits) << 16); }

NF4_HD float to_float(f16 value) {
#if defined(__CUDA_ARCH__)
  return __half2float(__ushort_as_half(value.bits));
#else
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000u) << 16;
  const uint32_t magnitude = value.bits & 0x7fffu;
  if (magnitude >= 0x7c00u) return bits_to_float(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);  // Inf, NaN
  // The fp32 with the same exponent field is 2^(127 - 15) too small; multiplying is exact, for subnormals too.
  return bits_to_float(sign | magnitude << 13) * bits_to_float((127u + 112u) << 23);
#endif
}

// Rounds fp32 to T, to nearest, ties to even.
template <class T>
NF4_HD T from_float(float value);

template <>
NF4_HD float from_float<float>(float value) {
  return value;
}

template <>
NF4_HD bf16 from_float<bf16>(float value) {
#if defined(__CUDA_ARCH__)
  return {__bfloat16_as_ushort(__float2bfloat16_rn(value))};
#else
  const uint32_t bits = float_to_bits(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {0x7fff};
  return {static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16)};
#endif
}

template <>
NF4_HD f16 from_float<f16>(float value) {
#if defined(__CUDA_ARCH__)
  return {__half_as_ushort(__float2half_rn(value))};
#else
  const uint32_t bits = float_to_bits(value);
  const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {0x7fff};
  if (magnitude >= 0x477ff000u) return {static_cast<uint16_t>(sign | 0x7c00u)};  // from 65520 up rounds to Inf
  if (magnitude < 0x38800000u) {
    // Below 2^-14 the result is a multiple of 2^-24: adding 0.5, whose ulp is 2^-24, rounds to it.
    const uint32_t rounded = float_to_bits(bits_to_float(magnitude) + 0.5f) - float_to_bits(0.5f);
    return {static_cast<uint16_t>(sign | rounded)};
  }
  const uint32_t rounded = magnitude - (112u << 23) + 0xfffu + (magnitude >> 13 & 1u);
  return {static_cast<uint16_t>(sign | rounded >> 13)};
#endif
}

}  // namespace nf4
