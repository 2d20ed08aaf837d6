// How a product that is made by one variant is run, once its arguments are checked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "check.hpp"
#include "handle.hpp"
#include "problem.hpp"
#include "select.hpp"

namespace nf4 {

// Without outputs only options and stream are looked at. `scratch` says how many doubles the host takes for it.
template <class Args>
void run_product(const nf4_handle& handle, Args args, bool has_outputs, const nf4_options_t* options,
                 nf4_stream_t stream, Problem (*problem_of)(const Args&),
                 int64_t (*scratch)(const Args&, const Device&)) {
  const Options checked = check_options(options, false);
  check_stream(handle, stream);
  if (!has_outputs) return;
  args.workspace = checked.workspace;
  const Problem problem = problem_of(args);
  const Choice choice = select(handle, problem, checked);
  std::unique_ptr<double[]> of_host;
  if (handle.on_host()) {
    of_host = std::make_unique_for_overwrite<double[]>(static_cast<size_t>(scratch(args, handle.device)));
    args.workspace = of_host.get();
  }
  start(handle, problem, choice,
        [&](const Variant& variant) { return variant.launch(&args, handle.device, choice.config, stream); });
}

}  // namespace nf4
