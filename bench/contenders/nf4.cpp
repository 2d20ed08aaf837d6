#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdint>

#include "contenders/contender.hpp"
#include "status.hpp"

namespace nf4bench {
namespace {

void multiply(nf4_handle_t handle, const Workload& workload, const Product& product, const nf4_options_t& options,
              nf4_stream_t stream) {
  const Problem& p = workload.problem();
  check(nf4_gemm(handle, product.y, product.weight.rows, workload.x(), p.k, p.m, p.dtype, &product.weight, nullptr,
                 &options, stream));
}

void multiply_together(nf4_handle_t handle, const Workload& workload, int set, const nf4_options_t& options,
                       nf4_stream_t stream) {
  const Problem& p = workload.problem();
  const std::vector<Product> products = workload.products(set);
  if (products.size() == 1) return multiply(handle, workload, products.front(), options, stream);
  std::vector<nf4_product_t> group;
  for (const Product& product : products)
    group.push_back({sizeof(nf4_product_t), product.y, product.weight.rows, &product.weight, nullptr});
  check(nf4_gemm_group(handle, group.data(), group.size(), workload.x(), p.k, p.m, p.dtype, &options, stream));
}

void call(nf4_handle_t handle, Workload& workload, int set, const nf4_options_t& options, nf4_stream_t stream) {
  const Problem& p = workload.problem();
  const nf4_weight_t weight = workload.weight(set);
  switch (p.op) {
    case NF4_OP_GEMM:
      return multiply_together(handle, workload, set, options, stream);
    case NF4_OP_UNPACK:
      return check(nf4_unpack(handle, workload.dense(set), p.k, p.dtype, &weight, &options, stream));
    case NF4_OP_PACK:
      return check(nf4_pack(handle, workload.codes(set), static_cast<float*>(workload.scales(set)), workload.dense(set),
                            p.k, p.dtype, p.n, p.k, p.blocksize, &options, stream));
    case NF4_OP_PACK_ABSMAX:
      return check(nf4_pack_absmax(handle, static_cast<uint8_t*>(workload.scales(set)), workload.scales2(set),
                                   workload.offset(), workload.absmax(set), p.blocks(), workload.map(),
                                   kAbsmaxBlocksize, &options, stream));
    default:
      return check(nf4_unpack_absmax(handle, workload.absmax(set), &weight, &options, stream));
  }
}

nf4_variant_info_t variant_info(nf4_handle_t handle, nf4_op_t op, size_t index) {
  nf4_variant_info_t info = {};
  info.struct_size = sizeof info;
  check(nf4_variant_info(handle, op, index, &info));
  return info;
}

size_t variant_count(nf4_handle_t handle, nf4_op_t op) {
  size_t count = 0;
  check(nf4_variant_count(handle, op, &count));
  return count;
}

double accuracy_g_of(nf4_handle_t handle, std::string_view variant, const Problem& problem) {
  for (size_t i = 0; i < variant_count(handle, problem.op); ++i) {
    const nf4_variant_info_t info = variant_info(handle, problem.op, i);
    if (info.name == variant) return nf4ref::accuracy_g(info.accuracy, problem.dtype, problem.k);
  }
  throw std::logic_error("the library selected a variant that it does not list");
}

// What the library selects for a problem if it has workspace enough.
nf4_selection_t select(nf4_handle_t handle, const Problem& problem, nf4_options_t options) {
  nf4_selection_t selection = {};
  selection.struct_size = sizeof selection;
  options.workspace_size = SIZE_MAX;
  const nf4_problem_t asked = descriptor(problem);
  check(nf4_select(handle, &asked, &options, &selection));
  return selection;
}

// Calls the library with a forced variant and config, or with neither.
class Nf4 final : public Contender {
 public:
  Nf4(nf4_handle_t handle, nf4_op_t op) : handle_(handle), op_(op) {}
  Nf4(nf4_handle_t handle, nf4_op_t op, std::string variant, std::string config)
      : handle_(handle), op_(op), variant_(std::move(variant)), config_(std::move(config)) {}

  std::string name() const override { return selects() ? kSelected : variant_; }
  std::string config() const override {
    if (!selects() || selection_.variant == nullptr) return config_;
    return std::string(selection_.variant) + (selection_.config[0] == '\0' ? "" : " ") + selection_.config;
  }
  bool is_peer() const override { return false; }
  bool is_variant() const override { return !selects(); }

  bool supports(const Problem& problem) const override {
    if (problem.op != op_) return false;
    if (selects()) return true;
    const nf4_problem_t asked = descriptor(problem);
    int32_t supported = 0;
    check(nf4_variant_supports(handle_, variant_.c_str(), &asked, &supported, nullptr, 0));
    return supported != 0;
  }

  double accuracy_g(const Problem& problem) const override {
    return accuracy_g_of(handle_, selection_.variant, problem);
  }

  void prepare(Workload& workload) override {
    selection_ = select(handle_, workload.problem(), options());
    if (selection_.workspace_size > 0) workspace_ = Buffer(workload.device(), selection_.workspace_size);
  }

  size_t workspace_size() const override { return workspace_.bytes(); }

  void run(Workload& workload, int set, nf4_stream_t stream) override {
    nf4_options_t given = options();
    given.workspace = workspace_.get();
    given.workspace_size = workspace_.bytes();
    call(handle_, workload, set, given, stream);
  }

  void finish() override { workspace_ = Buffer(); }

 private:
  bool selects() const { return variant_.empty(); }

  nf4_options_t options() const {
    nf4_options_t out = NF4_OPTIONS_INIT;
    out.variant = selects() ? nullptr : variant_.c_str();
    out.config = selects() ? nullptr : config_.c_str();
    return out;
  }

  nf4_handle_t handle_;
  nf4_op_t op_;
  std::string variant_;
  std::string config_;
  nf4_selection_t selection_ = {};
  Buffer workspace_;
};

// The products of a group each by a call of its own, with what the library selects for it.
class OneByOne final : public Contender {
 public:
  explicit OneByOne(nf4_handle_t handle) : handle_(handle) {}

  std::string name() const override { return "one by one"; }
  std::string config() const override { return config_; }
  bool is_peer() const override { return false; }
  bool supports(const Problem& problem) const override { return problem.op == NF4_OP_GEMM && !problem.parts.empty(); }
  double accuracy_g(const Problem&) const override { return accuracy_g_; }

  void prepare(Workload& workload) override {
    std::vector<std::string> variants;
    size_t workspace = 0;
    accuracy_g_ = 0;
    for (const int64_t rows : workload.problem().parts) {
      Problem part = workload.problem();
      part.n = rows;
      const nf4_selection_t selection = select(handle_, part, nf4_options_t NF4_OPTIONS_INIT);
      if (std::find(variants.begin(), variants.end(), selection.variant) == variants.end())
        variants.emplace_back(selection.variant);
      workspace = std::max(workspace, selection.workspace_size);
      accuracy_g_ = std::max(accuracy_g_, accuracy_g_of(handle_, selection.variant, part));
    }
    config_ = fmt::format("{}", fmt::join(variants, ", "));
    if (workspace > 0) workspace_ = Buffer(workload.device(), workspace);
  }

  size_t workspace_size() const override { return workspace_.bytes(); }

  void run(Workload& workload, int set, nf4_stream_t stream) override {
    nf4_options_t options = NF4_OPTIONS_INIT;
    options.workspace = workspace_.get();
    options.workspace_size = workspace_.bytes();
    for (const Product& product : workload.products(set)) multiply(handle_, workload, product, options, stream);
  }

  void finish() override { workspace_ = Buffer(); }

 private:
  nf4_handle_t handle_;
  std::string config_;
  double accuracy_g_ = 0;
  Buffer workspace_;
};

}  // namespace

Contenders nf4_contenders(nf4_handle_t handle, nf4_op_t op, const std::vector<std::string>& names) {
  const auto wanted = [&](std::string_view name) {
    return names.empty() || std::find(names.begin(), names.end(), name) != names.end();
  };
  Contenders out;
  if (wanted(kSelected)) {
    out.push_back(std::make_unique<Nf4>(handle, op));
    if (op == NF4_OP_GEMM) out.push_back(std::make_unique<OneByOne>(handle));
  }
  for (size_t i = 0; i < variant_count(handle, op); ++i) {
    const nf4_variant_info_t info = variant_info(handle, op, i);
    if (!wanted(info.name)) continue;
    for (int32_t c = 0; c < info.configs; ++c) {
      char config[64];
      check(nf4_variant_config(handle, info.name, static_cast<size_t>(c), config, sizeof config));
      out.push_back(std::make_unique<Nf4>(handle, op, info.name, config));
    }
  }
  return out;
}

}  // namespace nf4bench
