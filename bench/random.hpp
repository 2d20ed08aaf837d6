// Random data by index: the same on host and device, without state.
#pragma once

#include <cstdint>

#include "oracle.hpp"

namespace nf4bench {

// Mixes the bits of an index (the finalizer of MurmurHash3).
NF4REF_FN uint32_t random_bits(uint64_t i, uint64_t seed) {
  uint64_t x = i + seed * 0x9e3779b97f4a7c15ull;
  x = (x ^ x >> 33) * 0xff51afd7ed558ccdull;
  x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53ull;
  return static_cast<uint32_t>(x ^ x >> 33);
}

// Uniform in [low, high).
NF4REF_FN float random_uniform(uint64_t i, uint64_t seed, float low, float high) {
  return low + (high - low) * (static_cast<float>(random_bits(i, seed) >> 8) * 0x1p-24f);
}

}  // namespace nf4bench
