#include <algorithm>

#include "dispatch.hpp"
#include "format/codebook.hpp"
#include "host.hpp"
#include "parallel.hpp"

namespace nf4 {
namespace {

// Row `row` of W in fp64, where codebook * absmax is exact.
void decode_row(const Weight& weight, int64_t row, double* out) {
  for (int64_t col = 0; col < weight.cols; ++col) {
    const int64_t i = row * weight.cols + col;
    out[col] = static_cast<double>(kCodebook[code_at(weight.codes, i)]) *
               static_cast<double>(absmax_at(weight.absmax, i >> weight.log2_blocksize));
  }
}

// Eight sums side by side, added in a fixed order.
double dot(const double* w, const double* x, int64_t size) {
  constexpr int kLanes = 8;
  double lanes[kLanes] = {};
  int64_t k = 0;
  for (; k + kLanes <= size; k += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += w[k + lane] * x[k + lane];
  }
  for (; k < size; ++k) lanes[k % kLanes] += w[k] * x[k];
  double sum = 0.0;
  for (const double lane : lanes) sum += lane;
  return sum;
}

// Ranges of rows of W, at most one per thread.
int64_t ranges_of(const GemmArgs& args, const Device& device) {
  return std::max<int64_t>(1, std::min<int64_t>(device.multiprocessors, args.weight.rows));
}

}  // namespace

// x in fp64, and one row of W for every range of rows.
int64_t host_gemm_scratch(const GemmArgs& args, const Device& device) {
  return (args.m + ranges_of(args, device)) * args.weight.cols;
}

int host_gemm(const GemmArgs& args, const Device& device, int, Stream) {
  const Weight& weight = args.weight;
  with_dtype(args.dtype, [&](auto type) {
    using T = decltype(type);
    const T* x = static_cast<const T*>(args.x);
    const T* bias = static_cast<const T*>(args.bias);
    T* y = static_cast<T*>(args.y);
    const int64_t rows = weight.rows;
    const int64_t cols = weight.cols;
    double* const wide_x = static_cast<double*>(args.workspace);
    for (int64_t m = 0; m < args.m; ++m) {
      for (int64_t k = 0; k < cols; ++k) wide_x[m * cols + k] = static_cast<double>(to_float(x[m * args.ldx + k]));
    }
    const int64_t ranges = ranges_of(args, device);
    double* const wide_w = wide_x + args.m * cols;
    parallel_for(
        static_cast<int>(ranges), ranges, rows / ranges * cols * (args.m + 2), [&](int64_t first, int64_t last) {
          for (int64_t range = first; range < last; ++range) {
            double* w = wide_w + range * cols;
            for (int64_t n = rows * range / ranges; n < rows * (range + 1) / ranges; ++n) {
              decode_row(weight, n, w);
              for (int64_t m = 0; m < args.m; ++m) {
                const double sum =
                    dot(w, wide_x + m * cols, cols) + (bias != nullptr ? static_cast<double>(to_float(bias[n])) : 0.0);
                y[m * args.ldy + n] = from_float<T>(static_cast<float>(sum));
              }
            }
          }
        });
  });
  return 0;
}

}  // namespace nf4
