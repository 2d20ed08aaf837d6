#include "checkpoint/model.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <stdexcept>

#include "checkpoint/checkpoint.hpp"
#include "contenders/contender.hpp"
#include "measure.hpp"
#include "report/output.hpp"
#include "report/progress.hpp"
#include "variants.hpp"

namespace nf4bench {
namespace {

constexpr size_t kNameWidth = 56;
constexpr nf4_op_t kOps[] = {NF4_OP_PACK, NF4_OP_UNPACK, NF4_OP_GEMM};
constexpr int64_t kRowsOfX[] = {1, 8};

// ||unpacked - original||^2 and ||original||^2.
struct Distance {
  double error2 = 0;
  double norm2 = 0;

  double relative() const { return norm2 > 0 ? std::sqrt(error2 / norm2) : 0; }
  void add(const Distance& other) {
    error2 += other.error2;
    norm2 += other.norm2;
  }
};

// How far the packed weights, which are in set 0 of a gemm, are from the original.
Distance quantization_error(Workload& workload, const std::vector<unsigned char>& original) {
  const Problem& p = workload.problem();
  std::vector<unsigned char> unpacked(original.size());
  workload.device().copy_out(unpacked.data(), workload.dense(0), unpacked.size());
  Distance out;
  for (int64_t i = 0; i < p.elements(); ++i) {
    const double w = nf4ref::load(original.data(), p.dtype, i);
    const double difference = nf4ref::load(unpacked.data(), p.dtype, i) - w;
    out.error2 += difference * difference;
    out.norm2 += w * w;
  }
  return out;
}

// What packing makes of a matrix, or of several. Of one that is packed already, what it was before is not known, and
// there is one form alone.
struct Packing {
  int64_t before = 0;  // bytes
  int64_t after = 0;   // bytes, 0 if not known; nested ones too
  int64_t after_nested = 0;
  Distance error;
  Distance error_nested;
  int64_t matrices = 0;

  void add(const Packing& other) {
    before += other.before;
    after += other.after;
    after_nested += other.after_nested;
    error.add(other.error);
    error_nested.add(other.error_nested);
    matrices += other.matrices;
  }
};

int64_t dense_bytes(const Matrix& matrix) { return matrix.rows() * matrix.cols() * nf4ref::size_of(matrix.dtype); }

// Matrices of a kind share a line: a model has hundreds, in layers that are alike.
class PackingTable {
 public:
  void add(const Matrix& matrix, const Packing& packing) {
    const std::string shape = fmt::format("{}", fmt::join(matrix.shape, "x"));
    const std::string form = fmt::format("{}{}", dtype_name(matrix.dtype), matrix.packed ? ", nf4" : "");
    const std::string kind = without_numbers(matrix.name);
    const auto same = [&](const Line& line) { return line.kind == kind && line.shape == shape && line.form == form; };
    const auto found = std::find_if(lines_.begin(), lines_.end(), same);
    Line& line = found != lines_.end() ? *found : lines_.emplace_back(Line{kind, matrix.name, shape, form, {}});
    line.packing.add(packing);
    all_.add(packing);
  }

  std::string text() const {
    std::string out =
        fmt::format("\n{:<{}} {:>5} {:>14} {:>9} {:>13} {:>13} {:>13} {:>7} {:>9} {:>9}\n", "matrices", kNameWidth, "",
                    "shape", "dtype", "bytes", "nf4", "nested", "smaller", "error", "nested");
    for (const Line& line : lines_) {
      const std::string& name = line.packing.matrices == 1 ? line.name : line.kind;
      out += line_of(name, line.shape, line.form, line.packing);
    }
    return out + line_of("all", "", "", all_);
  }

  int64_t matrices() const { return all_.matrices; }

 private:
  struct Line {
    std::string kind;  // the name, with * for each number
    std::string name;  // of the first
    std::string shape;
    std::string form;
    Packing packing;
  };

  static std::string without_numbers(const std::string& name) {
    std::string out;
    for (const char c : name) {
      const bool digit = c >= '0' && c <= '9';
      if (!digit) out += c;
      if (digit && !out.ends_with('*')) out += '*';
    }
    return out;
  }

  static std::string bytes_text(int64_t bytes) { return bytes > 0 ? std::to_string(bytes) : "-"; }
  static std::string error_text(const Distance& distance) {
    return distance.norm2 > 0 ? fmt::format("{:.5f}", distance.relative()) : "-";
  }

  // The end of a long name tells most.
  static std::string shortened(const std::string& name) {
    const std::string text = printable(name);
    if (text.size() <= kNameWidth) return text;
    size_t begin = text.size() - kNameWidth + 3;
    while (begin < text.size() && (static_cast<unsigned char>(text[begin]) & 0xc0) == 0x80)
      ++begin;  // inside a character
    return "..." + text.substr(begin);
  }

  static std::string line_of(const std::string& name, const std::string& shape, const std::string& form,
                             const Packing& packing) {
    const int64_t after = packing.after > 0 ? packing.after : packing.after_nested;
    return fmt::format("{:<{}} {:>5} {:>14} {:>9} {:>13} {:>13} {:>13} {:>6.2f}x {:>9} {:>9}\n", shortened(name),
                       kNameWidth, fmt::format("x{}", packing.matrices), shape, form, packing.before,
                       bytes_text(packing.after), bytes_text(packing.after_nested),
                       static_cast<double>(packing.before) / static_cast<double>(after), error_text(packing.error),
                       error_text(packing.error_nested));
  }

  std::vector<Line> lines_;
  Packing all_;
};

// One contender at one operation, over all matrices that it supports.
struct Total {
  nf4_op_t op = NF4_OP_GEMM;
  int64_t m = 1;
  std::string contender;
  std::string config;
  int matrices = 0;
  double microseconds = 0;
  double bytes = 0;
  double worst = 0;
  double relative_error = 0;
  std::string failure;
};

class Totals {
 public:
  void add(const Row& row) {
    Total& total = of(row);
    ++total.matrices;
    total.microseconds += row.median;
    total.bytes += row.bytes;
    total.worst = std::max(total.worst, row.check.worst);
    total.relative_error = std::max(total.relative_error, row.check.relative_error);
    if (row.check.ok) return;
    ++failures_;
    if (total.failure.empty()) total.failure = row.check.what;
  }

  std::string text() const {
    std::string out = fmt::format("\n{:<12} {:<28} {:>8} {:>12} {:>8} {:>10} {:>10}\n", "operation", "variant",
                                  "matrices", "us in all", "GB/s", "err/bound", "rel.err");
    for (const Total& total : totals_) {
      const bool gemm = total.op == NF4_OP_GEMM;
      out += fmt::format("{:<12} {:<28} {:>8} ",
                         fmt::format("{}{}", op_name(total.op), gemm ? fmt::format(" M={}", total.m) : ""),
                         total.contender + (total.config.empty() ? "" : " ") + total.config, total.matrices);
      if (!total.failure.empty()) {
        out += fmt::format("FAILED: {}\n", total.failure);
        continue;
      }
      out += fmt::format("{:>12.1f} {:>8.1f} ", total.microseconds, total.bytes / total.microseconds * 1e-3);
      out += gemm ? fmt::format("{:>10.3f} {:>10.2e}\n", total.worst, total.relative_error)
                  : fmt::format("{:>10} {:>10}\n", "exact", "-");
    }
    return out;
  }

  size_t failures() const { return failures_; }

 private:
  // What is selected may differ from matrix to matrix: those count together.
  Total& of(const Row& row) {
    const std::string config = row.contender == kSelected ? "" : row.config;
    const auto same = [&](const Total& total) {
      return total.op == row.problem.op && total.m == row.problem.m && total.contender == row.contender &&
             total.config == config;
    };
    const auto found = std::find_if(totals_.begin(), totals_.end(), same);
    if (found != totals_.end()) return *found;
    Total total;
    total.op = row.problem.op;
    total.m = row.problem.m;
    total.contender = row.contender;
    total.config = config;
    return totals_.emplace_back(std::move(total));
  }

  std::vector<Total> totals_;
  size_t failures_ = 0;
};

// Takes one matrix after the other through all that is asked.
class ModelRun {
 public:
  ModelRun(Device& device, nf4_handle_t handle, const ModelOptions& options)
      : device_(device), handle_(handle), options_(options) {
    for (const nf4_op_t op : kOps) {
      for (auto& contender : nf4_contenders(handle, op, options.variants)) contenders_.push_back(std::move(contender));
    }
  }

  void take(Checkpoint& checkpoint, const Matrix& matrix) {
    if (matrix.packed) {
      take_packed(matrix, checkpoint.read_packed(matrix));
    } else {
      take_dense(matrix, checkpoint.read_dense(matrix));
    }
  }

  const PackingTable& packings() const { return packings_; }
  const Totals& totals() const { return totals_; }

 private:
  Problem problem_of(const Matrix& matrix) const {
    Problem problem;
    problem.dtype = matrix.dtype;
    problem.n = matrix.rows();
    problem.k = matrix.cols();
    problem.blocksize = options_.blocksize;
    return problem;
  }

  void take_dense(const Matrix& matrix, const std::vector<unsigned char>& data) {
    Problem problem = problem_of(matrix);
    Packing packing;
    packing.before = matrix.bytes;
    packing.matrices = 1;
    for (const bool nested : {false, true}) {
      problem.nested = nested;
      Workload workload(device_, handle_, problem, kHot, kPending);
      workload.take_dense(data.data());
      (nested ? packing.error_nested : packing.error) = quantization_error(workload, data);
      (nested ? packing.after_nested : packing.after) = problem.code_bytes() + scale_bytes(problem);
    }
    packings_.add(matrix, packing);
    problem.nested = false;
    measure_ops(matrix, problem, [&](Workload& workload) { workload.take_dense(data.data()); });
  }

  void take_packed(const Matrix& matrix, const PackedData& data) {
    const PackedForm& form = *matrix.packed;
    Packing packing;
    packing.before = dense_bytes(matrix);
    packing.matrices = 1;
    (form.nested ? packing.after_nested : packing.after) = matrix.bytes;
    packings_.add(matrix, packing);
    Problem problem = problem_of(matrix);
    problem.blocksize = form.blocksize;
    problem.nested = form.nested;
    if (form.nested) problem.absmax_blocksize = form.absmax_blocksize;
    measure_ops(matrix, problem, [&](Workload& workload) { workload.take_packed(data.view(matrix)); });
  }

  // What is packed is not packed again. Experts are not multiplied: each takes rows of its own.
  template <typename Fill>
  void measure_ops(const Matrix& matrix, Problem problem, const Fill& fill) {
    for (const nf4_op_t op : kOps) {
      if ((op == NF4_OP_PACK && matrix.packed) || (op == NF4_OP_GEMM && matrix.experts())) continue;
      problem.op = op;
      for (const int64_t m : kRowsOfX) {
        problem.m = m;
        measure_one(problem, fill);
        if (op != NF4_OP_GEMM) break;
      }
    }
  }

  template <typename Fill>
  void measure_one(const Problem& problem, const Fill& fill) {
    Workload workload(device_, handle_, with_op(problem, problem.op), kHot, kPending);
    fill(workload);
    for (const auto& contender : contenders_) {
      if (contender->supports(workload.problem())) totals_.add(measure(workload, *contender));
    }
  }

  static constexpr bool kPending = false;
  static constexpr bool kHot = true;  // one matrix of a small model fits into any cache

  Device& device_;
  nf4_handle_t handle_;
  const ModelOptions& options_;
  Contenders contenders_;
  PackingTable packings_;
  Totals totals_;
};

}  // namespace

size_t measure_model(Device& device, nf4_handle_t handle, const ModelOptions& options) {
  check_variants(handle, {std::begin(kOps), std::end(kOps)}, options.variants, true);
  Checkpoint checkpoint(options.path);
  const std::vector<Matrix>& matrices = checkpoint.matrices();
  if (matrices.empty()) throw std::runtime_error(options.path + " has no matrix of fp32, fp16, bf16 or NF4");

  ModelRun run(device, handle, options);
  Progress progress(matrices.size());
  for (const Matrix& matrix : matrices) {
    progress.next(printable(matrix.name));
    run.take(checkpoint, matrix);
  }
  progress.clear();
  write_stdout(run.packings().text());
  say("error: ||unpacked - original|| / ||original||. Of the {} tensors, norms, biases and others stay as they are.\n",
      checkpoint.tensors());
  if (!checkpoint.other_layers().empty()) {
    say("{} layers are packed as something else than NF4; the first is {}\n", checkpoint.other_layers().size(),
        printable(checkpoint.other_layers().front()));
  }
  write_stdout(run.totals().text());
  say("err/bound: largest error of an output against float64, over its bound. Matrices stay in the cache. Experts "
      "(three "
      "sizes) are not multiplied.\n");
  return run.totals().failures();
}

}  // namespace nf4bench
