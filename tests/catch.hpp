// Catch2, version 2 or 3, and the tests that need a GPU.
#pragma once

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
#endif

namespace nf4test {

// Whether CUDA device 0 can be used. Where it cannot, records the running test as skipped.
bool gpu_or_skip(const char* test);

}  // namespace nf4test

// First line of a test tagged [gpu]: without a GPU the test is reported as skipped, by name, and never as passed.
#define REQUIRE_GPU()                                                                            \
  do {                                                                                           \
    if (!::nf4test::gpu_or_skip(Catch::getResultCapture().getCurrentTestName().c_str())) return; \
  } while (false)
