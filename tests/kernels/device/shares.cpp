// Every item is in one share.
#include "device/shares.hpp"

#include "catch.hpp"

namespace nf4test {

TEST_CASE("shares: each item has one taker") {
  for (int items = 0; items <= 70; ++items) {
    for (int count = 1; count <= 13; ++count) {
      INFO(items << " items, " << count << " takers");
      const auto shares = nf4::Shares::of(items, count);
      CHECK(shares.begin(0) == 0);
      CHECK(shares.begin(count) == items);
      int wrong = 0;
      for (int taker = 0; taker < count; ++taker) {
        const int size = shares.begin(taker + 1) - shares.begin(taker);
        wrong += size != items / count && size != items / count + 1;
        for (int item = shares.begin(taker); item < shares.begin(taker + 1); ++item)
          wrong += shares.taker(item) != taker;
      }
      CHECK(wrong == 0);
    }
  }
}

}  // namespace nf4test
