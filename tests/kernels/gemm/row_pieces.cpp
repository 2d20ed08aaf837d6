// Every element of W is in one piece of one place, x meets it there, and lanes hold what they read.
#include "gemm/row_pieces.hpp"

#include <algorithm>
#include <set>

#include "catch.hpp"

namespace nf4test {
namespace {

// Walks over the rows as gemm.fma does, with blocks of rows in the order of classes: each row once, its pieces those of
// flattened W, and the neighbours of a run at the distances that the run tells.
template <int Piece>
void check_rows(int64_t rows, int64_t cols, int64_t blocks) {
  INFO("pieces of " << Piece << ", " << rows << " x " << cols << ", " << blocks << " blocks");
  const nf4::RowPieces<Piece> pieces(rows, cols);
  const nf4::EqualRuns shares(rows, blocks);
  CHECK(shares.begin(0) == 0);
  CHECK(shares.begin(blocks) == rows);
  std::set<int64_t> seen;
  int64_t wrong = 0;
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t end = shares.begin(block + 1);
    for (int64_t place = shares.begin(block); place < end;) {
      wrong += shares.run_of(place) != block;
      const auto run = pieces.at(place);
      wrong += run.rows < 1 || run.shift < 0 || run.shift >= Piece || run.columns > pieces.most_columns();
      const int64_t taken = std::min(run.rows, end - place);
      for (int64_t j = 0; j < taken; ++j) {
        const int64_t row = run.row + j * pieces.classes;
        const int64_t first = run.piece + j * pieces.stride;
        wrong += row >= rows || !seen.insert(row).second;
        wrong += first * Piece + run.shift != row * cols;                        // begins there
        wrong += (first + run.columns) * Piece < (row + 1) * cols;               // and has room
        wrong += (first + run.columns - 1) * Piece >= (row + 1) * cols && cols;  // but none to spare
      }
      place += taken;
    }
  }
  CHECK(wrong == 0);
  CHECK(static_cast<int64_t>(seen.size()) == rows);
}

// transpose() of gemm.fma: lanes exchange within groups of Piece.
template <int Piece>
void check_transpose() {
  std::set<int> read;
  int wrong = 0;
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < Piece; ++i) {
      const int group = lane / Piece * Piece;
      wrong += nf4::held_element<Piece>(lane, i) != nf4::read_element<Piece>(group + i, lane % Piece);
      wrong += lane % Piece != 0 && nf4::read_element<Piece>(lane, i) != nf4::read_element<Piece>(lane - 1, i) + 1;
      read.insert(nf4::read_element<Piece>(lane, i));
    }
  }
  CHECK(wrong == 0);
  CHECK(read.size() == size_t{32} * Piece);
  CHECK(*read.rbegin() == 32 * Piece - 1);
}

}  // namespace

TEST_CASE("row_pieces: every row is taken once, and lies in its pieces") {
  for (const int64_t cols : {0, 1, 2, 8, 24, 31, 32, 33, 48, 64, 342, 1023, 3420, 5376}) {
    for (const int64_t rows : {1, 3, 31, 32, 33, 200}) {
      for (const int64_t blocks : {1, 2, 7, 132}) {
        check_rows<16>(rows, cols, std::min(rows, blocks));
        check_rows<32>(rows, cols, std::min(rows, blocks));
      }
    }
  }
}

TEST_CASE("row_pieces: more than 2^32 elements") {
  constexpr int64_t kLarge = (int64_t{1} << 30) - 4;
  const nf4::RowPieces<32> pieces(kLarge, kLarge);
  CHECK(pieces.classes == 8);
  for (const int64_t place : {int64_t{0}, int64_t{12345678}, kLarge / 2, kLarge - 1}) {
    const auto run = pieces.at(place);
    CHECK(run.piece * 32 + run.shift == run.row * kLarge);
    CHECK((run.row + pieces.classes) * kLarge == (run.piece + pieces.stride) * 32 + run.shift);
  }
}

TEST_CASE("row_pieces: a lane holds consecutive elements after the exchange, and reads are runs") {
  check_transpose<16>();
  check_transpose<32>();
}

}  // namespace nf4test
