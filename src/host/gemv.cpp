#include "gemv.hpp"

#include <algorithm>

#include "decode.hpp"
#include "dispatch.hpp"
#include "parallel.hpp"

namespace nf4 {
namespace {

constexpr int64_t kPiece = 32;  // columns at a time: no block is smaller, so each row has one scale for them
constexpr int64_t kRows = 8;    // of W at a time: the additions to one sum wait for each other, those to eight do not

// sums [kRows] = x times rows n to n + kRows of W, of which those from `last` on repeat row last - 1. The two weights
// of a byte have sums of their own, which makes a vector of them.
void multiply_rows(const Weight& weight, int64_t n, int64_t last, const double* x, double* sums) {
  int64_t begins[kRows];
  const uint8_t* codes[kRows];
  for (int64_t r = 0; r < kRows; ++r) {
    begins[r] = std::min(n + r, last - 1) * weight.cols;
    codes[r] = weight.codes + begins[r] / 2;
  }
  double scaled[kRows][2] = {};
  for (int64_t k = 0; k < weight.cols; k += kPiece) {
    double piece[kRows][2] = {};
#pragma GCC unroll 1
    for (int64_t i = k; i < k + kPiece; i += 2 * kWord) {
      uint64_t words[kRows];
#pragma GCC unroll 8
      for (int64_t r = 0; r < kRows; ++r) words[r] = word_of(codes[r] + i / 2);
#pragma GCC unroll 8
      for (int64_t byte = 0; byte < kWord; ++byte) {
#pragma GCC unroll 8
        for (int64_t r = 0; r < kRows; ++r) {
          const Pair<double>& pair = kPairs<double>[words[r] >> 8 * byte & 255];
          piece[r][0] += pair.high * x[i + 2 * byte];
          piece[r][1] += pair.low * x[i + 2 * byte + 1];
        }
      }
    }
#pragma GCC unroll 8
    for (int64_t r = 0; r < kRows; ++r) {
      const double scale{absmax_at(weight.absmax, (begins[r] + k) >> weight.log2_blocksize)};
      scaled[r][0] += piece[r][0] * scale;
      scaled[r][1] += piece[r][1] * scale;
    }
  }
  for (int64_t r = 0; r < kRows; ++r) sums[r] = scaled[r][0] + scaled[r][1];
}

}  // namespace

bool host_gemv_supports(const HostProduct& product) {
  return !product.transposed && product.m == 1 && product.weight.cols % kPiece == 0;
}

// x in fp64.
int64_t host_gemv_scratch(const HostProduct& product) { return product.weight.cols; }

void host_gemv(const HostProduct& product, const Device& device, double* scratch) {
  const Weight& weight = product.weight;
  double* const x = scratch;
  with_dtype(product.dtype, [&](auto type) {
    using T = decltype(type);
    const T* bias = static_cast<const T*>(product.bias);
    const T* from = static_cast<const T*>(product.x) + (weight.cols > 0 ? product.x_row(0) * product.ldx : 0);
    T* y = static_cast<T*>(product.y) + product.y_row(0) * product.ldy;
    const double scale = product.scale_of(0);
    std::transform(from, from + weight.cols, x, [](T value) { return static_cast<double>(to_float(value)); });
    parallel_for(device.multiprocessors, product.outputs, weight.cols / 2, [&](int64_t begin, int64_t end) {
      for (int64_t first = begin; first < end; first += kRows) {
        double sums[kRows];
        multiply_rows(weight, product.first + first, product.first + end, x, sums);
        for (int64_t n = first; n < std::min(first + kRows, end); ++n) {
          const double addend = bias != nullptr ? static_cast<double>(to_float(bias[n])) : 0.0;
          y[n] = from_float<T>(static_cast<float>((sums[n - first] + addend) * scale));
        }
      }
    });
  });
}

}  // namespace nf4
