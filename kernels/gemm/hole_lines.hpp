// Lines of 128 bytes in the holes of the pair table, and behind it.
//
// Shared memory is little beside a table of 64 KiB whose holes are half of it, so what streams lies in lines of 128
// bytes, 256 bytes apart: in the upper halves of all 256 bytes, the table's holes among them, and in the lower halves
// behind the table. A slot of a ring is so many lines of one of these two columns that follow one another.
#pragma once

#include <algorithm>

#include "format/hd.hpp"
#include "gemm/pair_sizes.hpp"

namespace nf4 {

constexpr int kLinePitch = PairTableSizes::kEntryBytes;  // bytes from one line to the next

// Where the slots of a ring lie, in bytes: the first `split` in one column of lines, the rest in the other.
struct LineSlots {
  int lower, upper;  // where slot 0 of either column is, or would be
  int split;
  int bytes;  // from slot to slot

  NF4_HD int at(int slot) const { return (slot < split ? lower : upper) + slot * bytes; }
};

// Room in the two columns of so many bytes, handed out slot by slot.
class HoleLines {
 public:
  explicit HoleLines(int bytes)
      : upper_{PairTableSizes::kUsedBytes, bytes / kLinePitch},
        lower_{PairTableSizes::kBytes, (bytes - PairTableSizes::kBytes) / kLinePitch} {}

  // False if there is no room for so many slots of so many lines each.
  bool take(int slots, int lines, LineSlots& taken) {
    taken.bytes = lines * kLinePitch;
    taken.split = std::min(slots, lower_.lines / lines);
    const int rest = slots - taken.split;
    if (rest * lines > upper_.lines) return false;
    taken.lower = lower_.take(taken.split * lines);
    taken.upper = upper_.take(rest * lines) - taken.split * taken.bytes;
    return true;
  }

 private:
  struct Column {
    int begin;  // offset of the next line
    int lines;  // left

    int take(int count) {
      const int from = begin;
      begin += count * kLinePitch;
      lines -= count;
      return from;
    }
  };

  Column upper_, lower_;
};

}  // namespace nf4
