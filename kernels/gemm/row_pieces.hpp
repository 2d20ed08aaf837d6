// Rows of W as runs of pieces: `Piece` consecutive elements of flattened W, 16 or 32, beginning at a multiple of that.
// A piece is an aligned load of codes where the codes are aligned, and lies in one block of the format, whatever K is.
//
// Row n begins at element n * K, `shift` elements into its first piece. Rows are of one class if they have the same
// shift; there are Piece / gcd(K, Piece) classes, rows of one class follow each other at that distance, and their first
// pieces at a constant one. With K = 24 and pieces of 16:
//
//     piece     0                1                2                3                4
//               [row 0           :       |row 1           :       ][row 2          ...
//     shift      0                        8                         0                       2 classes
//
// Rows are taken in the order of their classes: 0, 2, 4, ..., 1, 3, 5, ... So rows that are taken together need the
// same values of x in the same places.
#pragma once

#include <cstdint>

#include "format/hd.hpp"

namespace nf4 {

// `items` in `count` runs, one after the other, the first of them one longer than the others where they are not equal.
struct EqualRuns {
  int64_t size;
  int64_t larger;  // how many have one more

  NF4_HD EqualRuns(int64_t items, int64_t count) : size(items / count), larger(items % count) {}

  NF4_HD int64_t begin(int64_t run) const { return run * size + (run < larger ? run : larger); }
  NF4_HD int64_t run_of(int64_t item) const {
    const int64_t in_larger = larger * (size + 1);
    return item < in_larger ? item / (size + 1) : larger + (item - in_larger) / size;
  }
};

template <int Piece>
struct RowPieces {
  int64_t cols;  // below 2^31
  int classes;
  int stride;         // pieces between the first ones of two neighbours in a class
  EqualRuns members;  // rows, of classes

  NF4_HD RowPieces(int64_t rows, int64_t the_cols)
      : cols(the_cols),
        classes(static_cast<int>(Piece / common(the_cols))),
        stride(static_cast<int>(the_cols / common(the_cols))),
        members(rows, classes) {}

  // What begins at a place in the order of classes.
  struct Run {
    int64_t row;    // the row there; its neighbours in the class follow at distance `classes`
    int64_t rows;   // of the class, from here on
    int64_t piece;  // its first piece
    int shift;      // of its first element in that
    int columns;    // pieces that it touches
  };
  NF4_HD Run at(int64_t place) const {
    const int64_t c = members.run_of(place);
    const int64_t in_class = place - members.begin(c);
    const auto shift = static_cast<int>(c * cols % Piece);
    return {c + in_class * classes, members.begin(c + 1) - place, c * cols / Piece + in_class * stride, shift,
            static_cast<int>((shift + cols + Piece - 1) / Piece)};
  }

  // The most pieces that a row touches.
  NF4_HD int64_t most_columns() const { return (cols + (classes > 1 ? 2 * Piece - 2 : Piece - 1)) / Piece; }

 private:
  static NF4_HD int64_t common(int64_t k) {  // the largest power of two that divides both K and Piece
    const int64_t divisor = k & -k;
    return divisor == 0 || divisor > Piece ? Piece : divisor;
  }
};

// Which element of x lane `lane` reads for its value i of Piece x 32, so that a warp's reads are runs of consecutive
// elements; and after transpose() which it holds: Piece consecutive ones, lane after lane. Lanes exchange within groups
// of Piece.
template <int Piece>
NF4_HD int read_element(int lane, int i) {
  return lane / Piece * Piece * Piece + i * Piece + lane % Piece;
}
template <int Piece>
NF4_HD int held_element(int lane, int i) {
  return lane * Piece + i;
}

}  // namespace nf4
