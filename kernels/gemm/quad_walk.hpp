// The order in which write_totals() (totals.cuh) goes over what a CTA writes, in plain C++: it is tested without a GPU.
#pragma once

#include "format/hd.hpp"

namespace nf4 {

// How a thread goes over sums of rows of x by rows of W, 4 of those, a quad, at a time: from quad to quad of a row of
// x, and from row to row of those that fall to its CTA, which are every `cluster`-th. The threads of a block take
// neighbours.
class QuadWalk {
 public:
  static constexpr int kRows = 4;  // of W, in a quad

  NF4_HD QuadWalk(int rows, int thread, int threads, int cluster, int rank)
      : quads_((rows + kRows - 1) / kRows),
        cluster_(cluster),
        cols_on_(threads / quads_ * cluster),
        quads_on_(threads % quads_),
        col_(rank + thread / quads_ * cluster),
        quad_(thread % quads_) {}

  NF4_HD int col() const { return col_; }           // row of x
  NF4_HD int row() const { return quad_ * kRows; }  // of W, the first

  // Goes to the thread's next quad, and tells `move` by how many rows of x and of W, in one part or two: what lies
  // there is found by additions, since to multiply it out each time would take as long as the rest.
  template <class Move>
  NF4_HD void advance(const Move& move) {
    go(cols_on_, quads_on_, move);
    if (quad_ >= quads_) go(cluster_, -quads_, move);
  }

 private:
  template <class Move>
  NF4_HD void go(int cols, int quads, const Move& move) {
    col_ += cols;
    quad_ += quads;
    move(cols, quads * kRows);
  }

  int quads_;  // of a row of x
  int cluster_;
  int cols_on_, quads_on_;
  int col_, quad_;
};

}  // namespace nf4
