#include "checkpoint/model.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <optional>
#include <stdexcept>

#include "checkpoint/safetensors.hpp"
#include "contenders/contender.hpp"
#include "measure.hpp"

namespace nf4bench {
namespace {

constexpr int64_t kFewestElements = 4096;  // smaller ones are norms and biases in disguise
constexpr size_t kNameWidth = 56;

std::optional<nf4_dtype_t> dtype_of(const Tensor& tensor) {
  if (tensor.dtype == "F32") return NF4_F32;
  if (tensor.dtype == "F16") return NF4_F16;
  if (tensor.dtype == "BF16") return NF4_BF16;
  return std::nullopt;
}

bool is_weight_matrix(const Tensor& tensor) {
  return dtype_of(tensor).has_value() && tensor.shape.size() == 2 && tensor.elements >= kFewestElements;
}

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

// What packing makes of one matrix, or of all of them.
struct Packing {
  int64_t before = 0;  // bytes
  int64_t after = 0;
  int64_t after_nested = 0;
  Distance error;
  Distance error_nested;

  void add(const Packing& other) {
    before += other.before;
    after += other.after;
    after_nested += other.after_nested;
    error.add(other.error);
    error_nested.add(other.error_nested);
  }
};

void print_packing_header() {
  fmt::print("\n{:<{}} {:>13} {:>5} {:>12} {:>12} {:>12} {:>7} {:>9} {:>9}\n", "matrix", kNameWidth, "shape", "dtype",
             "bytes", "nf4", "nested", "smaller", "error", "nested");
}

void print_packing(const std::string& name, const std::string& shape, std::string_view dtype, const Packing& packing) {
  const std::string shown = name.size() <= kNameWidth ? name : "..." + name.substr(name.size() - kNameWidth + 3);
  fmt::print("{:<{}} {:>13} {:>5} {:>12} {:>12} {:>12} {:>6.2f}x {:>9.5f} {:>9.5f}\n", shown, kNameWidth, shape, dtype,
             packing.before, packing.after, packing.after_nested,
             static_cast<double>(packing.before) / static_cast<double>(std::max<int64_t>(1, packing.after)),
             packing.error.relative(), packing.error_nested.relative());
}

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

  void print() const {
    fmt::print("\n{:<12} {:<28} {:>8} {:>12} {:>8} {:>10} {:>10}\n", "operation", "variant", "matrices", "us in all",
               "GB/s", "err/bound", "rel.err");
    for (const Total& total : totals_) {
      const std::string op =
          std::string(op_name(total.op)) + (total.op == NF4_OP_GEMM ? fmt::format(" M={}", total.m) : "");
      const std::string variant = total.contender + (total.config.empty() ? "" : " ") + total.config;
      fmt::print("{:<12} {:<28} {:>8} ", op, variant, total.matrices);
      if (!total.failure.empty()) {
        fmt::print("FAILED: {}\n", total.failure);
      } else if (total.op == NF4_OP_GEMM) {
        fmt::print("{:>12.1f} {:>8.1f} {:>10.3f} {:>10.2e}\n", total.microseconds,
                   total.bytes / total.microseconds * 1e-3, total.worst, total.relative_error);
      } else {
        fmt::print("{:>12.1f} {:>8.1f} {:>10} {:>10}\n", total.microseconds, total.bytes / total.microseconds * 1e-3,
                   "exact", "-");
      }
    }
  }

  size_t failures() const { return failures_; }

 private:
  // What is selected may differ from matrix to matrix: those count together.
  Total& of(const Row& row) {
    const std::string config = row.contender == "selected" ? "" : row.config;
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

}  // namespace

size_t measure_model(Device& device, nf4_handle_t handle, const Options& options) {
  if (options.blocksizes.size() != 1) throw std::invalid_argument("model: expected one --blocksize");
  Safetensors file(options.model_file);
  struct Work {
    Problem problem;
    Contenders contenders;
  };
  std::vector<Work> works;
  for (const nf4_op_t op : {NF4_OP_PACK, NF4_OP_UNPACK, NF4_OP_GEMM}) {
    for (const int64_t m : {1, 8}) {
      if (op != NF4_OP_GEMM && m > 1) continue;
      Problem problem;
      problem.op = op;
      problem.m = m;
      problem.blocksize = options.blocksizes[0];
      works.push_back({problem, nf4_contenders(handle, op, options.variants)});
    }
  }

  constexpr bool kPending = false;
  constexpr bool kHot = true;  // one matrix of a small model fits into any cache
  Packing all;
  Totals totals;
  int64_t matrices = 0;
  print_packing_header();
  for (const Tensor& tensor : file.tensors()) {
    if (!is_weight_matrix(tensor)) continue;
    ++matrices;
    const std::vector<unsigned char> data = file.read(tensor);
    Problem problem;
    problem.dtype = *dtype_of(tensor);
    problem.n = tensor.shape[0];
    problem.k = tensor.shape[1];
    problem.blocksize = options.blocksizes[0];

    Packing packing;
    packing.before = static_cast<int64_t>(data.size());
    for (const bool nested : {false, true}) {
      problem.nested = nested;
      Workload workload(device, handle, problem, kHot, kPending, data.data());
      (nested ? packing.error_nested : packing.error) = quantization_error(workload, data);
      (nested ? packing.after_nested : packing.after) = problem.code_bytes() + scale_bytes(problem);
    }
    print_packing(tensor.name, fmt::format("{}x{}", problem.n, problem.k), dtype_name(problem.dtype), packing);
    std::fflush(stdout);
    all.add(packing);

    problem.nested = false;
    for (const Work& work : works) {
      problem.op = work.problem.op;
      problem.m = work.problem.m;
      Workload workload(device, handle, problem, kHot, kPending, data.data());
      for (const auto& contender : work.contenders) {
        if (contender->supports(problem)) totals.add(measure(workload, *contender));
      }
    }
  }
  print_packing(fmt::format("{} of {} tensors", matrices, file.tensors().size()), "", "", all);
  fmt::print(
      "error: ||unpacked - original|| / ||original||. Norms, biases and other small tensors stay as they are.\n");
  totals.print();
  fmt::print("err/bound: largest error of an output against float64, over its bound. Matrices stay in the cache.\n");
  return totals.failures();
}

}  // namespace nf4bench
