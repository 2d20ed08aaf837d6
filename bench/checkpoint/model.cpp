#include "checkpoint/model.hpp"

#include <iterator>
#include <stdexcept>

#include "checkpoint/checkpoint.hpp"
#include "checkpoint/packing.hpp"
#include "checkpoint/totals.hpp"
#include "contenders/contender.hpp"
#include "measure.hpp"
#include "report/output.hpp"
#include "report/progress.hpp"
#include "variants.hpp"

namespace nf4bench {
namespace {

constexpr nf4_op_t kOps[] = {NF4_OP_PACK, NF4_OP_UNPACK, NF4_OP_GEMM};
constexpr int64_t kRowsOfX[] = {1, 8};

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

// Takes one matrix after the other through all that is asked.
class ModelRun {
 public:
  ModelRun(Device& device, nf4_handle_t handle, const ModelOptions& options)
      : device_(device), handle_(handle), options_(options), packings_(options.details) {
    // In short, what the library selects.
    const bool all = options.details || !options.variants.empty();
    const std::vector<std::string> names = all ? options.variants : std::vector<std::string>{kSelected};
    for (const nf4_op_t op : kOps) {
      for (auto& contender : nf4_contenders(handle, op, names)) contenders_.push_back(std::move(contender));
    }
    for (auto& peer : device.is_host() ? host_peers(note_) : cuda_peers(device, handle, {}, note_)) {
      if (is_dense(peer->name())) contenders_.push_back(std::move(peer));
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
  // Why nothing is compared with dense products, if so.
  const std::string& note() const { return note_; }

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
    for (const bool nested : {false, true}) {
      problem.nested = nested;
      Workload workload(device_, handle_, problem, kHot, kPending);
      workload.take_dense(data.data());
      (nested ? packing.error_nested : packing.error) = quantization_error(workload, data);
      (nested ? packing.nested : packing.plain) = problem.code_bytes() + scale_bytes(problem);
    }
    packing.after = packing.plain;
    packings_.add(matrix, packing);
    problem.nested = false;
    measure_ops(matrix, problem, [&](Workload& workload) { workload.take_dense(data.data()); });
  }

  void take_packed(const Matrix& matrix, const PackedData& data) {
    const PackedForm& form = *matrix.packed;
    Packing packing;
    packing.before = matrix.rows() * matrix.cols() * nf4ref::size_of(matrix.dtype);
    packing.after = matrix.bytes;
    (form.nested ? packing.nested : packing.plain) = matrix.bytes;
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
  std::string note_;
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
  say("error: ||unpacked - original|| / ||original||. Of {} tensors, norms, biases and others stay as they are.\n",
      checkpoint.tensors());
  if (!checkpoint.other_layers().empty()) {
    say("{} layers are packed as something else than NF4; the first is {}\n", checkpoint.other_layers().size(),
        printable(checkpoint.other_layers().front()));
  }
  write_stdout(run.totals().text());
  say("time: of all matrices, each hot in the cache. err/bound: the largest error, over its bound; 1 at most.\n");
  if (!run.note().empty()) say("without dense products: {}\n", run.note());
  return run.totals().failures();
}

}  // namespace nf4bench
