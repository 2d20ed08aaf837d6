#include "suite.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

namespace nf4bench {
namespace {

// One user, a few, and up to the tokens of a prompt.
constexpr int64_t kAllM[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 1024};

std::vector<Layer> chosen_layers(const Device& device, const Options& options) {
  std::vector<Layer> out = options.shapes;
  const bool by_default = options.shapes.empty() && options.models.empty();
  if (by_default && device.is_host()) return {{"", "", 1024, 4096}};
  for (const Layer& layer : options.groups ? groups() : layers()) {
    const auto named = [&](const std::string& model) { return model == "all" || model == layer.model; };
    if (by_default || std::any_of(options.models.begin(), options.models.end(), named)) out.push_back(layer);
  }
  return out;
}

// The W of a group lie one after the other, as parts of one. Each must begin with a block, and a group of nested ones.
void check_parts(const Problem& problem) {
  const int64_t step = problem.nested ? int64_t{problem.blocksize} * kAbsmaxBlocksize : problem.blocksize;
  for (const int64_t rows : problem.parts) {
    if (rows * problem.k % step == 0) continue;
    throw std::invalid_argument(fmt::format("--shape {},{}: expected parts of a multiple of {} weights",
                                            rows_text(problem.parts), problem.k, step));
  }
}

// Only products have an M, only they come in groups, and the operations on scales are there for nested ones.
std::vector<Problem> products_of(const Device& device, const Options& options) {
  std::vector<Problem> out;
  for (const nf4_op_t op : options.ops) {
    const bool of_absmax = op == NF4_OP_PACK_ABSMAX || op == NF4_OP_UNPACK_ABSMAX;
    const bool nested = of_absmax || (options.nested && op != NF4_OP_PACK);
    for (const Layer& layer : chosen_layers(device, options)) {
      if (!layer.parts.empty() && op != NF4_OP_GEMM) continue;
      for (const nf4_dtype_t dtype : options.dtypes) {
        for (const int32_t blocksize : options.blocksizes) {
          for (const int64_t m : options.m) {
            out.push_back({op, of_absmax ? NF4_F32 : dtype, m, layer.n, layer.k, blocksize, nested,
                           std::string(layer.name), layer.parts});
            check_parts(out.back());
            if (op != NF4_OP_GEMM) {
              out.back().m = 1;
              break;
            }
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
std::vector<Problem> full_sweep(const Device& device, const Options& asked) {
  std::vector<Problem> out;
  const auto add = [&](const Options& part) {
    const std::vector<Problem> problems = products_of(device, part);
    out.insert(out.end(), problems.begin(), problems.end());
  };
  Options part = asked;
  part.ops = {NF4_OP_GEMM};
  for (const nf4_dtype_t dtype : asked.dtypes) {
    part.dtypes = {dtype};
    add(part);
  }

  Options sample = asked;
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

std::vector<Problem> problems_of(const Device& device, const Options& options) {
  const bool full = options.sweep == Options::Sweep::full;
  Options filled = options;
  if (filled.m.empty() && !full && !options.tune) filled.m = {1};
  if (filled.m.empty()) filled.m.assign(std::begin(kAllM), std::end(kAllM));
  if (filled.dtypes.empty()) filled.dtypes = {NF4_BF16};
  if (options.dtypes.empty() && full) filled.dtypes.push_back(NF4_F16);
  return full ? full_sweep(device, filled) : products_of(device, filled);
}

}  // namespace nf4bench
