#include "tune/table.hpp"

#include <algorithm>
#include <cmath>
#include <random>

#include "formatted.hpp"
#include "support/harness.hpp"

namespace nf4test {
namespace {

using namespace nf4bench;
using Outcome = Trial::Outcome;

const std::string kDevice = "NVIDIA H200";

struct Timing {
  const char* variant;
  double microseconds;
  bool workspace = false;
};

Measured measured_of(int64_t m, int64_t n, int64_t k, const std::vector<Timing>& timings) {
  Measured out;
  out.problem.m = m;
  out.problem.n = n;
  out.problem.k = k;
  for (const Timing& t : timings) {
    out.trials.push_back({{t.variant, "c=1"}, Outcome::timed, t.workspace, false, t.microseconds});
  }
  out.trials.front().before = true;
  return out;
}

// The rows that are for kDevice, as they are written.
std::vector<std::string> lines_of(const std::vector<TableRow>& table, const std::string& device = kDevice) {
  std::vector<std::string> out;
  for (const TableRow& row : table) {
    if (row.device == device) out.push_back(table_line(row));
  }
  return out;
}

using Lines = std::vector<std::string>;

}  // namespace

TEST_CASE("tune table: one choice that is best everywhere makes one row") {
  const auto table = make_table(
      kDevice, {measured_of(1, 1024, 4096, {{"a", 4}, {"b", 8}}), measured_of(8, 8192, 8192, {{"a", 16}, {"b", 18}})});
  CHECK(lines_of(table) == Lines{"NVIDIA H200,gemm,*,*,*,*,*,a,c=1,8.00"});  // the geometric mean
}

TEST_CASE("tune table: an M between two measured ones is as the larger; N and K part at the geometric mean") {
  CHECK(lines_of(make_table(kDevice, {measured_of(4, 1000, 1000, {{"a", 1}, {"b", 2}}),
                                      measured_of(16, 1000, 1000, {{"a", 2}, {"b", 1}})})) ==
        Lines{"NVIDIA H200,gemm,*,1-4,*,*,*,a,c=1,1.00", "NVIDIA H200,gemm,*,5-,*,*,*,b,c=1,1.00"});
  CHECK(lines_of(make_table(kDevice, {measured_of(1, 1000, 64, {{"a", 1}, {"b", 2}}),
                                      measured_of(1, 4000, 64, {{"a", 2}, {"b", 1}})})) ==
        Lines{"NVIDIA H200,gemm,*,*,1-2000,*,*,a,c=1,1.00", "NVIDIA H200,gemm,*,*,2001-,*,*,b,c=1,1.00"});
  CHECK(lines_of(make_table(
            kDevice, {measured_of(1, 64, 100, {{"a", 1}, {"b", 2}}), measured_of(1, 64, 900, {{"a", 2}, {"b", 1}})})) ==
        Lines{"NVIDIA H200,gemm,*,*,*,1-300,*,a,c=1,1.00", "NVIDIA H200,gemm,*,*,*,301-,*,b,c=1,1.00"});
}

TEST_CASE("tune table: what is nearly the best saves a row, what is not does not") {
  const auto with = [](double b_at_first) {
    return lines_of(make_table(kDevice, {measured_of(1, 64, 64, {{"a", 100}, {"b", b_at_first}}),
                                         measured_of(2, 64, 64, {{"a", 120}, {"b", 100}})}));
  };
  CHECK(with(101.4).size() == 1);
  CHECK(with(101.6).size() == 2);
}

TEST_CASE("tune table: a choice that was not tried on a problem is not taken for it") {
  auto dropped = measured_of(2, 64, 64, {{"a", 100}, {"b", 101}});
  dropped.trials[0].outcome = Outcome::dropped;
  const auto table = make_table(kDevice, {measured_of(1, 64, 64, {{"a", 100}}), dropped});
  CHECK(lines_of(table).size() == 2);
}

TEST_CASE("tune table: what failed once is nowhere") {
  auto failed = measured_of(2, 64, 64, {{"a", 100}, {"b", 200}});
  failed.trials[0].outcome = Outcome::failed;
  const auto table = make_table(kDevice, {measured_of(1, 64, 64, {{"a", 100}, {"b", 200}}), failed});
  REQUIRE_FALSE(table.empty());
  for (const TableRow& row : table) CHECK(row.choice.variant == "b");
  CHECK(worst_loss(table, {measured_of(1, 64, 64, {{"a", 100}, {"b", 200}}), failed}, kDevice) == 1);
}

TEST_CASE("tune table: rows that need no workspace follow one that needs some, for the same box") {
  const auto table = make_table(kDevice, {measured_of(1, 64, 64, {{"a", 10}, {"w", 90, true}}),
                                          measured_of(64, 64, 64, {{"a", 200}, {"b", 100}, {"w", 50, true}}),
                                          measured_of(128, 64, 64, {{"a", 100}, {"b", 200}, {"w", 50, true}})});
  CHECK(lines_of(table) == Lines{"NVIDIA H200,gemm,*,1,*,*,*,a,c=1,10.00", "NVIDIA H200,gemm,*,2-,*,*,*,w,c=1,50.00",
                                 "NVIDIA H200,gemm,*,2-64,*,*,*,b,c=1,100.00",
                                 "NVIDIA H200,gemm,*,65-,*,*,*,a,c=1,100.00"});
  Problem problem;
  problem.m = 100;
  problem.n = problem.k = 64;
  CHECK(find_row(table, problem, kDevice, true)->choice.variant == "w");
  CHECK(find_row(table, problem, kDevice, false)->choice.variant == "a");
}

TEST_CASE("tune table: other devices get the variants in their order, each in its best config") {
  const auto of = [](int64_t m, int64_t n, double fused1, double fused2, double plain) {
    auto out = measured_of(m, n, 64, {{"fused", fused1}, {"plain", plain}});
    out.trials.push_back({{"fused", "c=2"}, Outcome::timed, false, false, fused2});
    return out;
  };
  const auto table = make_table(kDevice, {of(1, 64, 10, 11, 30), of(1, 128, 30, 20, 60), of(64, 64, 90, 80, 40)});
  CHECK(lines_of(table, "*") ==
        Lines{"*,gemm,*,1,*,*,*,fused,c=2,", "*,gemm,*,*,*,*,*,plain,c=1,", "*,gemm,*,2-,*,*,*,fused,c=2,"});
  CHECK(lines_of(make_table("host", {of(1, 64, 1, 1, 1)}), "*").empty());
}

TEST_CASE("tune table: bf16 and blocksize 64 serve the others, whatever was measured first") {
  auto f32 = measured_of(1, 64, 64, {{"a", 1}});
  f32.problem.dtype = NF4_F32;
  auto blocks = measured_of(1, 64, 64, {{"b", 1}});
  blocks.problem.blocksize = 128;
  auto unpack = measured_of(1, 64, 64, {{"u", 1}});
  unpack.problem.op = NF4_OP_UNPACK;
  const auto table = make_table(kDevice, {unpack, measured_of(1, 64, 64, {{"c", 1}}), f32, blocks});
  CHECK(lines_of(table) == Lines{"NVIDIA H200,gemm,f32,*,*,*,*,a,c=1,1.00", "NVIDIA H200,gemm,*,*,*,*,128,b,c=1,1.00",
                                 "NVIDIA H200,gemm,*,*,*,*,*,c,c=1,1.00", "NVIDIA H200,unpack,*,*,*,*,*,u,c=1,1.00"});
}

TEST_CASE("tune table: rows that say the same are one, unless a row between them would be passed") {
  const auto wide = [](int64_t m, double w, double a, double b) {
    return measured_of(m, 64, 64, {{"w", w, true}, {"a", a}, {"b", b}});
  };
  // Where w is best up to M = 2, a follows it there, and is the best beyond.
  const auto table = make_table(kDevice, {wide(1, 10, 20, 40), wide(2, 20, 40, 80), wide(4, 90, 80, 200)});
  CHECK(lines_of(table) == Lines{"NVIDIA H200,gemm,*,1-2,*,*,*,w,c=1,14.14", "NVIDIA H200,gemm,*,*,*,*,*,a,c=1,40.00"});
  const auto row = std::find_if(table.begin(), table.end(), [](const TableRow& r) { return r.choice.variant == "a"; });
  CHECK(row->problems.size() == 3);
  CHECK(std::abs(row->gain - std::cbrt(0.5 * 0.5 * 90 / 80)) < 1e-9);
  // Boxes that are not side by side stay two.
  const auto crossed = make_table(
      kDevice, {measured_of(1, 64, 64, {{"a", 10}, {"b", 20}}), measured_of(2, 64, 64, {{"b", 10}, {"a", 20}}),
                measured_of(4, 64, 64, {{"a", 10}, {"b", 20}})});
  CHECK(lines_of(crossed).size() == 3);
}

TEST_CASE("tune table: gains are over what was selected before") {
  auto one = measured_of(1, 64, 64, {{"old", 40}, {"new", 10}});
  const auto table = make_table(kDevice, {one, measured_of(2, 64, 64, {{"old", 90}, {"new", 90}})});
  REQUIRE(lines_of(table).size() == 1);
  CHECK(std::abs(table[0].gain - 2) < 1e-9);
  CHECK(table[0].problems.size() == 2);
}

// As many problems and choices as a run on a GPU has, with noise.
TEST_CASE("tune table: of a whole run it is small, and within a few percent of the best everywhere") {
  constexpr int64_t kShapes[][2] = {{8192, 8192}, {1024, 8192}, {28672, 8192}, {8192, 28672}, {8192, 5120},
                                    {1024, 5120}, {5120, 8192}, {25600, 5120}, {5120, 25600}, {4096, 5376},
                                    {2048, 5376}, {5376, 4096}, {21504, 5376}, {5376, 21504}};
  std::mt19937 random(11);
  std::normal_distribution<double> noise(0, 0.01);
  std::vector<Measured> measured;
  for (const auto& [n, k] : kShapes) {
    for (const int64_t m : {1, 2, 4, 8, 16, 32, 64, 128, 256, 1024}) {
      Measured one;
      one.problem.m = m;
      one.problem.n = n;
      one.problem.k = k;
      for (int i = 0; i < 40; ++i) {
        // Each choice has an M and a size that it is made for.
        const double away = std::abs(std::log2(static_cast<double>(m)) - i % 10) * 0.1 +
                            std::abs(std::log2(static_cast<double>(n * k)) - 22 - i / 10 * 2) * 0.05;
        const bool workspace = i % 10 == 9;
        one.trials.push_back({{nf4::formatted("v{}", i % 10), nf4::formatted("c={}", i)},
                              away < 0.2 ? Outcome::timed : Outcome::dropped,
                              workspace,
                              i == 0,
                              std::exp(away + noise(random)) * static_cast<double>(n * k) * 1e-6});
      }
      measured.push_back(one);
    }
  }
  const auto table = make_table(kDevice, measured);
  CHECK(worst_loss(table, measured, kDevice) <= kMerged);
  const auto rows = lines_of(table).size();
  CHECK(rows >= 10);
  CHECK(rows <= 120);
  CHECK(lines_of(table, "*").size() <= 120);

  // The same measurements in another order, or a second time, give the same choices.
  CHECK(table_text(make_table(kDevice, measured), "") == table_text(table, ""));
  std::vector<Measured> shuffled = measured;
  std::shuffle(shuffled.begin(), shuffled.end(), random);
  CHECK(table_text(make_table(kDevice, shuffled), "") == table_text(table, ""));
}

}  // namespace nf4test
