// How the library fails: inside, by throwing an Error; at each C entry point, by guarded(), which turns it into a
// status and keeps its message for the calling thread. Nothing is ever thrown across the C boundary.
#pragma once

#include <new>
#include <string>
#include <utility>

#include "nf4/nf4.h"
#include "text/formatted.hpp"

namespace nf4 {

struct Error {
  nf4_status_t status;
  std::string message;
};

template <class... Args>
[[noreturn]] void fail(nf4_status_t status, fmt::format_string<Args...> format, Args&&... args) {
  throw Error{status, formatted(format, std::forward<Args>(args)...)};
}

// Keeps `message` as this thread's last error and returns `status`.
nf4_status_t report(nf4_status_t status, const char* message) noexcept;

// Runs the body of an entry point.
template <class Body>
nf4_status_t guarded(Body&& body) noexcept {
  try {
    body();
    return NF4_SUCCESS;
  } catch (const Error& error) {
    return report(error.status, error.message.c_str());
  } catch (const std::bad_alloc&) {
    return report(NF4_ERROR_OUT_OF_MEMORY, "host memory is exhausted");
  } catch (const std::exception& error) {
    return report(NF4_ERROR_INTERNAL, error.what());
  }
}

}  // namespace nf4
