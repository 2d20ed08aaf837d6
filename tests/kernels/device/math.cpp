// Divisions without a division are exact.
#include "device/math.hpp"

#include <random>

#include "catch.hpp"

namespace nf4test {

TEST_CASE("math: a divisor divides") {
  std::mt19937 random(3);
  int wrong = 0;
  for (int divisor = 1; divisor < 3000; ++divisor) {
    const auto by = nf4::Divisor::of(divisor);
    const int most = 0x7fffffff / divisor;  // a * divisor stays below 2^31
    const auto check = [&](int a) { wrong += by.quotient(a) != a / divisor; };
    for (int i = 0; i < 200; ++i) {
      const int multiple = std::uniform_int_distribution<int>(0, most / divisor)(random) * divisor;
      check(multiple);
      if (multiple > 0) check(multiple - 1);  // where a quotient that is too large would show first
    }
    check(most);
  }
  CHECK(wrong == 0);
}

}  // namespace nf4test
