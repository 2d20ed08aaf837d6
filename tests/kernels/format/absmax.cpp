#include "format/absmax.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "support/operands.hpp"

namespace nf4test {
namespace {

// The index of the value of `map` nearest to x, by trying all. A tie is x on the midpoint of its neighbours in fp32, as
// in bitsandbytes: where that is not the exact midpoint it is the fp32 next to it.
uint32_t nearest(const std::vector<float>& map, float x) {
  const auto distance = [&](size_t i) { return std::fabs(double{map[i]} - double{x}); };
  size_t best = 0;
  for (size_t i = 1; i < map.size(); ++i) {
    const bool tie = x == static_cast<float>((double{map[i - 1]} + double{map[i]}) / 2);
    if (tie ? i % 2 == 0 : distance(i) < distance(best)) best = i;
    if (tie) break;
  }
  return static_cast<uint32_t>(best);
}

void check_nearest(const std::vector<float>& map, float x) {
  const uint32_t found = nf4::nearest_in_map(map.data(), x);
  if (found != nearest(map, x)) {
    CAPTURE(x, found, nearest(map, x));
    FAIL("another value of the map is nearer");
  }
}

}  // namespace

TEST_CASE("absmax: a nested scale is rounded after the product and after the sum") {
  std::mt19937 random(1);
  const std::vector<float> map = dynamic_map();
  std::uniform_int_distribution<size_t> index(0, 255);
  std::uniform_real_distribution<float> scale(0.001f, 0.1f);
  int fused_differs = 0;
  for (int i = 0; i < 100000; ++i) {
    const float level1 = map[index(random)];
    const float level2 = scale(random);
    const float offset = scale(random);
    // In fp64 the product is exact and the sum has bits enough, so each is rounded to fp32 once.
    const auto product = static_cast<float>(double{level1} * double{level2});
    const auto expected = static_cast<float>(double{product} + double{offset});
    const float found = nf4::nested_absmax(level1, level2, offset);
    if (found != expected) {
      CAPTURE(level1, level2, offset, found, expected);
      FAIL("rounded otherwise");
    }
    if (std::fmaf(level1, level2, offset) != expected) ++fused_differs;
  }
  CHECK(fused_differs > 1000);  // else the values above could not tell
}

TEST_CASE("absmax: absmax_at reads each way that scales are stored") {
  const uint16_t halves[] = {0x3c00, 0x3800, 0x4200};  // 1, 0.5, 3
  const uint16_t brains[] = {0x3f80, 0x3f00, 0x4040};  // 1, 0.5, 3
  const float floats[] = {1.0f, 0.5f, 3.0f};
  const auto plain = [](const void* values, nf4::Dtype dtype, int64_t block) {
    return nf4::absmax_at({values, dtype, nullptr, nullptr, nullptr, 0}, block);
  };
  for (int64_t block = 0; block < 3; ++block) {
    CAPTURE(block);
    CHECK(plain(floats, nf4::Dtype::f32, block) == floats[block]);
    CHECK(plain(halves, nf4::Dtype::f16, block) == floats[block]);
    CHECK(plain(brains, nf4::Dtype::bf16, block) == floats[block]);
  }

  // Nested: 32 first-level values for each of the second level; neighbours of the bounds show where it changes.
  std::vector<float> map(256);
  for (size_t i = 0; i < map.size(); ++i) map[i] = static_cast<float>(i);
  std::vector<uint8_t> level1(96);
  for (size_t i = 0; i < level1.size(); ++i) level1[i] = static_cast<uint8_t>(255 - i);
  const float level2[] = {1.0f, 2.0f, 4.0f};
  const float offset = 0.25f;
  const nf4::Absmax nested{level1.data(), nf4::Dtype::u8, map.data(), level2, &offset, 5};
  for (const int64_t block : {0, 31, 32, 63, 64, 95}) {
    CAPTURE(block);
    CHECK(nf4::absmax_at(nested, block) == static_cast<float>(255 - block) * level2[block / 32] + 0.25f);
  }
}

TEST_CASE("absmax: the nearest value of the dynamic map") {
  const std::vector<float> map = dynamic_map();
  SECTION("every value is its own") {
    for (uint32_t i = 0; i < 256; ++i) CHECK(nf4::nearest_in_map(map.data(), map[i]) == i);
  }
  SECTION("a tie goes to the even index, its neighbours to either side") {
    for (uint32_t i = 0; i < 255; ++i) {
      CAPTURE(i);
      const auto tie = static_cast<float>((double{map[i]} + double{map[i + 1]}) / 2);
      CHECK(nf4::nearest_in_map(map.data(), tie) == i + i % 2);
      CHECK(nf4::nearest_in_map(map.data(), std::nextafter(tie, -INFINITY)) == i);
      CHECK(nf4::nearest_in_map(map.data(), std::nextafter(tie, INFINITY)) == i + 1);
    }
  }
  SECTION("all over [-1, 1], and near 0 where the map is densest") {
    std::mt19937 random(2);
    for (const float limit : {1.0f, 1e-2f, 1e-4f, 1e-6f}) {
      for (const float x : uniform(random, 20000, -limit, limit)) check_nearest(map, x);
    }
  }
  SECTION("beyond the ends, and what is no number") {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    CHECK(nf4::nearest_in_map(map.data(), -INFINITY) == 0);
    CHECK(nf4::nearest_in_map(map.data(), -1.0f) == 0);
    CHECK(nf4::nearest_in_map(map.data(), 2.0f) == 255);
    CHECK(nf4::nearest_in_map(map.data(), INFINITY) == 255);
    CHECK(nf4::nearest_in_map(map.data(), -0.0f) == 127);
    CHECK(nf4::nearest_in_map(map.data(), nan) == 127);
  }
}

TEST_CASE("absmax: the nearest value of other maps") {
  SECTION("even steps: every second probe is a tie") {
    std::vector<float> map(256);
    for (size_t i = 0; i < map.size(); ++i) map[i] = static_cast<float>(i) - 100.0f;
    for (int i = -4; i <= 520; ++i) check_nearest(map, static_cast<float>(i) / 2.0f - 101.0f);
  }
  SECTION("random values") {
    std::mt19937 random(3);
    std::vector<float> map = uniform(random, 256, -3.0f, 5.0f);
    std::sort(map.begin(), map.end());
    for (const float x : uniform(random, 50000, -4.0f, 6.0f)) check_nearest(map, x);
  }
  SECTION("no zero in it: NaN is coded as the value nearest to 0") {
    std::vector<float> map(256);
    for (size_t i = 0; i < map.size(); ++i) map[i] = static_cast<float>(i) + 1.0f;
    CHECK(nf4::nearest_in_map(map.data(), std::numeric_limits<float>::quiet_NaN()) == 0);
  }
}

}  // namespace nf4test
