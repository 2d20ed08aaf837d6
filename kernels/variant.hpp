// What a variant declares of itself to src/.
#pragma once

#include <cstddef>
#include <iterator>
#include <limits>
#include <span>
#include <string>

#include "problem.hpp"

namespace nf4 {

// A config, and what it takes; infinite where nobody knows.
struct Planned {
  int config = 0;
  double nanoseconds = std::numeric_limits<double>::infinity();
};

// The config that takes the least, the first of several, by cost(config) in nanoseconds.
template <class Configs, class Cost>
Planned least_of(const Configs& configs, const Cost& cost) {
  Planned least;
  for (int i = 0; i < static_cast<int>(std::size(configs)); ++i) {
    if (const double nanoseconds = cost(configs[i]); nanoseconds < least.nanoseconds) least = {i, nanoseconds};
  }
  return least;
}

// One way to run an operation. A family of kernels declares its variants as constants of this type
// (docs/design/variants.md). A config is one setting of a variant's compile-time parameters; callers name it by its
// text, launchers by its index.
struct Variant {
  const char* name;         // "operation.way"
  const char* description;  // one line
  const char* accuracy;     // class of docs/reference/accuracy.md
  Op op;
  bool host;                               // runs on the host backend, otherwise on CUDA devices
  int configs;                             // at least one; index 0 is the default
  std::string (*config_text)(int config);  // "warps=8", "" for the only config of a variant without parameters
  const char* (*unsupported)(const Problem&, const Device&);  // null if it can run, else the reason why not
  size_t (*workspace_size)(const Problem&, const Device&,
                           int config);  // bytes, aligned to 256; null if it never needs any
  int (*launch)(const void* args, const Device&, int config, Stream);  // args of the op; a cudaError_t, 0 once launched
  // The same for 1 to kMostProducts products of an x that are alike in all but N, y, its leading dimension, weights and
  // bias, and that the variant supports as one of all their rows of W together; null if it takes them one by one.
  int (*launch_group)(std::span<const GemmArgs>, const Device&, int config, Stream) = nullptr;
  // The config that takes the least for a problem that the variant supports, of those that need no more workspace if
  // there are any; null if callers and tables must name one.
  Planned (*plan)(const Problem&, const Device&, size_t workspace_size) = nullptr;
};

// Makes a Variant::launch of a launcher with typed arguments.
template <class Args, int (*Launch)(const Args&, const Device&, int, Stream)>
int erased(const void* args, const Device& device, int config, Stream stream) {
  return Launch(*static_cast<const Args*>(args), device, config, stream);
}

// Makes a Variant::launch of a Variant::launch_group.
template <int (*Launch)(std::span<const GemmArgs>, const Device&, int, Stream)>
int launch_one(const void* args, const Device& device, int config, Stream stream) {
  return Launch({static_cast<const GemmArgs*>(args), 1}, device, config, stream);
}

inline std::string no_config(int) { return {}; }

inline const char* always_supported(const Problem&, const Device&) { return nullptr; }

}  // namespace nf4
