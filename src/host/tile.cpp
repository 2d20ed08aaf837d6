#include "tile.hpp"

#include <algorithm>

namespace nf4 {
namespace {

// All sums are variables of their own once the loops over rows and lanes are unrolled, and neighbouring lanes become
// vectors. CMakeLists.txt keeps GCC from vectorizing over k, which would take the sums apart again.
[[gnu::always_inline]] inline void multiply(const double* w, int64_t ldw, const double* x, int64_t size, double* sums,
                                            int64_t lds) {
  double sum[kTileRows][kTileLanes];
#pragma GCC unroll 6
  for (int r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 8
    for (int lane = 0; lane < kTileLanes; ++lane) sum[r][lane] = sums[r * lds + lane];
  }
  for (int64_t k = 0; k < size; ++k) {
#pragma GCC unroll 6
    for (int r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 8
      for (int lane = 0; lane < kTileLanes; ++lane) sum[r][lane] += w[r * ldw + k] * x[k * kTileLanes + lane];
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 8
    for (int lane = 0; lane < kTileLanes; ++lane) sums[r * lds + lane] = sum[r][lane];
  }
}

void multiply_any(const double* w, int64_t ldw, const double* x, int64_t size, double* sums, int64_t lds) {
  multiply(w, ldw, x, size, sums, lds);
}

#if defined(__x86_64__)
[[gnu::target("avx2,fma")]] void multiply_avx2(const double* w, int64_t ldw, const double* x, int64_t size,
                                               double* sums, int64_t lds) {
  multiply(w, ldw, x, size, sums, lds);
}

[[gnu::target("avx512f")]] void multiply_avx512(const double* w, int64_t ldw, const double* x, int64_t size,
                                                double* sums, int64_t lds) {
  multiply(w, ldw, x, size, sums, lds);
}
#endif

}  // namespace

std::span<const TileVersion> tile_versions() {
  static const TileVersion versions[] = {
#if defined(__x86_64__)
    {"avx512f", __builtin_cpu_supports("avx512f") != 0, multiply_avx512},
    {"avx2, fma", __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0, multiply_avx2},
#endif
    {"any", true, multiply_any},
  };
  return versions;
}

MultiplyTile multiply_tile() {
  const auto versions = tile_versions();
  return std::find_if(versions.begin(), versions.end(), [](const TileVersion& v) { return v.supported; })->multiply;
}

}  // namespace nf4
