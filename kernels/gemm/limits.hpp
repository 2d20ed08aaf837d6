// What products on the tensor cores cannot take, whatever the device. Each returns null, or the reason as a user should
// read it.
#pragma once

#include "gemm/pair_sizes.hpp"
#include "problem.hpp"

namespace nf4 {

inline const char* tensor_core_unsupported(const Problem& problem) {
  if (problem.dtype == Dtype::f32) return "the tensor cores take 16-bit values, for f16 and bf16 activations";
  if (problem.k == 0 || problem.k % kPairBlock != 0) return "k must be a multiple of 64, and not 0";
  if (problem.alignment < 16) return "x, its rows and the codes must be aligned to 16 bytes";
  if (problem.n > int64_t{1} << 30 || problem.k > int64_t{1} << 30) return "n and k must be 2^30 at most";
  return nullptr;
}

// The same where scales come in fours (pair_scales.cuh).
inline const char* pair_scales_unsupported(const Problem& problem) {
  if (const char* reason = tensor_core_unsupported(problem); reason != nullptr) return reason;
  if (problem.blocksize < kPairBlock) return "blocksize must be 64 or more";
  if (problem.n * problem.k > int64_t{1} << 36) return "W must have 2^36 weights at most, to count blocks in 32 bits";
  return nullptr;
}

}  // namespace nf4
