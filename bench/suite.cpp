#include "suite.hpp"

#include <algorithm>
#include <stdexcept>

#include "formatted.hpp"

namespace nf4bench {
namespace {

std::vector<Layer> chosen_layers(const Device& device, const SuiteOptions& options) {
  std::vector<Layer> out = options.shapes;
  const bool by_default = options.shapes.empty() && options.models.empty();
  if (by_default && device.is_host()) return {{"", "", 1024, 4096}};
  const std::vector<std::string>& models = by_default ? options.default_models : options.models;
  for (const Layer& layer : options.groups ? groups() : layers()) {
    const auto named = [&](const std::string& model) { return model == "all" || model == layer.model; };
    if (std::any_of(models.begin(), models.end(), named)) out.push_back(layer);
  }
  if (std::find(models.begin(), models.end(), kHeldOut) != models.end()) {
    out.insert(out.end(), held_out_layers().begin(), held_out_layers().end());
  }
  return out;
}

// The W of a group lie one after the other, as parts of one. Each must begin with a block, and a group of nested ones.
void check_parts(const Problem& problem) {
  const int64_t step = problem.nested ? int64_t{problem.blocksize} * problem.absmax_blocksize : problem.blocksize;
  for (const int64_t rows : problem.parts) {
    if (rows * problem.k % step == 0) continue;
    throw std::invalid_argument(nf4::formatted("--shape is {},{}; expected parts of a multiple of {} weights",
                                               rows_text(problem.parts), problem.k, step));
  }
}

// None of the experts may begin inside of a block.
void check_experts(const Problem& problem) {
  if (problem.op != NF4_OP_GEMM_EXPERTS) return;
  if (problem.experts == 0) throw std::invalid_argument("--op is gemm_experts; expected --experts with it");
  if (problem.top_k > problem.experts) {
    throw std::invalid_argument(
        nf4::formatted("--top-k is {}; expected --experts ({}) at most", problem.top_k, problem.experts));
  }
  if (problem.n * problem.k % problem.blocksize == 0) return;
  throw std::invalid_argument(nf4::formatted("--shape is {},{}; expected experts of a multiple of {} weights",
                                             problem.n, problem.k, problem.blocksize));
}

// Only products come in groups.
std::vector<Problem> products_of(const Device& device, const SuiteOptions& options) {
  std::vector<Problem> out;
  for (const nf4_op_t op : options.ops) {
    const bool of_absmax = op == NF4_OP_PACK_ABSMAX || op == NF4_OP_UNPACK_ABSMAX;
    for (const Layer& layer : chosen_layers(device, options)) {
      if (!layer.parts.empty() && op != NF4_OP_GEMM) continue;
      for (const nf4_dtype_t dtype : options.dtypes) {
        for (const int32_t blocksize : options.blocksizes) {
          for (const int64_t m : options.m) {
            Problem problem;
            problem.dtype = dtype;
            problem.m = m;
            problem.n = layer.n;
            problem.k = layer.k;
            problem.blocksize = blocksize;
            problem.nested = options.nested;
            problem.layer = layer.name;
            problem.parts = layer.parts;
            problem.experts = options.experts;
            problem.top_k = options.top_k;
            problem.skew = options.skew;
            problem.form = options.form;
            out.push_back(with_op(std::move(problem), op));
            check_parts(out.back());
            check_experts(out.back());
            if (!is_product(op)) break;
          }
        }
        if (of_absmax) break;  // one dtype is all they have
      }
    }
  }
  return out;
}

// All layers at blocksize 64 in each dtype; samples of the other blocksizes, of nested scales, of f32 and of groups;
// then packing and unpacking. What matters most comes first, as there may be a limit of time.
std::vector<Problem> full_sweep(const Device& device, const SuiteOptions& asked) {
  std::vector<Problem> out;
  const auto add = [&](const SuiteOptions& part) {
    const std::vector<Problem> problems = products_of(device, part);
    out.insert(out.end(), problems.begin(), problems.end());
  };
  SuiteOptions part = asked;
  part.ops = {NF4_OP_GEMM};
  for (const nf4_dtype_t dtype : asked.dtypes) {
    part.dtypes = {dtype};
    add(part);
  }

  SuiteOptions sample = asked;
  sample.ops = {NF4_OP_GEMM};
  sample.m = {1, 16, 256};
  sample.dtypes = {asked.dtypes.front()};
  if (sample.shapes.empty()) sample.models = {"llama"};
  for (const int32_t blocksize : {32, 128, 4096}) {
    sample.blocksizes = {blocksize};
    add(sample);
  }
  sample.blocksizes = asked.blocksizes;
  sample.nested = true;
  add(sample);
  sample.nested = false;
  sample.dtypes = {NF4_F32};
  add(sample);

  if (asked.shapes.empty()) {
    sample = asked;
    sample.ops = {NF4_OP_GEMM};
    sample.m = {1, 8, 16};
    sample.dtypes = {asked.dtypes.front()};
    sample.groups = true;
    add(sample);
  }

  part = asked;
  part.ops = {NF4_OP_UNPACK, NF4_OP_PACK};
  add(part);
  return out;
}

}  // namespace

std::vector<Problem> suite(const Device& device, const SuiteOptions& options) {
  return options.full ? full_sweep(device, options) : products_of(device, options);
}

}  // namespace nf4bench
