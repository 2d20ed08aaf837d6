#include "format/codebook.hpp"

#include <cmath>
#include <cstring>
#include <limits>

#include "catch.hpp"
#include "gemm/pair_codebook.hpp"
#include "oracle.hpp"

namespace nf4test {
namespace {

double midpoint(int code) { return (double{nf4ref::codebook(code)} + double{nf4ref::codebook(code + 1)}) / 2; }

// What class "codebook16" promises of the values in a pair table of T.
template <class T>
void check_pair_codebook(nf4_dtype_t dtype) {
  const nf4::PairCodebook codebook = nf4::pair_codebook<T>();
  for (int code = 0; code < 16; ++code) {
    CAPTURE(code);
    const double exact = nf4ref::codebook(code);
    const double value = double{nf4::to_float(T{codebook.values[code]})} / double{nf4::kCodebookFactor<T>};
    CHECK(std::fabs(value - exact) <= nf4ref::unit_roundoff(dtype) / 2 * std::fabs(exact));
    if (std::fabs(exact) == 1) CHECK(value == exact);
  }
}

}  // namespace

TEST_CASE("codebook: the codebook is that of the reference, and ascends") {
  for (int code = 0; code < 16; ++code) {
    CAPTURE(code);
    CHECK(nf4ref::bits_of(nf4::kCodebook[code]) == nf4ref::bits_of(nf4ref::codebook(code)));
    if (code > 0) CHECK(nf4::kCodebook[code - 1] < nf4::kCodebook[code]);
  }
  CHECK(nf4ref::bits_of(nf4::kCodebook[nf4::kZeroCode]) == 0);
}

TEST_CASE("codebook: each midpoint is a nearest fp32 of the exact one") {
  for (int code = 0; code < 15; ++code) {
    CAPTURE(code);
    const float found = nf4::kMidpoints[code];
    const auto error = [&](float value) { return std::fabs(double{value} - midpoint(code)); };
    CHECK(error(found) <= error(std::nextafter(found, -INFINITY)));
    CHECK(error(found) <= error(std::nextafter(found, INFINITY)));
  }
}

TEST_CASE("codebook: a ratio is coded as the nearest value, a midpoint as the lower one") {
  for (uint32_t code = 0; code < 15; ++code) {
    CAPTURE(code);
    const float tie = nf4::kMidpoints[code];
    CHECK(nf4::encode(tie) == code);
    CHECK(nf4::encode(std::nextafter(tie, -INFINITY)) == code);
    CHECK(nf4::encode(std::nextafter(tie, INFINITY)) == code + 1);
  }
  // From -1 to 1, in steps that no midpoint is a multiple of.
  for (int i = -10007; i <= 10007; ++i) {
    const float ratio = static_cast<float>(i) / 10007.0f;
    uint32_t nearest = 0;
    for (uint32_t code = 1; code < 16; ++code) {
      const auto distance = [&](uint32_t of) {
        return std::fabs(double{nf4ref::codebook(static_cast<int>(of))} - ratio);
      };
      if (distance(code) < distance(nearest)) nearest = code;
    }
    CAPTURE(ratio);
    if (nf4::encode(ratio) != nearest) FAIL("is coded as " << nf4::encode(ratio) << ", the nearest is " << nearest);
  }
}

TEST_CASE("codebook: every codebook value codes as itself") {
  for (uint32_t code = 0; code < 16; ++code) CHECK(nf4::encode(nf4::kCodebook[code]) == code);
}

TEST_CASE("codebook: in 16 bits its values err by half a rounding at most, and 0, -1 and 1 by none") {
  check_pair_codebook<nf4::f16>(NF4_F16);
  check_pair_codebook<nf4::bf16>(NF4_BF16);
}

TEST_CASE("codebook: its factors for 16 bits are taken out of exact sums without a trace") {
  const auto error = [](float factor, float inverse) { return std::fabs(double{factor} * double{inverse} - 1); };
  CHECK(error(nf4::kCodebookFactor<nf4::f16>, nf4::kCodebookInverse<nf4::f16>) < 0x1p-25);
  CHECK(error(nf4::kCodebookFactor<nf4::bf16>, nf4::kCodebookInverse<nf4::bf16>) < 0x1p-25);
  for (int i = 1; i < 1 << 13; ++i) {
    const auto n = static_cast<float>(i);
    const auto restored = [&](float factor, float inverse) {
      const float sum = n * factor;
      REQUIRE(double{sum} == double{n} * double{factor});
      return sum * inverse;
    };
    if (restored(nf4::kCodebookFactor<nf4::f16>, nf4::kCodebookInverse<nf4::f16>) != n) FAIL("f16, " << i);
    if (restored(nf4::kCodebookFactor<nf4::bf16>, nf4::kCodebookInverse<nf4::bf16>) != n) FAIL("bf16, " << i);
  }
}

TEST_CASE("codebook: ratios that are no weight's") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  CHECK(nf4::encode(-INFINITY) == 0);
  CHECK(nf4::encode(-1.5f) == 0);
  CHECK(nf4::encode(1.5f) == 15);
  CHECK(nf4::encode(INFINITY) == 15);
  CHECK(nf4::encode(-0.0f) == nf4::kZeroCode);
  CHECK(nf4::encode(0x1p-149f) == nf4::kZeroCode);
  CHECK(nf4::encode(nan) == nf4::kZeroCode);
  CHECK(nf4::encode(-nan) == nf4::kZeroCode);
}

TEST_CASE("codebook: element i of packed codes, from bytes and from words") {
  // Element i of each 16 is i.
  const uint8_t codes[16] = {0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef,
                             0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef};
  for (int i = 0; i < 32; ++i) {
    CAPTURE(i);
    CHECK(nf4::code_at(codes, int64_t{i}) == static_cast<uint32_t>(i % 16));
    uint32_t word;
    std::memcpy(&word, codes + i / 8 * 4, sizeof word);
    CHECK(nf4::code_at(word, i % 8) == static_cast<uint32_t>(i % 16));
    const uint32_t offsets = i % 2 == 0 ? nf4::even_offsets(word) : nf4::odd_offsets(word);
    CHECK((offsets >> (i % 8 / 2 * 8) & 0xffu) == 4 * static_cast<uint32_t>(i % 16));
  }
}

}  // namespace nf4test
