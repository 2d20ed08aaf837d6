#include "rcu.hpp"

#include <atomic>
#include <thread>
#include <vector>

#include "catch.hpp"

namespace nf4test {
namespace {

// An object that knows whether it lives, and how many do.
struct Counted {
  static inline std::atomic<int> live{0};

  explicit Counted(int the_value) : value(the_value) { ++live; }
  ~Counted() {
    value = -1;
    --live;
  }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;

  int value;
};

using Shared = nf4::Rcu<Counted>;

}  // namespace

TEST_CASE("rcu: without readers what is replaced is freed at once") {
  {
    Shared shared(std::make_unique<Counted>(0));
    for (int i = 1; i < 10; ++i) {
      shared.replace(std::make_unique<Counted>(i));
      CHECK(Counted::live == 1);
      CHECK(shared.read()->value == i);
    }
  }
  CHECK(Counted::live == 0);
}

TEST_CASE("rcu: what a reader has lives until it leaves, however often it is replaced") {
  Shared shared(std::make_unique<Counted>(0));
  {
    const Shared::Reader reader(shared);
    for (int i = 1; i < 10; ++i) {
      shared.replace(std::make_unique<Counted>(i));
      CHECK(reader->value == 0);
      CHECK(shared.read()->value == i);
    }
  }
  shared.replace(std::make_unique<Counted>(10));
  CHECK(Counted::live == 1);
}

TEST_CASE("rcu: readers that come and go without end, one always there, keep none of what was replaced before them") {
  Shared shared(std::make_unique<Counted>(0));
  auto reader = std::make_unique<Shared::Reader>(shared);
  for (int i = 1; i < 100; ++i) {
    auto next = std::make_unique<Shared::Reader>(shared);
    shared.replace(std::make_unique<Counted>(i));
    CHECK((*next)->value >= i - 1);
    reader = std::move(next);
    CHECK(Counted::live <= 6);
  }
}

TEST_CASE("rcu: threads read while others replace") {
  {
    Shared shared(std::make_unique<Counted>(0));
    std::atomic<bool> done{false};
    std::atomic<int> dead{0};
    std::vector<std::thread> readers;
    for (int i = 0; i < 4; ++i) {
      readers.emplace_back([&] {
        while (!done) {
          const Shared::Reader reader(shared);
          if (reader->value < 0) ++dead;
        }
      });
    }
    std::vector<std::thread> writers;
    for (int i = 0; i < 2; ++i) {
      writers.emplace_back([&] {
        for (int value = 1; value < 2000; ++value) shared.replace(std::make_unique<Counted>(value));
      });
    }
    for (std::thread& writer : writers) writer.join();
    done = true;
    for (std::thread& reader : readers) reader.join();
    CHECK(dead == 0);
    shared.replace(std::make_unique<Counted>(0));
    CHECK(Counted::live == 1);
  }
  CHECK(Counted::live == 0);
}

}  // namespace nf4test
