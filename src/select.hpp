// Selection: from a problem to the variant and config that run it, and running it.
#pragma once

#include <string>

#include "check.hpp"
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

// Chooses: the variant that the call forces, else the one that NF4_FORCE_VARIANT forces, else the first row of the
// tuning table that matches and can run, else the first variant that can run. A forced one that cannot run is an error.
Choice select(const nf4_handle& handle, const Problem& problem, const Options& options);

// Selects and launches; `args` are the op's. All arguments have been checked.
void run(const nf4_handle& handle, const Problem& problem, const void* args, const Options& options,
         nf4_stream_t stream);

template <class Args>
void run(const nf4_handle& handle, const Problem& problem, const Args& args, const Options& options,
         nf4_stream_t stream) {
  run(handle, problem, static_cast<const void*>(&args), options, stream);
}

}  // namespace nf4
