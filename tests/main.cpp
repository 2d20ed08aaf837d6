// Runs the tests. Without a GPU those that need one are listed as skipped; if nothing else ran, the exit code is 77,
// which ctest reports as skipped too.
#define CATCH_CONFIG_RUNNER
#include <cstdio>
#include <set>
#include <string>

#include "catch.hpp"
#include "nf4/nf4.h"

namespace {

constexpr int kSkipped = 77;

std::set<std::string> skipped;
size_t tests_run = 0;

#if CATCH_VERSION_MAJOR >= 3
using Listener = Catch::EventListenerBase;
#else
using Listener = Catch::TestEventListenerBase;
#endif

struct Counter : Listener {
  using Listener::Listener;
  void testCaseEnded(const Catch::TestCaseStats&) override { ++tests_run; }
};
CATCH_REGISTER_LISTENER(Counter)

}  // namespace

bool nf4test::gpu_or_skip(const char* test) {
  static const bool has_gpu = [] {
    nf4_handle_t handle = nullptr;
    const bool created = nf4_create(&handle, 0) == NF4_SUCCESS;
    nf4_destroy(handle);
    return created;
  }();
  if (!has_gpu) skipped.insert(test);
  return has_gpu;
}

int main(int argc, char** argv) {
  const int result = Catch::Session().run(argc, argv);
  for (const std::string& test : skipped) std::printf("skipped, no CUDA device: %s\n", test.c_str());
  if (!skipped.empty()) std::printf("%zu passed or failed, %zu skipped\n", tests_run - skipped.size(), skipped.size());
  return result == 0 && !skipped.empty() && skipped.size() == tests_run ? kSkipped : result;
}
