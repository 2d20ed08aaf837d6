#include "report/summary.hpp"

#include "report/progress.hpp"
#include "support/harness.hpp"

namespace nf4test {
namespace {

using namespace nf4bench;

Row row_of(const char* contender, int64_t m, int64_t n, double microseconds, bool is_peer = false) {
  Row row;
  row.problem.m = m;
  row.problem.n = n;
  row.problem.k = 64;
  row.contender = contender;
  row.is_peer = is_peer;
  row.is_variant = !is_peer && row.contender != "selected";
  row.median = microseconds;
  return row;
}

}  // namespace

TEST_CASE("summary: geometric means over the shapes of each M, and the worst choice") {
  const std::string text =
      summary({row_of("selected", 1, 32, 10), row_of("gemm.a", 1, 32, 9.8), row_of("peer", 1, 32, 20, true),
               row_of("selected", 1, 64, 10), row_of("gemm.a", 1, 64, 8), row_of("peer", 1, 64, 80, true),
               row_of("selected", 4, 64, 10), row_of("peer", 4, 64, 0, true)},
              {"peer"});
  CAPTURE(text);
  CHECK(holds(text, "gemm M=1, bf16, blocksize 64                 4.00 (2)  1.25 (64x64)\n"));
  CHECK(holds(text, "gemm M=4, bf16, blocksize 64                        -  -\n"));
}

TEST_CASE("summary: nothing to compare, nothing said") {
  CHECK(summary({}, {"peer"}).empty());
  CHECK(summary({row_of("selected", 1, 32, 10)}, {}).empty());
}

TEST_CASE("progress: a bar, and the time left by the time that was taken") {
  CHECK(progress_text(0, 4, 0, "first") == "[....................] 0/4: first");
  CHECK(progress_text(1, 4, 25, "second") == "[#####...............] 1/4, 1:15 left: second");
  CHECK(progress_text(4, 4, 100, "") == "[####################] 4/4, 0:00 left: ");
}

}  // namespace nf4test
