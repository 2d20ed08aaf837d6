#include "format/number.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "catch.hpp"
#include "oracle.hpp"
#if NF4_HAVE_CUDA
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace nf4test {
namespace {

constexpr uint32_t kExponentF32 = 0x7f800000u;

// A 16-bit type: its fields, and the other implementations that ours must agree with.
struct F16 {
  using Type = nf4::f16;
  static constexpr int kMantissaBits = 10;
  static constexpr int kBias = 15;
  static float reference_to(uint16_t bits) { return nf4ref::from_f16(bits); }
  static uint16_t reference_from(float value) { return nf4ref::to_f16(value); }
#if NF4_HAVE_CUDA
  static float cuda_to(uint16_t bits) { return __half2float(__ushort_as_half(bits)); }
  static uint16_t cuda_from(float value) { return __half_as_ushort(__float2half_rn(value)); }
#endif
};

struct BF16 {
  using Type = nf4::bf16;
  static constexpr int kMantissaBits = 7;
  static constexpr int kBias = 127;
  static float reference_to(uint16_t bits) { return nf4ref::from_bf16(bits); }
  static uint16_t reference_from(float value) { return nf4ref::to_bf16(value); }
#if NF4_HAVE_CUDA
  static float cuda_to(uint16_t bits) { return __bfloat162float(__ushort_as_bfloat16(bits)); }
  static uint16_t cuda_from(float value) { return __bfloat16_as_ushort(__float2bfloat16_rn(value)); }
#endif
};

template <class T>
constexpr uint16_t infinity() {
  return static_cast<uint16_t>(0x7fff >> T::kMantissaBits << T::kMantissaBits);
}

// The value of finite `bits`, by the definition of the format.
template <class T>
double value_of(uint16_t bits) {
  const int exponent = (bits & 0x7fff) >> T::kMantissaBits;
  const int fraction = bits & ((1 << T::kMantissaBits) - 1);
  const int significand = exponent == 0 ? fraction : fraction + (1 << T::kMantissaBits);
  const double magnitude = std::ldexp(significand, std::max(exponent, 1) - T::kBias - T::kMantissaBits);
  return bits >> 15 != 0 ? -magnitude : magnitude;
}

template <class T>
uint16_t from(float value) {
  return nf4::from_float<typename T::Type>(value).bits;
}

// Equal bits, or both NaN: payloads are nobody's business.
bool same(float a, float b) { return nf4ref::bits_of(a) == nf4ref::bits_of(b) || (std::isnan(a) && std::isnan(b)); }

// All 2^16 numbers of T convert to fp32 and back.
template <class T>
void check_every_number() {
  for (uint32_t i = 0; i <= 0xffff; ++i) {
    const auto bits = static_cast<uint16_t>(i);
    const uint16_t magnitude = bits & 0x7fff;
    const float value = nf4::to_float(typename T::Type{bits});
    CAPTURE(bits, value);
    if (!same(value, T::reference_to(bits))) FAIL("differs from the reference");
#if NF4_HAVE_CUDA
    if (!same(value, T::cuda_to(bits))) FAIL("differs from CUDA's conversion");
#endif
    if (magnitude > infinity<T>()) {
      if (!std::isnan(value)) FAIL("a NaN became a number");
      continue;
    }
    if (std::signbit(value) != (bits >> 15 != 0)) FAIL("the sign is lost");
    if (magnitude == infinity<T>() ? !std::isinf(value) : double{value} != value_of<T>(bits)) FAIL("another value");
    if (from<T>(value) != bits) FAIL("does not convert back");
  }
  SUCCEED("all numbers convert");
}

// Between each two neighbours of T their midpoint, which fp32 holds, goes to the even one, and what lies a step of fp32
// to a side of it goes to that side. Rounding is monotonic, so that settles every number.
template <class T>
void check_every_tie() {
  for (uint32_t i = 0; i < infinity<T>(); ++i) {
    const auto low = static_cast<uint16_t>(i);
    const auto high = static_cast<uint16_t>(i + 1);
    // Beyond the largest finite number the spacing goes on: from the midpoint up it is infinity.
    const double above =
        high == infinity<T>() ? 2 * value_of<T>(low) - value_of<T>(static_cast<uint16_t>(i - 1)) : value_of<T>(high);
    const auto tie = static_cast<float>((value_of<T>(low) + above) / 2);
    const uint16_t even = low % 2 == 0 ? low : high;
    CAPTURE(low, tie);
    for (const uint16_t sign : {uint16_t{0}, uint16_t{0x8000}}) {
      const float side = sign != 0 ? -1.0f : 1.0f;
      if (from<T>(side * tie) != (sign | even)) FAIL("a tie goes to the odd neighbour");
      if (from<T>(side * std::nextafter(tie, 0.0f)) != (sign | low)) FAIL("below the tie it rounds up");
      if (from<T>(side * std::nextafter(tie, INFINITY)) != (sign | high)) FAIL("above the tie it rounds down");
    }
  }
  SUCCEED("all ties round to even");
}

// Numbers all over fp32, NaN and Inf among them.
template <class T>
void check_across_fp32() {
  constexpr uint64_t kStride = 61;  // a prime, so that all low bits occur
  for (uint64_t bits = 0; bits <= 0xffffffffu; bits += kStride) {
    const float value = nf4ref::float_of(static_cast<uint32_t>(bits));
    const uint16_t found = from<T>(value);
    if (std::isnan(value) ? found != 0x7fff : found != T::reference_from(value)) {
      CAPTURE(bits, value, found);
      FAIL("differs from the reference");
    }
#if NF4_HAVE_CUDA
    if (found != T::cuda_from(value)) {
      CAPTURE(bits, value, found);
      FAIL("differs from CUDA's conversion");
    }
#endif
  }
  SUCCEED("all numbers round alike");
}

}  // namespace

TEST_CASE("number: f16 and bf16 convert to fp32 exactly and back") {
  SECTION("f16") { check_every_number<F16>(); }
  SECTION("bf16") { check_every_number<BF16>(); }
}

TEST_CASE("number: fp32 rounds to f16 and bf16 to nearest, ties to even") {
  SECTION("f16, at every tie") { check_every_tie<F16>(); }
  SECTION("bf16, at every tie") { check_every_tie<BF16>(); }
  SECTION("f16, across fp32") { check_across_fp32<F16>(); }
  SECTION("bf16, across fp32") { check_across_fp32<BF16>(); }
}

TEST_CASE("number: fp32 beyond the range of f16 and bf16") {
  struct Case {
    float value;
    uint16_t f16, bf16;
  };
  const float quiet = std::numeric_limits<float>::quiet_NaN();
  const Case cases[] = {
      {INFINITY, 0x7c00, 0x7f80},
      {-INFINITY, 0xfc00, 0xff80},
      {std::numeric_limits<float>::max(), 0x7c00, 0x7f80},
      {0x1p-149f, 0x0000, 0x0000},  // the smallest fp32
      {-0.0f, 0x8000, 0x8000},
      {quiet, 0x7fff, 0x7fff},
      {-quiet, 0x7fff, 0x7fff},
      {nf4ref::float_of(kExponentF32 | 1), 0x7fff, 0x7fff},  // truncation would make it infinite
  };
  for (const Case& c : cases) {
    CAPTURE(c.value);
    CHECK(from<F16>(c.value) == c.f16);
    CHECK(from<BF16>(c.value) == c.bf16);
  }
}

}  // namespace nf4test
