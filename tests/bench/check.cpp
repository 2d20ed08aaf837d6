// Contenders that are wrong, each in one way: the checker must tell.
#include "check.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>

#include "formatted.hpp"
#include "report/csv.hpp"
#include "report/table.hpp"
#include "status.hpp"
#include "support/harness.hpp"

namespace nf4test {
namespace {

using namespace nf4bench;

using Spoil = std::function<void(Workload&)>;

// What the library selects, spoiled after each run.
class Spoiled final : public Contender {
 public:
  Spoiled(nf4_handle_t handle, nf4_op_t op, Spoil spoil, bool is_peer)
      : right_(std::move(nf4_contenders(handle, op, {kSelected}).front())), spoil_(std::move(spoil)), peer_(is_peer) {}

  std::string name() const override { return "spoiled"; }
  bool is_peer() const override { return peer_; }
  bool supports(const Problem& problem) const override { return right_->supports(problem); }
  double accuracy_g(const Problem& problem) const override { return right_->accuracy_g(problem); }
  void prepare(Workload& workload) override { right_->prepare(workload); }
  void run(Workload& workload, int set, nf4_stream_t stream) override {
    right_->run(workload, set, stream);
    spoil_(workload);
  }

 private:
  std::unique_ptr<Contender> right_;
  Spoil spoil_;
  bool peer_;
};

// Gives the right results before it is asked, and nothing then: the checker must not take them for its own.
class Silent final : public Contender {
 public:
  explicit Silent(Contender& right) : right_(right) {}

  std::string name() const override { return "silent"; }
  bool is_peer() const override { return false; }
  bool supports(const Problem& problem) const override { return right_.supports(problem); }
  double accuracy_g(const Problem& problem) const override { return right_.accuracy_g(problem); }
  void prepare(Workload& workload) override {
    right_.prepare(workload);
    workload.device().run([&](int set, nf4_stream_t stream) { right_.run(workload, set, stream); });
  }
  void run(Workload&, int, nf4_stream_t) override {}

 private:
  Contender& right_;
};

// What an operation writes: where, and how many bytes.
using Memory = std::pair<const void*, int64_t>;

std::vector<Memory> outputs_of(Workload& workload, int set) {
  const Problem& p = workload.problem();
  const int64_t size = nf4ref::size_of(p.dtype);
  switch (p.op) {
    case NF4_OP_UNPACK:
      return {{workload.dense(set), p.elements() * size}};
    case NF4_OP_PACK:
      return {{workload.codes(set), p.code_bytes()}, {workload.scales(set), p.blocks() * 4}};
    case NF4_OP_PACK_ABSMAX:
      return {{workload.scales(set), p.blocks()}, {workload.scales2(set), p.groups() * 4}, {workload.offset(), 4}};
    case NF4_OP_UNPACK_ABSMAX:
      return {{workload.absmax(set), p.blocks() * 4}};
    default:
      return {{workload.y(), p.slots() * p.n * size}};
  }
}

int64_t unpoisoned(const std::vector<Memory>& outputs) {
  int64_t count = 0;
  for (const auto& [memory, bytes] : outputs) {
    const auto* const begin = static_cast<const unsigned char*>(memory);
    count += std::count_if(begin, begin + bytes, [](unsigned char byte) { return byte != 0xff; });
  }
  return count;
}

// What the library selects, which tells how it found the outputs.
class Looking final : public Contender {
 public:
  explicit Looking(Contender& right) : right_(right) {}

  std::string name() const override { return "looking"; }
  bool is_peer() const override { return false; }
  bool supports(const Problem& problem) const override { return right_.supports(problem); }
  double accuracy_g(const Problem& problem) const override { return right_.accuracy_g(problem); }
  void prepare(Workload& workload) override { right_.prepare(workload); }
  void run(Workload& workload, int set, nf4_stream_t stream) override {
    found_ = unpoisoned(outputs_of(workload, set));
    right_.run(workload, set, stream);
  }

  int64_t found() const { return found_; }  // bytes that were not poisoned

 private:
  Contender& right_;
  int64_t found_ = -1;
};

Problem problem_of(nf4_op_t op, nf4_dtype_t dtype = NF4_F32) {
  Problem problem;
  problem.dtype = dtype;
  problem.m = 3;
  problem.n = 24;
  problem.k = 96;
  problem.nested = true;
  problem.experts = 4;
  problem.top_k = 2;
  if (op == NF4_OP_GEMM || op == NF4_OP_UNPACK) problem.nested = false;
  return with_op(problem, op);
}

Row row_of(const Problem& problem, const Spoil& spoil, bool is_peer = false, bool hot = true) {
  const std::unique_ptr<Device> device = open_host_device();
  const Handle handle = make_handle(NF4_HOST_DEVICE);
  Workload workload(*device, handle.get(), problem, hot, false);
  Spoiled contender(handle.get(), problem.op, spoil, is_peer);
  return measure(workload, contender, kGlance);
}

// Holds that such a result is told to be wrong, as `what`, in every report, and not timed.
void check_failed(const Problem& problem, const Spoil& spoil, const std::string& what) {
  const Row row = row_of(problem, spoil);
  CAPTURE(describe(problem), what, row.check.what);
  CHECK_FALSE(row.check.ok);
  CHECK(holds(row.check.what, what));
  CHECK(row.median == 0);
  const std::vector<Line> lines = lines_of({}, {row});
  CHECK(holds(table_of({}, lines), "FAILED: " + row.check.what));
  CHECK(holds(csv_line(lines.front()), ",FAILED,\"" + row.check.what + "\"\n"));
}

void nothing(Workload&) {}

Spoil next_float(std::function<float*(Workload&)> place) {
  return [place](Workload& workload) {
    float& value = *place(workload);
    value = std::nextafter(value, std::numeric_limits<float>::infinity());
  };
}

// A byte of 0xff in each place, as outputs begin.
Spoil unwritten(std::function<void*(Workload&)> place, size_t bytes) {
  return [place, bytes](Workload& workload) { std::memset(place(workload), 0xff, bytes); };
}

float* y_of(Workload& workload) { return static_cast<float*>(workload.y()); }
float* dense_of(Workload& workload) { return static_cast<float*>(workload.dense(0)); }
float* scales_of(Workload& workload) { return static_cast<float*>(workload.scales(0)); }
uint8_t* scale_codes_of(Workload& workload) { return static_cast<uint8_t*>(workload.scales(0)); }

}  // namespace

TEST_CASE("check: what is right is right, and timed") {
  for (const nf4_op_t op : kAllOps) {
    for (const nf4_dtype_t dtype : kAllDtypes) {
      const Row row = row_of(problem_of(op, dtype), nothing);
      CAPTURE(describe(row.problem), row.check.what);
      CHECK(row.check.ok);
      CHECK(row.median > 0);
      CHECK(row.check.differences == 0);
      const bool product = is_product(op);
      CHECK((row.check.worst > 0) == product);
      CHECK(row.check.worst <= 1);
      CHECK((row.check.relative_error > 0) == product);
      CHECK(row.check.relative_error < 0.01);
    }
  }
}

TEST_CASE("check: a wrong output of a product, the first or the last") {
  const Problem problem = problem_of(NF4_OP_GEMM);
  for (const int64_t i : {int64_t{0}, problem.m * problem.n - 1}) {
    CAPTURE(i);
    const auto told = nf4::formatted("1 of {} outputs are outside the bound; output {} is ", problem.m * problem.n, i);
    check_failed(
        problem, [i](Workload& w) { y_of(w)[i] += 1e-3f; }, told);
    check_failed(
        problem, [i](Workload& w) { y_of(w)[i] = NAN; }, told + "nan");
    check_failed(
        problem, [i](Workload& w) { y_of(w)[i] = -INFINITY; }, told + "-inf");
    check_failed(problem, unwritten([i](Workload& w) { return y_of(w) + i; }, 4), told);
  }
  check_failed(problem, unwritten(y_of, 4 * 3 * 24), "72 of 72 outputs are outside the bound; output 0 is ");
}

TEST_CASE("check: an output of a product that is just outside its bound, or just within") {
  const Problem problem = problem_of(NF4_OP_GEMM);
  const auto off_by = [](double bounds) {
    return [bounds](Workload& w) {
      const nf4ref::Reference& reference = w.references()[5];
      const double g = nf4ref::accuracy_g("exact", NF4_F32, 96);
      y_of(w)[5] = static_cast<float>(reference.y + bounds * nf4ref::bound(reference, NF4_F32, g));
    };
  };
  check_failed(problem, off_by(2.5), "1 of 72 outputs are outside the bound; output 5 is ");
  CHECK(row_of(problem, off_by(0)).check.ok);
}

TEST_CASE("check: a wrong output of the second product of a group") {
  Problem problem = problem_of(NF4_OP_GEMM);
  problem.parts = {16, 8};
  CHECK(row_of(problem, nothing).check.ok);
  // The first product's [3, 16] lies before the second's [3, 8].
  check_failed(
      problem, [](Workload& w) { y_of(w)[3 * 16 + 8 + 7] += 1e-3f; }, "1 of 72 outputs are outside the bound");
}

TEST_CASE("check: a wrong element of unpack") {
  const Problem problem = problem_of(NF4_OP_UNPACK);
  for (const int64_t i : {int64_t{0}, problem.elements() - 1}) {
    CAPTURE(i);
    const std::string told = "1 of 2304 elements differ from fp32 arithmetic";
    check_failed(problem, next_float([i](Workload& w) { return dense_of(w) + i; }), told);
    check_failed(
        problem, [i](Workload& w) { dense_of(w)[i] = NAN; }, told);
    check_failed(problem, unwritten([i](Workload& w) { return dense_of(w) + i; }, 4), told);
  }
  check_failed(problem, unwritten(dense_of, 4 * 2304), "2304 of 2304 elements differ");
}

TEST_CASE("check: a wrong code or scale of pack") {
  const Problem problem = problem_of(NF4_OP_PACK);
  for (const int64_t i : {int64_t{0}, problem.code_bytes() - 1}) {
    CAPTURE(i);
    check_failed(
        problem, [i](Workload& w) { w.codes(0)[i] ^= 0x10; }, "1 of 2304 codes differ");
    check_failed(
        problem, [i](Workload& w) { w.codes(0)[i] ^= 0x01; }, "1 of 2304 codes differ");
    check_failed(
        problem, [i](Workload& w) { w.codes(0)[i] ^= 0x88; }, "2 of 2304 codes differ");
  }
  for (const int64_t i : {int64_t{0}, problem.blocks() - 1}) {
    CAPTURE(i);
    check_failed(problem, next_float([i](Workload& w) { return scales_of(w) + i; }), "1 of 36 absmax differ");
    check_failed(
        problem, [i](Workload& w) { scales_of(w)[i] = NAN; }, "1 of 36 absmax differ");
    check_failed(problem, unwritten([i](Workload& w) { return scales_of(w) + i; }, 4), "1 of 36 absmax differ");
  }
  check_failed(problem, unwritten([](Workload& w) { return w.codes(0); }, 1152), " of 2304 codes differ");
}

TEST_CASE("check: a peer's pack may differ in a code of 10,000, and in no scale") {
  Problem problem = problem_of(NF4_OP_PACK);
  const auto codes_off = [](int count) {
    return [count](Workload& w) {
      for (int i = 0; i < count; ++i) w.codes(0)[i] ^= 1;
    };
  };
  const auto check_allowed = [&](int64_t n, int64_t k, int count) {
    CAPTURE(n, k, count);
    problem.n = n;
    problem.k = k;
    const Row allowed = row_of(problem, codes_off(count), true);
    CHECK(allowed.check.ok);
    CHECK(allowed.check.differences == count);
    CHECK_FALSE(row_of(problem, codes_off(count + 1), true).check.ok);
  };
  check_allowed(100, 400, 4);  // 40000 weights
  check_allowed(101, 396, 3);  // 39996
  CHECK_FALSE(row_of(problem, codes_off(1)).check.ok);
  CHECK_FALSE(row_of(problem, next_float(scales_of), true).check.ok);
}

TEST_CASE("check: a wrong code, scale or offset of nested packing") {
  const Problem problem = problem_of(NF4_OP_PACK_ABSMAX);
  const std::string told = "1 values differ from the host backend's";
  for (const int64_t i : {int64_t{0}, problem.blocks() - 1}) {
    CAPTURE(i);
    check_failed(
        problem, [i](Workload& w) { scale_codes_of(w)[i] ^= 1; }, told);
  }
  check_failed(problem, next_float([](Workload& w) { return w.scales2(0); }), told);
  check_failed(
      problem, [](Workload& w) { *w.offset() = NAN; }, told);
  check_failed(problem, unwritten([](Workload& w) { return w.offset(); }, 4), told);
  check_failed(problem, unwritten([](Workload& w) { return w.scales2(0); }, 4), told);
}

TEST_CASE("check: a wrong scale of nested unpacking") {
  const Problem problem = problem_of(NF4_OP_UNPACK_ABSMAX);
  for (const int64_t i : {int64_t{0}, problem.blocks() - 1}) {
    CAPTURE(i);
    const std::string told = "1 of 36 scales differ";
    check_failed(problem, next_float([i](Workload& w) { return w.absmax(0) + i; }), told);
    check_failed(
        problem, [i](Workload& w) { w.absmax(0)[i] = NAN; }, told);
    check_failed(problem, unwritten([i](Workload& w) { return w.absmax(0) + i; }, 4), told);
  }
}

TEST_CASE("check: of several sets the first alone is checked") {
  for (const nf4_op_t op : kAllOps) {
    const Row row = row_of(problem_of(op), nothing, false, false);
    CAPTURE(describe(row.problem), row.check.what);
    CHECK(row.check.ok);
    CHECK(row.check.differences == 0);
  }
}

TEST_CASE("check: every byte of the outputs is poisoned before, and none of another set") {
  const std::unique_ptr<Device> device = open_host_device();
  const Handle handle = make_handle(NF4_HOST_DEVICE);
  for (const nf4_op_t op : kAllOps) {
    for (const nf4_dtype_t dtype : kAllDtypes) {
      const Contenders right = nf4_contenders(handle.get(), op, {kSelected});
      Workload workload(*device, handle.get(), problem_of(op, dtype), false, false);
      Looking looking(*right.front());
      looking.prepare(workload);
      const auto before = unpoisoned({outputs_of(workload, 1).front()});
      const Check checked = check_result(workload, looking);
      CAPTURE(describe(workload.problem()), checked.what);
      CHECK(checked.ok);
      CHECK(looking.found() == 0);
      if (!is_product(op)) CHECK(unpoisoned({outputs_of(workload, 1).front()}) == before);
    }
  }
}

TEST_CASE("check: results of an earlier run do not count") {
  const std::unique_ptr<Device> device = open_host_device();
  const Handle handle = make_handle(NF4_HOST_DEVICE);
  for (const nf4_op_t op : kAllOps) {
    const Contenders right = nf4_contenders(handle.get(), op, {kSelected});
    Workload workload(*device, handle.get(), problem_of(op), true, false);
    Silent silent(*right.front());
    const Row row = measure(workload, silent, kGlance);
    CAPTURE(describe(row.problem), row.check.what);
    CHECK_FALSE(row.check.ok);
    CHECK(row.median == 0);
  }
}

TEST_CASE("check: an exception on the way is a wrong result") {
  check_failed(
      problem_of(NF4_OP_GEMM), [](Workload&) { throw std::runtime_error("no such thing"); }, "no such thing");
}

}  // namespace nf4test
