#include "report/regret_table.hpp"

#include "support/harness.hpp"

namespace nf4test {
namespace {

using namespace nf4bench;

Row row_of(int64_t m, const char* layer, const char* contender, const char* config, double microseconds) {
  Row row;
  row.problem.m = m;
  row.problem.n = 32;
  row.problem.k = 64;
  row.problem.layer = layer;
  row.contender = contender;
  row.config = config;
  row.median = microseconds;
  row.check.ok = microseconds > 0;
  return row;
}

}  // namespace

TEST_CASE("regret: geometric mean and worst of each M, both choices there, and the worst of all") {
  const std::string text = regret_table({
      row_of(1, "a.q", "selected", "gemm.a warps=4", 10),
      row_of(1, "a.q", "gemm.a", "warps=8", 8),
      row_of(1, "a.k", "selected", "gemm.a warps=4", 20),  // nothing is faster
      row_of(1, "a.o", "selected", "gemm.a warps=4", 20),
      row_of(1, "a.o", "gemm.b", "", 10),
      row_of(1, "a.o", "gemm.c", "", 16),
      row_of(8, "a.q", "selected", "gemm.b", 30),
      row_of(8, "a.q", "gemm.wrong", "", 0),
      row_of(100, "a.q", "selected", "gemm.wrong", 0),
      row_of(100, "a.q", "gemm.a", "warps=4", 5),
  });
  CAPTURE(text);
  CHECK(text ==
        "\nTime of what is selected over that of the best\n"
        "                                          problems   mean  worst  layer  selected        best\n"
        "gemm M=1, bf16, blocksize 64                     3  1.357  2.000  a.o    gemm.a warps=4  gemm.b\n"
        "gemm M=8, bf16, blocksize 64                     1  1.000  1.000  a.q    gemm.b          gemm.b\n"
        "The worst: 2.000, gemm a.o, N=32 K=64, M=1, bf16, blocksize 64: selected gemm.a warps=4, 20.00 us; best "
        "gemm.b, 10.00 us\n");
}

TEST_CASE(
    "regret: a problem is one of its own by dtype, blocksize and scales, and a shape by hand is named by its sizes") {
  Row f16 = row_of(1, "", "selected", "gemm.a", 10);
  f16.problem.dtype = NF4_F16;
  Row nested = row_of(1, "", "selected", "gemm.a", 10);
  nested.problem.nested = true;
  Row faster = row_of(1, "", "gemm.b", "warps=2", 4);
  faster.problem.nested = true;
  const std::string text = regret_table({f16, nested, faster});
  CAPTURE(text);
  CHECK(holds(text, "\ngemm M=1, f16, blocksize 64                      1  1.000  1.000  32x64  gemm.a    gemm.a\n"));
  CHECK(holds(text,
              "\ngemm M=1, bf16, blocksize 64, nested             1  2.500  2.500  32x64  gemm.a    gemm.b warps=2\n"));
  CHECK(holds(text, "\nThe worst: 2.500, gemm, N=32 K=64, M=1, bf16, blocksize 64, nested: "));
}

TEST_CASE("regret: where nothing selected was right, nothing is said") {
  CHECK(regret_table({}).empty());
  CHECK(regret_table({row_of(1, "", "selected", "gemm.a", 0), row_of(1, "", "gemm.b", "", 4)}).empty());
}

}  // namespace nf4test
