#include <algorithm>
#include <cmath>
#include <cstdint>

#include "oracle.hpp"
#include "support/harness.hpp"

namespace nf4test {

TEST_CASE("format: nf4_codebook writes the 16 values and no more") {
  float values[17];
  std::fill(std::begin(values), std::end(values), 42.0f);
  REQUIRE(nf4_codebook(values) == NF4_SUCCESS);
  for (int code = 0; code < 16; ++code) CHECK(nf4ref::bits_of(values[code]) == nf4ref::bits_of(nf4ref::codebook(code)));
  CHECK(values[16] == 42.0f);
}

TEST_CASE("format: nf4_dynamic_map has the shape of bitsandbytes' map") {
  float map[257];
  map[256] = 42.0f;
  REQUIRE(nf4_dynamic_map(map) == NF4_SUCCESS);
  CHECK(map[256] == 42.0f);
  CHECK(map[0] == -0.99296875f);
  CHECK(nf4ref::bits_of(map[127]) == 0);
  CHECK(map[255] == 1.0f);
  for (int i = 0; i < 255; ++i) CHECK(map[i] < map[i + 1]);
  for (int i = 1; i < 128; ++i) CHECK(map[127 - i] == -map[127 + i]);
}

TEST_CASE("format: nf4_dynamic_map holds the midpoints of 2^d parts of each decade d") {
  float map[256];
  REQUIRE(nf4_dynamic_map(map) == NF4_SUCCESS);
  int i = 128;
  for (int decade = 0; decade < 7; ++decade) {
    const int parts = 1 << decade;
    for (int part = 0; part < parts; ++part, ++i) {
      const double exact = std::pow(10.0, decade - 6) * (0.1 + 0.9 * (part + 0.5) / parts);
      CAPTURE(i, exact);
      // Boundaries, their mean, and the product with the power of ten, itself rounded: four roundings.
      CHECK(std::fabs(double{map[i]} - exact) <= 4 * 0x1p-24 * exact);
    }
  }
  CHECK(i == 255);
}

TEST_CASE("format: nf4_packed_size counts bytes of codes and scales") {
  struct Case {
    int64_t rows, cols;
    int32_t blocksize;
    int64_t codes, absmax;
  };
  const Case cases[] = {
      {0, 0, 64, 0, 0},
      {0, 5, 64, 0, 0},
      {5, 0, 64, 0, 0},
      {1, 1, 64, 1, 1},
      {1, 64, 64, 32, 1},
      {1, 65, 64, 33, 2},
      {3, 3, 32, 5, 1},
      {3, 43, 64, 65, 3},  // blocks straddle rows
      {4096, 14336, 4096, 29360128, 14336},
      {65537, 65537, 64, 2147549185, 67110913},                       // 2^32 + 2^17 + 1 elements
      {1, int64_t{1} << 60, 32, int64_t{1} << 59, int64_t{1} << 55},  // the most
      {INT64_MAX, 0, 64, 0, 0},
  };
  for (const Case& c : cases) {
    CAPTURE(c.rows, c.cols, c.blocksize);
    int64_t codes = -1;
    int64_t absmax = -1;
    REQUIRE(nf4_packed_size(&codes, &absmax, c.rows, c.cols, c.blocksize) == NF4_SUCCESS);
    CHECK(codes == c.codes);
    CHECK(absmax == c.absmax);
  }
}

}  // namespace nf4test
