#include <fmt/ranges.h>

#include <algorithm>
#include <cstdint>

#include "contenders/contender.hpp"
#include "formatted.hpp"
#include "status.hpp"
#include "variants.hpp"

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
    case NF4_OP_GEMM_EXPERTS: {
      const nf4_routing_t routing = workload.routing();
      return check(nf4_gemm_experts(handle, workload.y(), p.n, workload.x(), p.k, p.dtype, &weight, nullptr, &routing,
                                    &options, stream));
    }
    case NF4_OP_GEMM_TRANSPOSED:
      return check(
          nf4_gemm_transposed(handle, workload.y(), p.k, workload.x(), p.n, p.m, p.dtype, &weight, &options, stream));
    case NF4_OP_UNPACK:
      return check(nf4_unpack(handle, workload.dense(set), p.k, p.dtype, &weight, &options, stream));
    case NF4_OP_PACK:
      return check(nf4_pack(handle, workload.codes(set), static_cast<float*>(workload.scales(set)), workload.dense(set),
                            p.k, p.dtype, p.n, p.k, p.blocksize, &options, stream));
    case NF4_OP_PACK_ABSMAX:
      return check(nf4_pack_absmax(handle, static_cast<uint8_t*>(workload.scales(set)), workload.scales2(set),
                                   workload.offset(), workload.absmax(set), p.blocks(), workload.map(),
                                   p.absmax_blocksize, &options, stream));
    default:
      return check(nf4_unpack_absmax(handle, workload.absmax(set), &weight, &options, stream));
  }
}

double accuracy_g_of(nf4_handle_t handle, std::string_view name, const Problem& problem) {
  for (const Variant& variant : variants_of(handle, problem.op)) {
    if (variant.name == name) return nf4ref::accuracy_g(variant.accuracy, problem.dtype, problem.length());
  }
  throw std::logic_error("the library selected a variant that it does not list");
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
    return unsupported(handle_, variant_, problem).empty();
  }

  double accuracy_g(const Problem& problem) const override {
    return accuracy_g_of(handle_, selection_.variant, problem);
  }

  void prepare(Workload& workload) override {
    selection_ = select(handle_, workload.problem(), SIZE_MAX, options());
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
      const nf4_selection_t selection = select(handle_, part, SIZE_MAX);
      if (std::find(variants.begin(), variants.end(), selection.variant) == variants.end())
        variants.emplace_back(selection.variant);
      workspace = std::max(workspace, selection.workspace_size);
      accuracy_g_ = std::max(accuracy_g_, accuracy_g_of(handle_, selection.variant, part));
    }
    config_ = nf4::formatted("{}", fmt::join(variants, ", "));
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
  for (const Variant& variant : variants_of(handle, op)) {
    if (!wanted(variant.name)) continue;
    for (const std::string& config : variant.configs)
      out.push_back(std::make_unique<Nf4>(handle, op, variant.name, config));
  }
  return out;
}

}  // namespace nf4bench
