#include "select.hpp"

#include <cstdio>
#include <limits>
#include <optional>

#include "device.hpp"
#include "registry.hpp"
#include "text/formatted.hpp"

namespace nf4 {
namespace {

bool is_for(const nf4_handle& handle, const Problem& problem, const Variant& variant) {
  return variant.op == problem.op && variant.host == handle.on_host();
}

bool has_room(const nf4_handle& handle, const Problem& problem, const Variant& variant, int config,
              size_t workspace_size) {
  return variant.workspace_size == nullptr || variant.workspace_size(problem, handle.device, config) <= workspace_size;
}

bool can_run(const nf4_handle& handle, const Problem& problem, const Variant& variant, int config,
             size_t workspace_size) {
  // Room first: asking a variant whether it is supported may load a library, which none without room is worth.
  return is_for(handle, problem, variant) && has_room(handle, problem, variant, config, workspace_size) &&
         variant.unsupported(problem, handle.device) == nullptr;
}

// What takes the least of what can run, as the row's variant plans, or each that has a plan.
std::optional<Choice> planned(const nf4_handle& handle, const Problem& problem, const TuningRow& row,
                              size_t workspace_size) {
  std::optional<Choice> choice;
  double least = std::numeric_limits<double>::infinity();
  const auto consider = [&](const Variant& variant) {
    if (!is_for(handle, problem, variant) || variant.unsupported(problem, handle.device) != nullptr) return;
    const auto [config, nanoseconds] = variant.plan(problem, handle.device, workspace_size);
    if (!(nanoseconds < least) || !has_room(handle, problem, variant, config, workspace_size)) return;
    choice = {&variant, config, Choice::Why::table, row.line};
    least = nanoseconds;
  };
  if (row.variant != nullptr) {
    consider(*row.variant);
  } else {
    for (const Variant* variant : variants(problem.op, handle.on_host())) {
      // What takes products one by one takes another time than it plans for them as one.
      const bool one_by_one = problem.products > 1 && variant->launch_group == nullptr;
      if (variant->plan != nullptr && !one_by_one) consider(*variant);
    }
  }
  return choice;
}

// What the row chooses, if that can run.
std::optional<Choice> choice_of(const nf4_handle& handle, const Problem& problem, const TuningRow& row,
                                size_t workspace_size) {
  if (!row.config) return planned(handle, problem, row, workspace_size);
  if (!can_run(handle, problem, *row.variant, *row.config, workspace_size)) return std::nullopt;
  return Choice{row.variant, *row.config, Choice::Why::table, row.line};
}

Choice forced(const nf4_handle& handle, const Problem& problem, const Options& options, const Variant& variant,
              int config, Choice::Why why) {
  if (const std::string reason = unsupported(handle, problem, variant); !reason.empty()) {
    fail(NF4_ERROR_UNSUPPORTED, "forced variant {} cannot run this: {}", variant.name, reason);
  }
  const Choice choice{&variant, config, why, 0};
  if (const size_t needed = choice.workspace_size(problem, handle.device); needed > options.workspace_size) {
    fail(NF4_ERROR_WORKSPACE, "options->workspace_size is {}; forced variant {} needs {} bytes", options.workspace_size,
         variant.name, needed);
  }
  return choice;
}

// A line that there is no memory for is left out: other products of the call may have begun.
void log(const nf4_handle& handle, const Problem& problem, const Choice& choice) try {
  const std::string config = choice.variant->config_text(choice.config);
  const bool routed = problem.op == Op::gemm_experts || problem.op == Op::sort_experts;
  const std::string experts =
      routed ? formatted(" experts={} top_k={} sorted={}", problem.experts, problem.top_k, problem.sorted) : "";
  const std::string line = formatted("nf4: {}: {} {} m={} n={} k={} blocksize={} absmax={}{}: {}{}{} ({})\n",
                                     handle.device.name, name_of(problem.op), name_of(problem.dtype), problem.m,
                                     problem.n, problem.k, problem.blocksize, name_of(problem.absmax_dtype), experts,
                                     choice.variant->name, config.empty() ? "" : " ", config, choice.reason());
  std::fputs(line.c_str(), stderr);
} catch (const std::bad_alloc&) {
}

}  // namespace

std::string unsupported(const nf4_handle& handle, const Problem& problem, const Variant& variant) {
  if (variant.op != problem.op) return formatted("it is a variant of {}", name_of(variant.op));
  if (variant.host != handle.on_host()) {
    return formatted("it runs on {}, and the handle is for {}", variant.host ? "the host backend" : "CUDA devices",
                     handle.device.name);
  }
  const char* reason = variant.unsupported(problem, handle.device);
  return reason != nullptr ? reason : "";
}

Options check_options(const nf4_options_t* options, bool dry) {
  Options checked;
  if (options == nullptr) return checked;
  const nf4_options_t asked = read_struct("options", options);
  if (asked.variant != nullptr) {
    checked.variant = find_variant(asked.variant);
    if (checked.variant == nullptr) {
      fail(NF4_ERROR_UNKNOWN_VARIANT, "options->variant is '{}'; there are {}", asked.variant, variant_names());
    }
    if (asked.config != nullptr) {
      checked.config = find_config(*checked.variant, asked.config);
      if (checked.config < 0) {
        fail(NF4_ERROR_UNKNOWN_VARIANT, "options->config is '{}', which {} has not; its first is '{}'", asked.config,
             asked.variant, checked.variant->config_text(0));
      }
    }
  } else if (asked.config != nullptr) {
    fail(NF4_ERROR_INVALID_ARGUMENT, "options->config is '{}' without options->variant", asked.config);
  }
  checked.workspace = asked.workspace;
  checked.workspace_size = asked.workspace_size;
  if (checked.workspace == nullptr && checked.workspace_size > 0 && !dry) {
    fail(NF4_ERROR_INVALID_ARGUMENT, "options->workspace is null, with options->workspace_size {}",
         checked.workspace_size);
  }
  if (reinterpret_cast<uintptr_t>(checked.workspace) % 256 != 0) {
    fail(NF4_ERROR_WORKSPACE, "options->workspace is {}; expected a multiple of 256 bytes", checked.workspace);
  }
  return checked;
}

std::string Choice::reason() const {
  switch (why) {
    case Why::option:
      return "forced by options->variant";
    case Why::environment:
      return "forced by NF4_FORCE_VARIANT";
    case Why::table:
      return formatted("line {} of the tuning table", line);
    default:
      return "default: the first variant that can run this";
  }
}

const Variant* forced_variant(const nf4_handle& handle, Op op, const Options& options) {
  return options.variant != nullptr ? options.variant : handle.forced[static_cast<size_t>(op)];
}

Choice select(const nf4_handle& handle, const Problem& problem, const Options& options) {
  if (options.variant != nullptr) {
    return forced(handle, problem, options, *options.variant, options.config, Choice::Why::option);
  }
  if (const Variant* variant = handle.forced[static_cast<size_t>(problem.op)]) {
    return forced(handle, problem, options, *variant, 0, Choice::Why::environment);
  }
  const auto tuning = handle.tuning();
  for (const TuningRow* row : tuning->near(problem)) {
    if (!row->matches(problem)) continue;
    if (const auto choice = choice_of(handle, problem, *row, options.workspace_size)) return *choice;
  }
  for (const Variant* variant : variants(problem.op, handle.on_host())) {
    if (can_run(handle, problem, *variant, 0, options.workspace_size)) return {variant, 0, Choice::Why::fallback, 0};
  }
  fail(NF4_ERROR_INTERNAL, "no variant of {} can run this; one that runs every problem is missing",
       name_of(problem.op));
}

void before_launch(const nf4_handle& handle, const Problem& problem, const Choice& choice) {
  if (!handle.on_host()) check_ready(handle.device);
  if (handle.log) log(handle, problem, choice);
}

}  // namespace nf4
