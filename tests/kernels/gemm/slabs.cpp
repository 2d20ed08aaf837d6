#include "gemm/slabs.hpp"

#include "catch.hpp"

namespace nf4test {

using nf4::Slabs;

TEST_CASE("slabs: cover the columns, none is larger than may be, and all are about as wide") {
  for (const int64_t rows : {1, 3, 1024, 4096, 14336, 128256, 1 << 30}) {
    for (const int64_t cols : {1, 8, 255, 256, 257, 264, 512, 1024, 4096, 4104, 28672, 1 << 20}) {
      for (const int64_t element : {2, 4}) {
        for (const int64_t bytes : {1 << 20, 32 << 20, 64 << 20}) {
          CAPTURE(rows, cols, element, bytes);
          const Slabs slabs = Slabs::of(rows, cols, element, bytes);
          const bool one_step = slabs.width <= nf4::kSlabStep;
          CHECK((slabs.width == cols || slabs.width % nf4::kSlabStep == 0));
          CHECK((one_step || slabs.width * rows * element <= bytes));
          // With so many slabs none could be narrower.
          const int64_t count = (cols + slabs.width - 1) / slabs.width;
          CHECK((one_step || (slabs.width - nf4::kSlabStep) * count < cols));
          int64_t covered = 0;
          for (int64_t begin = 0; begin < cols; begin += slabs.width) covered += slabs.width_at(begin);
          CHECK(covered == cols);
        }
      }
    }
  }
}

TEST_CASE("slabs: as wide as they may be") {
  CHECK(Slabs::of(4096, 4096, 2, 32 << 20).width == 4096);
  CHECK(Slabs::of(4096, 4096, 2, (32 << 20) - 1).width == 2048);
  CHECK(Slabs::of(14336, 4096, 2, 64 << 20).width == 2048);
  CHECK(Slabs::of(1 << 30, 4096, 2, 64 << 20).width == 256);
  CHECK(Slabs::of(0, 100, 2, 64 << 20).width == 100);
}

}  // namespace nf4test
