// Runs the tests, and ends with a line that counts them. Those that could not run are listed as skipped; if nothing
// else ran, the exit code is 77, which ctest reports as skipped too.
//
//   nf4_tests [Catch2's arguments]
//   nf4_tests --list-variants        names the CUDA variants of this build, one a line, for NF4_TEST_VARIANT
#define CATCH_CONFIG_RUNNER
#include <cstdio>
#include <map>
#include <string>

#include "catch.hpp"
#include "nf4/nf4.h"
#include "registry.hpp"

namespace {

constexpr int kSkipped = 77;

std::map<std::string, std::string> skipped;  // name of the test, and why
size_t failed = 0;
size_t tests_run = 0;

std::string running_test() { return Catch::getResultCapture().getCurrentTestName(); }

#if CATCH_VERSION_MAJOR >= 3
using Listener = Catch::EventListenerBase;
#else
using Listener = Catch::TestEventListenerBase;
#endif

struct Counter : Listener {
  using Listener::Listener;
  void testCaseEnded(const Catch::TestCaseStats& stats) override {
    ++tests_run;
    if (stats.totals.testCases.failed == 0) return;
    ++failed;
    skipped.erase(running_test());
  }
};
CATCH_REGISTER_LISTENER(Counter)

void list_variants() {
  for (int op = 0; op < nf4::kOps; ++op) {
    for (const nf4::Variant* variant : nf4::variants(static_cast<nf4::Op>(op), false)) std::puts(variant->name);
  }
}

}  // namespace

void nf4test::skip(const char* reason) { skipped.emplace(running_test(), reason); }

bool nf4test::gpu_or_skip() {
  static const bool has_gpu = [] {
    nf4_handle_t handle = nullptr;
    const bool created = nf4_create(&handle, 0) == NF4_SUCCESS;
    nf4_destroy(handle);
    return created;
  }();
  if (!has_gpu) skip("no CUDA device");
  return has_gpu;
}

int main(int argc, char** argv) {
  if (argc == 2 && std::string(argv[1]) == "--list-variants") {
    list_variants();
    return 0;
  }
  const int result = Catch::Session().run(argc, argv);
  for (const auto& [test, reason] : skipped) std::printf("skipped, %s: %s\n", reason.c_str(), test.c_str());
  if (tests_run > 0) {
    std::printf("%zu passed, %zu failed, %zu skipped\n", tests_run - failed - skipped.size(), failed, skipped.size());
  }
  return result == 0 && !skipped.empty() && skipped.size() == tests_run ? kSkipped : result;
}
