// What gemm.fma lays out: for any sizes of W every column of a row is some warp's, and all sums have room.
#include "fma_layout.hpp"

#include "catch.hpp"
#include "gemm/row_pieces.hpp"
#include "layouts.hpp"

namespace nf4test {
namespace {

template <int Cols>
void check_fma_layouts() {
  constexpr int kPiece = nf4::fma_piece(Cols);
  INFO(Cols << " rows of x");
  std::string fault;  // the first
  for (const int multiprocessors : {1, 40, 132}) {
    for (const int at_once : {8, 4, 2}) {
      for (const int64_t k : {1, 31, 33, 63, 64, 1000, 3420, 4096, 14336, 28672, 100001, 1 << 30}) {
        for (const int64_t n : layout_rows()) {
          const int64_t blocks = std::min<int64_t>(n, multiprocessors);
          const auto plan =
              nf4::FmaPlan::of(nf4::RowPieces<kPiece>(n, k).most_columns(), nf4::ceil_div(n, blocks), Cols, at_once);
          const std::string wrong = wrong_with(plan, n, k, Cols, blocks, at_once);
          if (!wrong.empty() && fault.empty())
            fault = wrong + ": " + std::to_string(n) + " x " + std::to_string(k) + ", rows=" + std::to_string(at_once) +
                    ", " + std::to_string(multiprocessors) + " SMs";
        }
      }
    }
  }
  CHECK(fault == "");
}

}  // namespace

TEST_CASE("fma_layout: every column has its warp and every sum its place, for any sizes") {
  check_fma_layouts<1>();
  check_fma_layouts<2>();
  check_fma_layouts<4>();
}

}  // namespace nf4test
