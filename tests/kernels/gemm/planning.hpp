// The products and Hopper GPUs that tests of plans are about.
#pragma once

#include <array>
#include <cstdint>

#include "problem.hpp"

namespace nf4test {

inline nf4::Problem product(int64_t m, int64_t n, int64_t k, int blocksize = 64) {
  return {nf4::Op::gemm, nf4::Dtype::bf16, m, n, k, blocksize, nf4::Dtype::f32, 16, false};
}

// One that runs so many clusters of 1, 2, 4 and 8 at once.
inline nf4::Device device_of(const std::array<int, 4>& clusters) {
  nf4::Device device{0, 90, clusters[0], "device"};
  device.architecture = 90;
  device.shared_memory = 227 << 10;
  device.resident_clusters = clusters;
  return device;
}

}  // namespace nf4test
