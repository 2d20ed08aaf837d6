// What kernels are launched with, read from their arguments as they read them, and what is wrong with that for a call.
#pragma once

#include <functional>
#include <span>
#include <string>

#include "runtime.hpp"
#include "variant.hpp"

namespace nf4test {

// A call as a test made it, in the terms of launchers, and who was chosen for it.
struct Expected {
  const nf4::Device& device;
  const nf4::Variant& variant;
  int config;
  const void* args;                           // of the variant's op, but of gemm
  std::span<const nf4::GemmArgs> products{};  // of one launch after the other
  size_t workspace_size = 0;                  // bytes that the variant asks for
  int64_t m0 = 0;                             // rows of x that the launches before took; a launch's own are added
  int64_t columns = 0;                        // of W that the launches before unpacked
  int launches = 0;                           // before
};

// Tells what is wrong with a launch for a call, "" if nothing is.
using Check = std::function<std::string(Expected&)>;

// Reads a launch's arguments, which are there while it is observed and not later. A kernel that no reader knows is
// wrong for any call: kernels.cpp has a line for each.
Check read(const fake_cuda::Launch& launch, const void* const* arguments);

}  // namespace nf4test
