// Dividing work into equal shares.
#pragma once

namespace nf4 {

// An equal share for each of `count` takers: the first `larger` get one more than `size`.
struct Shares {
  int count;
  int size;
  int larger;

  template <class Int>
  static constexpr Shares of(Int items, int count) {
    return {count, static_cast<int>(items / count), static_cast<int>(items % count)};
  }
  constexpr int begin(int taker) const { return taker * size + (taker < larger ? taker : larger); }
  constexpr int taker(int item) const {
    const int in_larger = larger * (size + 1);
    return item < in_larger ? item / (size + 1) : larger + (item - in_larger) / size;
  }
};

}  // namespace nf4
