// Many threads on one handle of the host backend: every operation at once, each on the backend's own threads too. What
// ThreadSanitizer is to watch; on a GPU, streams.cpp has the like.
#include <atomic>
#include <string>
#include <thread>

#include "support/calls.hpp"

namespace nf4test {
namespace {

// So much that the host backend spreads each call over its threads.
const Shape kShape = {3, 130, 1088, 64, NF4_U8};

}  // namespace

TEST_CASE("threads: eight share one handle, host") {
  const Backend backend(NF4_HOST_DEVICE);
  for (const nf4_op_t op : kAllOps) {
    std::vector<std::unique_ptr<Call>> calls;
    for (int t = 0; t < 8; ++t) calls.push_back(std::make_unique<Call>(true, op, NF4_F32, kShape));
    std::atomic<int> failures{0};  // Catch2 takes no checks from other threads
    std::vector<std::thread> threads;
    for (size_t t = 0; t < calls.size(); ++t) {
      threads.emplace_back([&, t] {
        const std::string unknown = "variant of thread " + std::to_string(t);
        nf4_options_t options = NF4_OPTIONS_INIT;
        options.variant = unknown.c_str();
        for (int i = 0; i < 4; ++i) {
          failures += calls[t]->run(backend, nullptr) != NF4_SUCCESS;
          failures += calls[t]->run(backend, &options) != NF4_ERROR_UNKNOWN_VARIANT;
          failures += std::string(nf4_last_error_message()).find(unknown) == std::string::npos;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(failures == 0);
    for (const auto& call : calls) call->check("exact");
  }
}

TEST_CASE("threads: each makes and destroys handles of its own, host") {
  std::atomic<int> failures{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) {
        nf4_handle_t handle = nullptr;
        failures += nf4_create(&handle, NF4_HOST_DEVICE) != NF4_SUCCESS;
        failures += nf4_destroy(handle) != NF4_SUCCESS;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(failures == 0);
}

}  // namespace nf4test
