// Spreads independent items over the machine's threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <exception>
#include <thread>
#include <vector>

namespace nf4 {

// Calls body(begin, end) for contiguous ranges that cover [0, items), at most one range per thread; `cost` is the rough
// number of operations per item, since starting a thread costs as much as tens of thousands. The body must not throw.
// Nor does this: what cannot be had for threads costs time alone, so work that has begun is always completed.
template <class Body>
void parallel_for(int threads, int64_t items, int64_t cost, const Body& body) noexcept {
  constexpr int64_t kOperationsPerThread = 1 << 16;
  const int64_t worthwhile =
      std::max<int64_t>(1, items / std::max<int64_t>(1, kOperationsPerThread / std::max<int64_t>(1, cost)));
  const int64_t parts = std::clamp<int64_t>(std::min<int64_t>(worthwhile, items), 1, threads);
  const auto bound = [&](int64_t part) { return items / parts * part + std::min(part, items % parts); };
  std::vector<std::jthread> pool;
  int64_t part = 0;
  try {
    pool.reserve(static_cast<size_t>(parts - 1));
    for (; part + 1 < parts; ++part)
      pool.emplace_back([&body, begin = bound(part), end = bound(part + 1)] { body(begin, end); });
  } catch (const std::exception&) {
    // No more threads to be had, or no memory for one: this one does the rest.
  }
  body(bound(part), items);
}

}  // namespace nf4
