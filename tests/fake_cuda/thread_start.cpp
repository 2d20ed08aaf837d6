#include "thread_start.hpp"

#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <cerrno>

namespace {

std::atomic<long> left{0};  // until one fails; 0: none ever does
std::atomic<bool> has_failed{false};

}  // namespace

void thread_start::fail(long number) {
  left = number;
  has_failed = false;
}

bool thread_start::failed() { return has_failed; }

// In place of libc's, for libstdc++ too.
extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*start)(void*),
                              void* argument) noexcept {
  if (has_failed || (left > 0 && --left == 0)) {
    has_failed = true;
    return EAGAIN;
  }
  static const auto original = reinterpret_cast<decltype(&pthread_create)>(dlsym(RTLD_NEXT, "pthread_create"));
  return original(thread, attributes, start, argument);
}
