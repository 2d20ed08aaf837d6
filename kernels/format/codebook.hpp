// The NF4 code: its 16 values, which value a number is coded as, and where a code is stored.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "format/hd.hpp"

namespace nf4 {

// QLoRA, arXiv 2305.14314; the digits of bitsandbytes. Device code reads it at compile-time indices only; table.cuh
// places it in device memory.
inline constexpr float kCodebook[16] = {
    -1.0f,
    -0.6961928009986877f,
    -0.5250730514526367f,
    -0.39491748809814453f,
    -0.28444138169288635f,
    -0.18477343022823334f,
    -0.09105003625154495f,
    0.0f,
    0.07958029955625534f,
    0.16093020141124725f,
    0.24611230194568634f,
    0.33791524171829224f,
    0.44070982933044434f,
    0.5626170039176941f,
    0.7229568362236023f,
    1.0f,
};

inline constexpr uint32_t kZeroCode = 7;  // its value is 0

// kMidpoints[i] lies between codes i and i + 1: the midpoint of their values in fp32. Seven midpoints fall exactly
// between two fp32 numbers; these are the roundings that bitsandbytes' kernels compare against, so that the codes are
// its codes.
inline constexpr float kMidpoints[15] = {
    -0.8480964303f, -0.6106328964f,  -0.4599952698f, -0.3396794200f, -0.2346073985f,
    -0.1379117370f, -0.04552501813f, 0.03979014978f, 0.1202552542f,  0.2035212517f,
    0.2920137644f,  0.3893125355f,   0.5016633868f,  0.6427869201f,  0.8614783883f,
};

template <size_t I>
inline constexpr float kMidpoint = kMidpoints[I];  // an immediate operand in device code, which cannot read the array

template <size_t... I>
NF4_HD uint32_t midpoints_exceeded(float ratio, std::index_sequence<I...>) {
  return (static_cast<uint32_t>(ratio > kMidpoint<I>) + ...);
}

// Codes `ratio` = w / absmax: the number of midpoints that it exceeds, so a tie takes the lower code. NaN, which a
// block whose absmax is 0, Inf or NaN gives, is coded as zero.
NF4_HD uint32_t encode(float ratio) {
  return ratio != ratio ? kZeroCode : midpoints_exceeded(ratio, std::make_index_sequence<15>{});
}

// Element i of packed codes: the high nibble of its byte if i is even.
NF4_HD uint32_t code_at(const uint8_t* codes, int64_t i) { return codes[i >> 1] >> ((i & 1) != 0 ? 0 : 4) & 15u; }

// Element i, 0 to 7, of the 8 codes in a little-endian load of their 4 bytes.
NF4_HD uint32_t code_at(uint32_t word, int i) { return word >> (i * 4 ^ 4) & 15u; }

// The same codes as offsets into a table of 4 bytes a code: byte b holds that of element 2b, or of element 2b + 1.
NF4_HD uint32_t even_offsets(uint32_t word) { return word >> 2 & 0x3c3c3c3cu; }
NF4_HD uint32_t odd_offsets(uint32_t word) { return word << 2 & 0x3c3c3c3cu; }

}  // namespace nf4
