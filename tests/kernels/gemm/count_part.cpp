// Whatever a counter held before, exactly one of those that count themselves in finds that it is the last, all others
// having come before; and the counter is 0 then.
#include "gemm/count_part.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "gemm/launch_number.hpp"

namespace nf4test {
namespace {

// What memory may hold, for a launch of so many parts.
std::vector<uint64_t> contents(uint64_t launch, int parts) {
  const uint64_t none = nf4::parts_come(launch, 0);
  return {0,
          1,
          0x3f8000003f800000,                  // two floats, 1
          0xc0000000c0000000,                  // and -2
          nf4::parts_come(launch - 1, parts),  // left by a launch that did not end
          none - 1,
          nf4::parts_come(launch + 1, parts),
          UINT64_MAX - 1,  // which two additions take over the end
          UINT64_MAX};
}

// One that counts itself in a step at a time, an operation on the counter each. To make the next step it begins again,
// is told what came of those before, and stops behind the new one.
class Part {
 public:
  bool done = false, last = false, stored = false;

  void step(uint64_t& word, uint64_t launch, int parts) {
    Run run{*this, word};
    try {
      last = nf4::count_part(Counter{&run}, launch, parts);
      done = true;
    } catch (const Stop&) {
    }
  }

 private:
  struct Stop {};
  struct Run {
    Part& part;
    uint64_t& word;
    size_t told = 0;
    bool stepped = false;

    uint64_t exchange(uint64_t value) {
      if (told < part.results_.size()) return part.results_[told++];
      if (stepped) throw Stop{};
      stepped = true;
      part.results_.push_back(std::exchange(word, value));
      return part.results_[told++];
    }
  };
  struct Counter {
    Run* run;

    void maximum(uint64_t value) const { run->exchange(std::max(run->word, value)); }
    uint64_t add(uint64_t value) const { return run->exchange(run->word + value); }
    uint64_t exchange(uint64_t value) const { return run->exchange(value); }
    void store(uint64_t value) const {
      run->exchange(value);
      run->part.stored = true;
    }
  };

  std::vector<uint64_t> results_;  // of the steps so far
};

// All orders of the steps that are left; how many there are.
int64_t orders(const std::vector<Part>& parts, uint64_t word, uint64_t launch) {
  const auto count = static_cast<int>(parts.size());
  int64_t found = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (parts[i].done) continue;
    std::vector<Part> after = parts;
    uint64_t written = word;
    after[i].step(written, launch, count);
    const auto done = std::count_if(after.begin(), after.end(), [](const Part& part) { return part.done; });
    if (after[i].stored) CHECK(done == count);  // whoever empties the counter is the last that needs it
    found += orders(after, written, launch);
  }
  if (found > 0) return found;
  CHECK(std::count_if(parts.begin(), parts.end(), [](const Part& part) { return part.last; }) == 1);
  CHECK(word == 0);
  return 1;
}

}  // namespace

TEST_CASE("count_part: in a row the last knows it, whatever was there") {
  const uint64_t launch = nf4::launch_number();
  for (const int count : {1, 2, 17, 132}) {
    for (const uint64_t before : contents(launch, count)) {
      INFO(count << " parts, " << before << " before");
      uint64_t word = before;
      for (int i = 0; i < count; ++i) {
        Part part;
        while (!part.done) part.step(word, launch, count);
        CHECK(part.last == (i == count - 1));
        CHECK(word == (part.last ? 0 : nf4::parts_come(launch, i + 1)));
      }
    }
  }
}

TEST_CASE("count_part: of several at once one is the last, in any order of their steps") {
  const uint64_t launch = nf4::launch_number();
  int64_t tried = 0;
  for (const size_t count : {1, 2, 3}) {
    for (const uint64_t before : contents(launch, static_cast<int>(count))) {
      INFO(count << " parts, " << before << " before");
      tried += orders(std::vector<Part>(count), before, launch);
    }
  }
  CHECK(tried > 10000);
}

}  // namespace nf4test
