// Many threads on one handle of the host backend: every operation at once, each on the backend's own threads too. What
// ThreadSanitizer is to watch; on a GPU, streams.cpp has the like.
#include <functional>
#include <latch>
#include <numeric>
#include <string>
#include <thread>

#include "support/calls.hpp"

namespace nf4test {
namespace {

constexpr size_t kThreads = 8;

// Runs body(t) on each thread t, all at once. It returns how many of its checks failed, since Catch2 takes none from
// other threads. They share no counter: that would put them in an order, and hide races from ThreadSanitizer.
void check_threads(const std::function<int(size_t)>& body) {
  std::vector<int> failures(kThreads);
  std::latch start(kThreads);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      start.arrive_and_wait();
      failures[t] = body(t);
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(std::accumulate(failures.begin(), failures.end(), 0) == 0);
}

}  // namespace

TEST_CASE("threads: eight share one handle, host") {
  const Backend backend(NF4_HOST_DEVICE);
  // So much that the host backend spreads each call over its threads.
  const Shape shape = {3, 130, 1088, 64, NF4_U8};
  for (const nf4_op_t op : kAllOps) {
    std::vector<std::unique_ptr<Call>> calls;
    for (size_t t = 0; t < kThreads; ++t) calls.push_back(std::make_unique<Call>(true, op, NF4_F32, shape));
    check_threads([&](size_t t) {
      int failures = 0;
      const std::string unknown = "variant of thread " + std::to_string(t);
      nf4_options_t options = NF4_OPTIONS_INIT;
      options.variant = unknown.c_str();
      for (int i = 0; i < 4; ++i) {
        failures += calls[t]->run(backend, nullptr) != NF4_SUCCESS;
        failures += calls[t]->run(backend, &options) != NF4_ERROR_UNKNOWN_VARIANT;
        failures += std::string(nf4_last_error_message()).find(unknown) == std::string::npos;
      }
      return failures;
    });
    for (const auto& call : calls) call->check("exact");
  }
}

TEST_CASE("threads: each makes and destroys handles of its own, host") {
  check_threads([](size_t) {
    int failures = 0;
    for (int i = 0; i < 50; ++i) {
      nf4_handle_t handle = nullptr;
      failures += nf4_create(&handle, NF4_HOST_DEVICE) != NF4_SUCCESS;
      failures += nf4_destroy(handle) != NF4_SUCCESS;
    }
    return failures;
  });
}

}  // namespace nf4test
