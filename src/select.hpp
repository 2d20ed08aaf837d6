// Selection: from a problem to the variant and config that run it, and running it.
#pragma once

#include <string>

#include "check.hpp"
#include "device.hpp"
#include "handle.hpp"
#include "variant.hpp"

namespace nf4 {

// A caller's options, checked, with the names looked up.
struct Options {
  const Variant* variant = nullptr;  // forced by the call
  int config = 0;
  void* workspace = nullptr;
  size_t workspace_size = 0;
};

// `dry` is a call that runs nothing: its workspace may have a size without memory behind it.
Options check_options(const nf4_options_t* options, bool dry);

struct Choice {
  enum class Why { option, environment, table, fallback };

  const Variant* variant;
  int config;
  Why why;
  int line;  // of the table's row

  size_t workspace_size(const Problem& problem, const Device& device) const {
    return variant->workspace_size != nullptr ? variant->workspace_size(problem, device, config) : 0;
  }
  std::string reason() const;
};

// "" if `variant` can run `problem` on the handle, else the reason why not.
std::string unsupported(const nf4_handle& handle, const Problem& problem, const Variant& variant);

// The variant of `op` that the call, or NF4_FORCE_VARIANT, forces; null if none is.
const Variant* forced_variant(const nf4_handle& handle, Op op, const Options& options);

// Chooses: the variant that the call forces, else the one that NF4_FORCE_VARIANT forces, else the first row of the
// tuning table that matches and can run, else the first variant that can run. A forced one that cannot run is an error.
Choice select(const nf4_handle& handle, const Problem& problem, const Options& options);

// Before a launch of what was chosen: fails if the device is not ready for it, and logs it.
void before_launch(const nf4_handle& handle, const Problem& problem, const Choice& choice);

// Launches what was chosen: launch(variant) does, and returns a cudaError_t. All arguments have been checked.
template <class Launch>
void start(const nf4_handle& handle, const Problem& problem, const Choice& choice, const Launch& launch) {
  before_launch(handle, problem, choice);
  check_launched(launch(*choice.variant), choice.variant->name);
}

// Selects and launches.
template <class Args>
void run(const nf4_handle& handle, const Problem& problem, const Args& args, const Options& options,
         nf4_stream_t stream) {
  check_stream(handle, stream);
  const Choice choice = select(handle, problem, options);
  start(handle, problem, choice,
        [&](const Variant& variant) { return variant.launch(&args, handle.device, choice.config, stream); });
}

}  // namespace nf4
