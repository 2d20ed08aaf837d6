// Codes without division are those of encode(x / absmax): for f16 and bf16 every pair of numbers, for f32 the numbers
// around every midpoint and all over.
#include "pack/binned.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <type_traits>

#include "catch.hpp"
#include "oracle.hpp"

namespace nf4test {
namespace {

template <class T>
constexpr nf4::BinWords kTable{nf4::kBinTable<T>.words};

// The code of x by its bin, which an approximate reciprocal that is off by `error` finds.
template <class T>
uint32_t code_of(float x, float absmax, float error) {
  const uint32_t bin = nf4::bin_of(x, nf4::kQuarterBins / absmax * (1.0f + error));
  return nf4::code_in_bin<T>(x, absmax, bin, kTable<T>) & 15u;
}

// Every ratio of two numbers of `bits` significant bits that is not far below the midpoints next to 0.
template <class T>
void check_every_ratio(int bits) {
  int64_t wrong = 0;
  for (int significand = 1 << (bits - 1); significand < 1 << bits; ++significand) {
    const auto absmax = static_cast<float>(significand);
    for (int x = 1 << (bits - 1); x < 1 << bits; ++x) {
      for (int exponent = 0; exponent <= 6; ++exponent) {
        const float magnitude = std::ldexp(static_cast<float>(x), -exponent);
        if (magnitude > absmax) continue;
        for (const float weight : {magnitude, -magnitude}) {
          wrong += code_of<T>(weight, absmax, 0.0f) != nf4::encode(weight / absmax);
        }
      }
    }
  }
  CHECK(wrong == 0);
}

template <class T, int Count>
uint32_t expected_codes(const float (&x)[Count], float absmax) {
  uint32_t word = 0;
  for (int j = 0; j < Count; ++j) word |= nf4::encode(x[j] / absmax) << (4 * (j ^ 1));
  return word;
}

template <class T, int Count>
bool codes_agree(const float (&x)[Count], float absmax) {
  return nf4::codes_of<T>(x, absmax, kTable<T>) == expected_codes<T>(x, absmax);
}

template <class T>
T from_bits(uint32_t bits) {
  if constexpr (std::is_same_v<T, float>) {
    return nf4ref::float_of(bits);
  } else {
    return {static_cast<uint16_t>(bits)};
  }
}

// Blocks of one vector whose absmax is any number of T, subnormals, Inf and NaN among them.
template <class T>
void check_blocks() {
  constexpr int kBits = sizeof(T) * 8;
  constexpr int kCount = 16 / sizeof(T);
  std::mt19937 random(11);
  int64_t wrong = 0;
  for (int i = 0; i < 1'000'000; ++i) {
    float x[kCount];
    uint32_t largest = 0;
    const uint32_t differ = ~0u >> random() % kBits;  // the last bits; the first are alike, and so are exponents
    const auto common = static_cast<uint32_t>(random());
    for (float& value : x) {
      const uint32_t bits = (common & ~differ) | (static_cast<uint32_t>(random()) & differ);
      const uint32_t sign = static_cast<uint32_t>(random() & 1u) << (kBits - 1);
      value = nf4::to_float(from_bits<T>(bits >> (32 - kBits) ^ sign));
      largest = std::max(largest, nf4::float_to_bits(value) & 0x7fffffffu);
    }
    wrong += !codes_agree<T>(x, nf4::bits_to_float(largest));
  }
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("binned: every ratio of two bf16, and of two f16, has its code") {
  check_every_ratio<nf4::bf16>(8);
  check_every_ratio<nf4::f16>(11);
}

TEST_CASE("binned: f32 next to every midpoint has its code") {
  std::mt19937 random(7);
  int64_t wrong = 0;
  for (int i = 0; i < 300'000; ++i) {
    const float absmax = nf4ref::float_of(static_cast<uint32_t>(random() % 0x7f7fffffu) + 1);  // any above 0
    float x[4];
    for (int code = 0; code < 15; ++code) {
      const auto at = static_cast<float>(double{nf4::kMidpoints[code]} * double{absmax});
      x[0] = std::nextafter(at, -INFINITY);
      x[1] = at;
      x[2] = std::nextafter(at, INFINITY);
      x[3] = std::nextafter(x[2], INFINITY);
      for (float& value : x) value = std::clamp(value, -absmax, absmax);
      wrong += !codes_agree<float>(x, absmax);
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("binned: blocks of any numbers") {
  SECTION("f32") { check_blocks<float>(); }
  SECTION("f16") { check_blocks<nf4::f16>(); }
  SECTION("bf16") { check_blocks<nf4::bf16>(); }
}

TEST_CASE("binned: zeros, Inf and NaN") {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  const float zeros[4] = {0.0f, -0.0f, 0.0f, -0.0f};
  const float infinite[4] = {1.0f, -kInf, kInf, 0.0f};
  const float poisoned[4] = {kNan, -kInf, 1.0f, 0.0f};
  CHECK(codes_agree<float>(zeros, 0.0f));
  CHECK(codes_agree<float>(infinite, kInf));
  CHECK(codes_agree<float>(poisoned, kNan));
  CHECK(expected_codes<float>(infinite, kInf) == 0x7777);
}

// The reciprocal may be off by more than any device's is: midpoints, and -1 and 1, lie far enough from the edges.
TEST_CASE("binned: an approximate reciprocal finds the same codes") {
  int64_t wrong = 0;
  for (const float error : {-1e-3f, -1e-6f, 1e-6f, 1e-3f}) {
    for (int i = -20011; i <= 20011; ++i) {
      const float ratio = static_cast<float>(i) / 20011.0f;
      for (const float absmax : {1.0f, 0.7f}) {
        wrong += code_of<float>(ratio * absmax, absmax, error) != nf4::encode(ratio * absmax / absmax);
      }
    }
    for (const float midpoint : nf4::kMidpoints) {
      for (const float ratio : {std::nextafter(midpoint, -1.0f), midpoint, std::nextafter(midpoint, 1.0f)}) {
        wrong += code_of<float>(ratio, 1.0f, error) != nf4::encode(ratio);
      }
    }
  }
  CHECK(wrong == 0);
}

}  // namespace nf4test
