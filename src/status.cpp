#include "status.hpp"

#include <cstring>

namespace nf4 {
namespace {

// A plain array needs no destructor at thread exit, which would hold the library in memory past dlclose.
thread_local char last_message[1024] = "";

}  // namespace

nf4_status_t report(nf4_status_t status, const char* message) noexcept {
  std::strncpy(last_message, message, sizeof last_message - 1);
  return status;
}

}  // namespace nf4

extern "C" {

int32_t nf4_version(void) { return NF4_VERSION; }

const char* nf4_version_string(void) { return NF4_VERSION_STRING; }

const char* nf4_last_error_message(void) { return nf4::last_message; }

const char* nf4_status_string(nf4_status_t status) {
  static constexpr const char* kNames[] = {
      "NF4_SUCCESS",           "NF4_ERROR_INVALID_ARGUMENT", "NF4_ERROR_MISALIGNED",
      "NF4_ERROR_UNSUPPORTED", "NF4_ERROR_UNKNOWN_VARIANT",  "NF4_ERROR_STRUCT_SIZE",
      "NF4_ERROR_WORKSPACE",   "NF4_ERROR_WRONG_DEVICE",     "NF4_ERROR_NO_DEVICE",
      "NF4_ERROR_CUDA",        "NF4_ERROR_OUT_OF_MEMORY",    "NF4_ERROR_IO",
      "NF4_ERROR_PARSE",       "NF4_ERROR_INTERNAL",
  };
  return status >= 0 && status < static_cast<nf4_status_t>(std::size(kNames)) ? kNames[status] : "unknown nf4_status_t";
}

}  // extern "C"
