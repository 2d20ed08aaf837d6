// What tells the launches apart that count in a workspace.
#pragma once

#include <atomic>
#include <cstdint>
#include <random>

namespace nf4 {

// A number that no other launch has, of 48 bits: counted from a random one on, since what the workspace holds before is
// not known, nor who wrote it. Its first byte makes it greater than floats are, for count_part.hpp.
inline uint64_t launch_number() {
  static std::atomic<uint64_t> next = [] {
    std::random_device random;
    return uint64_t{random()} << 32 | random();
  }();
  return next.fetch_add(1, std::memory_order_relaxed) << 24 >> 24 | uint64_t{0xff} << 40;
}

}  // namespace nf4
