// Catch2, version 2 or 3, and the tests that need a GPU.
#pragma once

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
#endif

namespace nf4test {

// Records that the running test, or a part of it, cannot be done here: it is reported as skipped, by name, and, unless
// something in it fails, never as passed.
void skip(const char* reason);

// Whether CUDA device 0 can be used. Where it cannot, the running test is skipped.
bool gpu_or_skip();

}  // namespace nf4test

// First line of a test tagged [gpu].
#define REQUIRE_GPU()                      \
  do {                                     \
    if (!::nf4test::gpu_or_skip()) return; \
  } while (false)
