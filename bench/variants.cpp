#include "variants.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <stdexcept>

#include "formatted.hpp"
#include "report/output.hpp"
#include "status.hpp"

namespace nf4bench {
namespace {

std::string configs_text(const Variant& variant) {
  const bool has_none = variant.configs.size() == 1 && variant.configs.front().empty();
  return has_none ? "none" : nf4::formatted("{}", fmt::join(variant.configs, "; "));
}

}  // namespace

std::vector<Variant> variants_of(nf4_handle_t handle, nf4_op_t op) {
  size_t count = 0;
  check(nf4_variant_count(handle, op, &count));
  std::vector<Variant> out;
  for (size_t i = 0; i < count; ++i) {
    nf4_variant_info_t info = {};
    info.struct_size = sizeof info;
    check(nf4_variant_info(handle, op, i, &info));
    Variant variant{info.name, info.description, info.accuracy, {}};
    for (int32_t c = 0; c < info.configs; ++c) {
      char config[64];
      check(nf4_variant_config(handle, info.name, static_cast<size_t>(c), config, sizeof config));
      variant.configs.emplace_back(config);
    }
    out.push_back(std::move(variant));
  }
  return out;
}

std::string unsupported(nf4_handle_t handle, const std::string& variant, const Problem& problem) {
  const nf4_problem_t asked = descriptor(problem);
  int32_t supported = 0;
  char reason[512] = "";
  check(nf4_variant_supports(handle, variant.c_str(), &asked, &supported, reason, sizeof reason));
  return supported != 0 ? "" : reason;
}

nf4_selection_t select(nf4_handle_t handle, const Problem& problem, size_t workspace_size, nf4_options_t options) {
  const nf4_problem_t asked = descriptor(problem);
  nf4_selection_t selection = {};
  selection.struct_size = sizeof selection;
  options.workspace_size = workspace_size;
  check(nf4_select(handle, &asked, &options, &selection));
  return selection;
}

void check_variants(nf4_handle_t handle, const std::vector<nf4_op_t>& ops, const std::vector<std::string>& names,
                    bool may_be_selected) {
  std::vector<std::string> known;
  if (may_be_selected) known.emplace_back(kSelected);
  for (const nf4_op_t op : ops) {
    for (Variant& variant : variants_of(handle, op)) known.push_back(std::move(variant.name));
  }
  for (const std::string& name : names) {
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    throw std::invalid_argument(nf4::formatted("--variant is {}; expected {}", name, fmt::join(known, ", ")));
  }
}

void list_variants(nf4_handle_t handle, const VariantsOptions& options) {
  for (const nf4_op_t op : options.ops) {
    Problem problem;
    if (options.problem) {
      problem = with_op(*options.problem, op);
      const nf4_selection_t selection = select(handle, problem, SIZE_MAX);
      say("{}: {}{}{} ({})\n", describe(problem), selection.variant, selection.config[0] == '\0' ? "" : " ",
          selection.config, selection.reason);
    } else {
      say("{}\n", op_name(op));
    }
    for (const Variant& variant : variants_of(handle, op)) {
      say("  {}, {}: {}\n    configs: {}\n", variant.name, variant.accuracy, variant.description,
          configs_text(variant));
      if (!options.problem) continue;
      const std::string reason = unsupported(handle, variant.name, problem);
      say("    {}\n", reason.empty() ? "can run it" : "cannot run it: " + reason);
    }
  }
}

}  // namespace nf4bench
