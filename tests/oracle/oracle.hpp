// The oracle of the tests and of the benchmark: what a packed weight means, in float64, and whether a result is right.
//
// It shares no code with the library. Everything that touches one element can be called on the device too, so that the
// benchmark checks large results there with the same words.
#ifndef NF4_ORACLE_HPP
#define NF4_ORACLE_HPP

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "nf4/nf4.h"

#ifdef __CUDACC__
#define NF4REF_FN __host__ __device__ inline
#else
#define NF4REF_FN inline
#endif

namespace nf4ref {

// ---- float types ----------------------------------------------------------------------------------------------------

NF4REF_FN uint32_t bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

NF4REF_FN float float_of(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

NF4REF_FN float from_bf16(uint16_t bits) { return float_of(uint32_t{bits} << 16); }

NF4REF_FN float from_f16(uint16_t bits) {
  const uint32_t sign = uint32_t{bits} >> 15 << 31;
  const uint32_t exponent = bits >> 10 & 31u;
  const uint32_t mantissa = bits & 1023u;
  if (exponent == 31) return float_of(sign | 0x7f800000u | mantissa << 13);
  if (exponent == 0) return float_of(sign | bits_of(static_cast<float>(mantissa) * 0x1p-24f));
  return float_of(sign | (exponent + 112) << 23 | mantissa << 13);
}

// Rounds to nearest even; a NaN stays one.
NF4REF_FN uint16_t to_bf16(float value) {
  const uint32_t bits = bits_of(value);
  if (value != value) return static_cast<uint16_t>(bits >> 16 | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

// Rounds to nearest even; a NaN stays one, and what rounds beyond 65504 is infinite.
NF4REF_FN uint16_t to_f16(float value) {
  const uint32_t bits = bits_of(value);
  const uint32_t sign = bits >> 31 << 15;
  const uint32_t magnitude = bits & 0x7fffffffu;
  uint32_t half = 0;
  if (magnitude > 0x7f800000u) {
    half = 0x7e00u;
  } else if (magnitude >= bits_of(65536.0f)) {
    half = 0x7c00u;
  } else if (magnitude < bits_of(0x1p-14f)) {  // subnormal in f16: floats next to 0.5 have its spacing, 2^-24
    half = bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f);
  } else {
    half = ((magnitude + 0xfffu + (magnitude >> 13 & 1u)) >> 13) - (112u << 10);
  }
  return static_cast<uint16_t>(sign | half);
}

NF4REF_FN int64_t size_of(nf4_dtype_t dtype) { return dtype == NF4_F32 ? 4 : dtype == NF4_U8 ? 1 : 2; }

// Reads element `i` of an array of F32, F16 or BF16.
NF4REF_FN float load(const void* values, nf4_dtype_t dtype, int64_t i) {
  if (dtype == NF4_F32) return static_cast<const float*>(values)[i];
  const uint16_t bits = static_cast<const uint16_t*>(values)[i];
  return dtype == NF4_F16 ? from_f16(bits) : from_bf16(bits);
}

// Writes element `i` of an array of F32, F16 or BF16, rounded to nearest even.
NF4REF_FN void store(void* values, nf4_dtype_t dtype, int64_t i, float value) {
  if (dtype == NF4_F32) {
    static_cast<float*>(values)[i] = value;
  } else {
    static_cast<uint16_t*>(values)[i] = dtype == NF4_F16 ? to_f16(value) : to_bf16(value);
  }
}

// ---- decoding -------------------------------------------------------------------------------------------------------

NF4REF_FN float codebook(int code) {
  constexpr float kValues[16] = {
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
  return kValues[code];
}

// The code of element `i` of the flattened matrix: the even one of a byte is in the high nibble.
NF4REF_FN int code_at(const uint8_t* codes, int64_t i) { return i % 2 == 0 ? codes[i / 2] >> 4 : codes[i / 2] & 15; }

// The scale of block `i`. Nested: product and sum are each rounded to fp32. Each is computed in fp64 first, which holds
// the product exactly and the sum with bits enough, so no compiler can fuse the two into one rounding.
NF4REF_FN float absmax_at(const nf4_weight_t& weight, int64_t i) {
  if (weight.absmax_dtype != NF4_U8) return load(weight.absmax, weight.absmax_dtype, i);
  const double value = weight.absmax_map[static_cast<const uint8_t*>(weight.absmax)[i]];
  const float product = static_cast<float>(value * weight.absmax2[i / weight.absmax_blocksize]);
  return static_cast<float>(static_cast<double>(product) + *weight.absmax_offset);
}

// Element `i` of the flattened matrix. Exact: 24 bits times 24 bits fit in a double.
NF4REF_FN double element(const nf4_weight_t& weight, int64_t i) {
  const double value = codebook(code_at(weight.codes, i));
  return value * static_cast<double>(absmax_at(weight, i / weight.blocksize));
}

// Tells whether w[at], of `dtype`, is bit for bit what element `i` unpacks to: the product rounded to fp32, then to
// `dtype`. Any NaN stands for a NaN.
NF4REF_FN bool unpacks_to(const void* w, nf4_dtype_t dtype, int64_t at, const nf4_weight_t& weight, int64_t i) {
  uint32_t expected = 0;
  store(&expected, dtype, 0, static_cast<float>(element(weight, i)));
  const float value = load(&expected, dtype, 0);
  const float found = load(w, dtype, at);
  return bits_of(value) == bits_of(found) || (value != value && found != found);
}

// ---- products -------------------------------------------------------------------------------------------------------

// An output y[m, n] in float64, and the sum of the magnitudes that its error is measured by.
struct Reference {
  double y = 0;
  double s = 0;

  NF4REF_FN void add(double term) {
    y += term;
    s += term < 0 ? -term : term;
  }
};

// y [m, N] = x [m, K] W^T + bias [N], as nf4_gemm takes it.
struct Product {
  nf4_weight_t weight;
  const void* x;
  int64_t ldx;
  int64_t m;
  nf4_dtype_t dtype;
  const void* bias;  // or NULL
};

// The part of y[m, n] that elements first, first + step, ... of K make: so a warp can share one output.
NF4REF_FN Reference partial_sum(const Product& product, int64_t m, int64_t n, int64_t first, int64_t step) {
  Reference sum;
  const int64_t cols = product.weight.cols;
  for (int64_t k = first; k < cols; k += step) {
    const double x = load(product.x, product.dtype, m * product.ldx + k);
    sum.add(element(product.weight, n * cols + k) * x);
  }
  return sum;
}

NF4REF_FN void add_bias(Reference& sum, const Product& product, int64_t n) {
  if (product.bias != nullptr) sum.add(load(product.bias, product.dtype, n));
}

// Runs body(begin, end) over [0, count), spread over the hardware's threads if there is `work` enough to pay for them.
template <typename Body>
void parallel_for(int64_t count, int64_t work, const Body& body) {
  constexpr int64_t kWorkPerThread = 1 << 18;
  const int64_t hardware = std::max<int64_t>(1, std::thread::hardware_concurrency());
  const int64_t threads =
      std::clamp<int64_t>(work / kWorkPerThread, 1, std::min(hardware, std::max<int64_t>(1, count)));
  std::vector<std::thread> others;
  for (int64_t t = 1; t < threads; ++t) {
    others.emplace_back([&body, count, threads, t] { body(count * t / threads, count * (t + 1) / threads); });
  }
  body(0, count / threads);
  for (std::thread& thread : others) thread.join();
}

// All outputs [m, N], from host memory. A row is decoded once for all of x.
inline std::vector<Reference> references(const Product& product) {
  const int64_t rows = product.weight.rows;
  const int64_t cols = product.weight.cols;
  std::vector<Reference> sums(static_cast<size_t>(product.m * rows));
  parallel_for(rows, rows * cols * product.m, [&](int64_t begin, int64_t end) {
    std::vector<double> row(static_cast<size_t>(cols));
    for (int64_t n = begin; n < end; ++n) {
      for (int64_t k = 0; k < cols; ++k) row[static_cast<size_t>(k)] = element(product.weight, n * cols + k);
      for (int64_t m = 0; m < product.m; ++m) {
        Reference& sum = sums[static_cast<size_t>(m * rows + n)];
        for (int64_t k = 0; k < cols; ++k) {
          const double x = load(product.x, product.dtype, m * product.ldx + k);
          sum.add(row[static_cast<size_t>(k)] * x);
        }
        add_bias(sum, product, n);
      }
    }
  });
  return sums;
}

// y [m, K] = x [m, N] W, as nf4_gemm_transposed takes it.
struct TransposedProduct {
  nf4_weight_t weight;
  const void* x;
  int64_t ldx;
  int64_t m;
  nf4_dtype_t dtype;
};

// The part of y[m, k] that elements first, first + step, ... of N make.
NF4REF_FN Reference partial_sum(const TransposedProduct& product, int64_t m, int64_t k, int64_t first, int64_t step) {
  Reference sum;
  for (int64_t n = first; n < product.weight.rows; n += step) {
    const double x = load(product.x, product.dtype, m * product.ldx + n);
    sum.add(element(product.weight, n * product.weight.cols + k) * x);
  }
  return sum;
}

// All outputs [m, K], from host memory. A column is decoded once for all of x.
inline std::vector<Reference> references(const TransposedProduct& product) {
  const int64_t rows = product.weight.rows;
  const int64_t cols = product.weight.cols;
  std::vector<Reference> sums(static_cast<size_t>(product.m * cols));
  parallel_for(cols, rows * cols * product.m, [&](int64_t begin, int64_t end) {
    std::vector<double> column(static_cast<size_t>(rows));
    for (int64_t k = begin; k < end; ++k) {
      for (int64_t n = 0; n < rows; ++n) column[static_cast<size_t>(n)] = element(product.weight, n * cols + k);
      for (int64_t m = 0; m < product.m; ++m) {
        Reference& sum = sums[static_cast<size_t>(m * cols + k)];
        for (int64_t n = 0; n < rows; ++n) {
          const double x = load(product.x, product.dtype, m * product.ldx + n);
          sum.add(column[static_cast<size_t>(n)] * x);
        }
      }
    }
  });
  return sums;
}

// y [slots, N] = (x [rows, K] W_e^T + bias_e) * scale for the expert e of each slot, as nf4_gemm_experts takes it;
// zeros for a slot of none.
struct RoutedProduct {
  Product product;  // weight [experts * N, K] and bias [experts, N]
  int64_t experts, slots, top_k;
  const int64_t* expert;  // of each slot; what is none's is below 0
  const float* scale;     // or NULL
};

// The part of y[slot, n] that elements first, first + step, ... of K make, without bias and scale.
NF4REF_FN Reference partial_sum(const RoutedProduct& routed, int64_t slot, int64_t n, int64_t first, int64_t step) {
  const int64_t expert = routed.expert[slot];
  const int64_t rows = routed.product.weight.rows / routed.experts;
  return expert < 0 ? Reference{} : partial_sum(routed.product, slot / routed.top_k, expert * rows + n, first, step);
}

NF4REF_FN void finish(Reference& sum, const RoutedProduct& routed, int64_t slot, int64_t n) {
  const int64_t expert = routed.expert[slot];
  if (expert < 0) return;
  add_bias(sum, routed.product, expert * (routed.product.weight.rows / routed.experts) + n);
  if (routed.scale == nullptr) return;
  const double scale = routed.scale[slot];
  sum.y *= scale;
  sum.s *= scale < 0 ? -scale : scale;
}

// All outputs [slots, N], from host memory.
inline std::vector<Reference> references(const RoutedProduct& routed) {
  const int64_t n = routed.experts > 0 ? routed.product.weight.rows / routed.experts : 0;
  std::vector<Reference> sums(static_cast<size_t>(routed.slots * n));
  parallel_for(routed.slots, routed.slots * n * routed.product.weight.cols, [&](int64_t begin, int64_t end) {
    for (int64_t slot = begin; slot < end; ++slot) {
      for (int64_t i = 0; i < n; ++i) {
        Reference& sum = sums[static_cast<size_t>(slot * n + i)];
        sum = partial_sum(routed, slot, i, 0, 1);
        finish(sum, routed, slot, i);
      }
    }
  });
  return sums;
}

// ---- bounds ---------------------------------------------------------------------------------------------------------

// Half the spacing of `dtype` at 1: the largest relative error of one rounding.
inline double unit_roundoff(nf4_dtype_t dtype) {
  return dtype == NF4_F32 ? 0x1p-24 : dtype == NF4_F16 ? 0x1p-11 : 0x1p-8;
}

inline double half_smallest_subnormal(nf4_dtype_t dtype) {
  return dtype == NF4_F32 ? 0x1p-150 : dtype == NF4_F16 ? 0x1p-25 : 0x1p-134;
}

inline double largest_finite(nf4_dtype_t dtype) {
  return dtype == NF4_F32 ? double{FLT_MAX} : dtype == NF4_F16 ? 65504.0 : 0x1.fep127;
}

// The factor g of an accuracy class for a product over `k` elements (docs/reference/accuracy.md); NaN for a class
// unknown, so that every comparison with it fails.
//
// "exact": fp64 throughout, then fp32, then `dtype`. The rounding to fp32 counts for the 16-bit types only, for f32 it
//   is the final one. Result and reference each err by at most k + 2 roundings of 2^-53.
// "fp32": weights and sums in fp32, in two levels: no term passes more than k/32 + 40 roundings, those of the weight,
//   the scale and the bias included. A lane's share of a row and the shuffles after it stay below that, and so do sums
//   over slices of 32 that are added up.
// "codebook16": the weight's codebook value is off by half a rounding to `dtype` at most, and tensor cores truncate
//   where they add, so each addition counts twice.
// "unpacked": the weight is rounded to `dtype` before it is multiplied, and sums are in fp32 in any order: a term
//   passes k additions at most, the bias's included, and the roundings of the weight's product and of that with x. All
//   of them multiplied out, for sums as long as k are not small. Tensor cores, which truncate, take the 16-bit types.
// "scaled16": the same for the tensor cores, from a codebook value that is off by 2^-12 at most, and a scale that
//   passes two roundings more.
inline double accuracy_g(std::string_view accuracy_class, nf4_dtype_t dtype, int64_t k) {
  const double additions = static_cast<double>((k + 31) / 32 + 40);
  const double fp64 = static_cast<double>(k + 2) * 0x1p-52;
  if (accuracy_class == "exact") return fp64 + (dtype == NF4_F32 ? 0.0 : 0x1p-24);
  if (accuracy_class == "fp32") return fp64 + additions * 0x1p-24;
  if (accuracy_class == "codebook16") return fp64 + unit_roundoff(dtype) / 2 + additions * 0x1p-23;
  if (accuracy_class == "unpacked") {
    const bool tensor = dtype != NF4_F32;
    const double sums = std::pow(tensor ? 1 + 0x1p-23 : 1 + 0x1p-24, static_cast<double>(k + 2));
    return fp64 + (tensor ? 1 + unit_roundoff(dtype) : 1.0) * sums - 1;
  }
  if (accuracy_class == "scaled16") {
    const double sums = std::pow(1 + 0x1p-23, static_cast<double>(k + 4));
    return fp64 + (1 + unit_roundoff(dtype)) * (1 + 0x1p-12) * sums - 1;
  }
  return std::numeric_limits<double>::quiet_NaN();
}

// The largest |y - reference.y| that nf4.h allows.
inline double bound(const Reference& reference, nf4_dtype_t dtype, double g) {
  const double u = unit_roundoff(dtype);
  return u * std::fabs(reference.y) + half_smallest_subnormal(dtype) + (1 + u) * g * reference.s;
}

// Judges outputs one by one and remembers the worst.
class Verdict {
 public:
  Verdict(nf4_dtype_t dtype, double g) : dtype_(dtype), g_(g) {}

  // `y` is the output as `dtype` holds it.
  void add(double y, const Reference& reference) {
    const double allowed = bound(reference, dtype_, g_);
    const double error = std::fabs(y - reference.y);
    const double ratio = std::isfinite(y) && std::isfinite(reference.y) ? error / allowed
                         : right_without_number(y, reference, allowed)  ? 0.0
                                                                        : std::numeric_limits<double>::infinity();
    if (std::isfinite(ratio) && std::isfinite(error)) {
      error2_ += error * error;
      norm2_ += reference.y * reference.y;
    }
    if (!(ratio <= 1) && violations_++ == 0) {
      char text[160];
      std::snprintf(text, sizeof text, "output %lld is %.9g, expected %.9g +- %.3g", static_cast<long long>(count_), y,
                    reference.y, allowed);
      first_violation_ = text;
    }
    worst_ = std::isnan(ratio) ? std::numeric_limits<double>::infinity() : std::max(worst_, ratio);
    ++count_;
  }

  // Adds every output of y [m, N], leading dimension ldy, of `dtype`.
  void add_all(const void* y, int64_t ldy, const std::vector<Reference>& references, int64_t m, int64_t n) {
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < n; ++j) add(load(y, dtype_, i * ldy + j), references[static_cast<size_t>(i * n + j)]);
    }
  }

  bool ok() const { return violations_ == 0; }
  int64_t count() const { return count_; }
  int64_t violations() const { return violations_; }
  // The largest error over its bound: at most 1 in a right result.
  double worst() const { return worst_; }
  // ||y - reference|| / ||reference|| over the finite outputs.
  double relative_error() const {
    return error2_ == 0 ? 0.0 : norm2_ == 0 ? std::numeric_limits<double>::infinity() : std::sqrt(error2_ / norm2_);
  }
  // Tells about the first violation, "" if there is none; the output's number is that of the order of add.
  const std::string& first_violation() const { return first_violation_; }

 private:
  // Where y or the reference is NaN or infinite: y must be what the reference is, but may overflow where its type or
  // the fp32 sums on the way to it can.
  bool right_without_number(double y, const Reference& reference, double allowed) const {
    if (std::isnan(reference.y))
      return !std::isfinite(y);  // a poisoned block shows as NaN or Inf, by the order of sums
    if (std::isinf(reference.y)) return y == reference.y;
    if (reference.s > FLT_MAX) return true;
    const bool same_side = std::signbit(y) == std::signbit(reference.y);
    return std::isinf(y) && same_side && std::fabs(reference.y) + allowed > largest_finite(dtype_);
  }

  nf4_dtype_t dtype_;
  double g_;
  int64_t count_ = 0;
  int64_t violations_ = 0;
  double worst_ = 0;
  double error2_ = 0;
  double norm2_ = 0;
  std::string first_violation_;
};

}  // namespace nf4ref

#endif
