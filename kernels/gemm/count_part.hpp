// How CTAs that meet count themselves in, by atomic operations on a counter in memory whose contents nobody knows
// before: in plain C++, so that all orders of the operations are tested without a GPU.
//
// A counter holds the launch's number (launch_number.hpp) and how many have come. What was there before is another's:
// at the end of a launch all counters that it used are 0 again, so the number may come again when a graph is replayed.
#pragma once

#include <cstdint>

#include "format/hd.hpp"

namespace nf4 {

// What a counter holds when so many parts of a launch have come.
NF4_HD constexpr uint64_t parts_come(uint64_t launch, int parts) { return launch << 16 | static_cast<uint64_t>(parts); }

// Counts one in; true for the last of `parts`. By additions, since of those that compare and swap at the same time all
// but one have to try again. `Counter` has maximum(value) and store(value), and add(value) and exchange(value), which
// return what was there.
#ifdef __CUDACC__
#pragma nv_exec_check_disable
#endif
template <class Counter>
NF4_HD bool count_part(const Counter& counter, uint64_t launch, int parts) {
  unsigned come = 1;
  counter.maximum(parts_come(launch, 0));  // in place of what is less, as nearly all is that was there before
  uint64_t old = counter.add(1);
  if (old >> 16 != launch) {  // it was more; whom this takes away with it, it counts in again
    old = counter.exchange(parts_come(launch, 0));
    if (old >> 16 == launch) come += static_cast<unsigned>(old & 0xffff);
    old = counter.add(come);
  }
  if (static_cast<unsigned>(old & 0xffff) + come != static_cast<unsigned>(parts)) return false;
  counter.store(0);
  return true;
}

}  // namespace nf4
