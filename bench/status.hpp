// Turns an error of the library into an exception.
#pragma once

#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "nf4/nf4.h"

namespace nf4bench {

inline void check(nf4_status_t status) {
  if (status == NF4_SUCCESS) return;
  throw std::runtime_error(std::string(nf4_status_string(status)) + ": " + nf4_last_error_message());
}

struct HandleDeleter {
  void operator()(nf4_handle_t handle) const { nf4_destroy(handle); }
};
using Handle = std::unique_ptr<std::remove_pointer_t<nf4_handle_t>, HandleDeleter>;

inline Handle make_handle(int32_t device) {
  nf4_handle_t handle = nullptr;
  check(nf4_create(&handle, device));
  return Handle(handle);
}

}  // namespace nf4bench
