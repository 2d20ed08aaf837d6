// Runs the tests, and ends with a line that counts them. Those that could not run are listed as skipped; if nothing
// else ran, the exit code is 77, which ctest reports as skipped too. What ran nothing has failed: a run without a test,
// a filter that matches none, a test without an assertion.
//
//   nf4_tests [Catch2's arguments]
//   nf4_tests --exact NAME                    the one test of that name, whatever characters the name holds
//   nf4_tests --list-variants                 names the CUDA variants of this build, one a line, for NF4_TEST_VARIANT
//   nf4_tests --write-ctest-file FILE PREFIX  writes a ctest entry for each test, named PREFIX and the test's name
#define CATCH_CONFIG_RUNNER
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "catch.hpp"
#include "nf4/nf4.h"
#include "registry.hpp"

namespace {

constexpr int kSkipped = 77;

std::map<std::string, std::string> skipped;  // name of the test, and why
std::string last_test;
bool ran = false;  // true once Catch2 went through what its arguments select, false where they ask for a list
size_t failed = 0;
size_t tests_run = 0;

std::string running_test() { return Catch::getResultCapture().getCurrentTestName(); }

#if CATCH_VERSION_MAJOR >= 3
using Listener = Catch::EventListenerBase;
constexpr auto kUnmatchedFilterFails = Catch::WarnAbout::UnmatchedTestSpec;
const Catch::TestCaseInfo& info(const Catch::TestCaseHandle& test) { return test.getTestCaseInfo(); }
#else
using Listener = Catch::TestEventListenerBase;
constexpr auto kUnmatchedFilterFails = Catch::WarnAbout::NoTests;
const Catch::TestCaseInfo& info(const Catch::TestCase& test) { return test; }
#endif

struct Counter : Listener {
  using Listener::Listener;
  void testCaseEnded(const Catch::TestCaseStats& stats) override {
    ++tests_run;
    last_test = running_test();
    if (stats.totals.testCases.failed != 0) {
      ++failed;
      skipped.erase(last_test);
    } else if (stats.totals.assertions.total() == 0 && skipped.count(last_test) == 0) {
      ++failed;
      std::printf("failed, it asserted nothing: %s\n", last_test.c_str());
    }
  }
  void testRunEnded(const Catch::TestRunStats&) override { ran = true; }
};
CATCH_REGISTER_LISTENER(Counter)

void list_variants() {
  for (int op = 0; op < nf4::kOps; ++op) {
    for (const nf4::Variant* variant : nf4::variants(static_cast<nf4::Op>(op), false)) std::puts(variant->name);
  }
}

// The filter for a test's name. In quotes Catch2 reads three characters as its own; asterisks at the ends it always
// does.
std::string filter(const std::string& name) {
  std::string quoted = "\"";
  for (const char c : name) {
    if (c == '\\' || c == ',' || c == '"') quoted += '\\';
    quoted += c;
  }
  return quoted + '"';
}

// Hidden tests are those of a GPU, or such as need what their own entry in CMakeLists.txt arranges.
bool write_ctest_file(Catch::Session& session, const std::string& program, const char* path, const char* prefix) {
  const auto bracketed = [](const std::string& text) { return "[==[" + text + "]==]"; };
  std::ofstream file(path);
  for (const auto& test : Catch::getAllTestCasesSorted(session.config())) {
    const std::string name = info(test).name;
    const bool gpu = info(test).tagsAsString().find("[gpu]") != std::string::npos;
    if (info(test).isHidden() && !gpu) continue;
    const std::string entry = bracketed(prefix + name);
    file << "add_test(" << entry << ' ' << bracketed(program) << " --exact " << bracketed(name) << ")\n";
    file << "set_tests_properties(" << entry << " PROPERTIES LABELS " << (gpu ? "gpu" : "unit") << ")\n";
    if (gpu) file << "set_tests_properties(" << entry << " PROPERTIES SKIP_RETURN_CODE " << kSkipped << ")\n";
  }
  file.close();
  return file.good();
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
  Catch::Session session;
  session.configData().warnings = kUnmatchedFilterFails;

  std::vector<std::string> arguments(argv, argv + argc);
  const std::string mode = argc > 1 ? argv[1] : "";
  if (mode == "--list-variants" && argc == 2) {
    list_variants();
    return EXIT_SUCCESS;
  }
  if (mode == "--write-ctest-file" && argc == 4) {
    return write_ctest_file(session, argv[0], argv[2], argv[3]) ? EXIT_SUCCESS : EXIT_FAILURE;
  }
  const bool exact = mode == "--exact" && argc == 3;
  if (exact) arguments = {argv[0], filter(argv[2])};

  std::vector<const char*> pointers;
  for (const std::string& argument : arguments) pointers.push_back(argument.c_str());
  const int result = session.run(static_cast<int>(pointers.size()), pointers.data());
  if (!ran) return result;

  for (const auto& [test, reason] : skipped) std::printf("skipped, %s: %s\n", reason.c_str(), test.c_str());
  if (tests_run == 0) {
    std::puts("failed: no test ran");
    return EXIT_FAILURE;
  }
  std::printf("%zu passed, %zu failed, %zu skipped\n", tests_run - failed - skipped.size(), failed, skipped.size());
  if (exact && (tests_run != 1 || last_test != argv[2])) {
    std::printf("failed: Catch2 ran other tests than %s; rename the test\n", argv[2]);
    return EXIT_FAILURE;
  }
  if (result != 0 || failed != 0) return std::max(result, EXIT_FAILURE);
  return skipped.size() == tests_run ? kSkipped : EXIT_SUCCESS;
}
