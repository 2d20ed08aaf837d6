#include "device.hpp"
#include "status.hpp"

namespace nf4 {

Device query_device(int ordinal) {
  fail(NF4_ERROR_NO_DEVICE,
       "device is {}; this build of libnf4 has no CUDA, only NF4_HOST_DEVICE (-1); for CUDA build it again with "
       "NF4_CUDA=ON, where the CUDA toolkit is",
       ordinal);
}

// No handle of a CUDA device exists in this build, so neither of these is ever reached.
void check_ready(const Device&) {}
void check_launched(int, const char*) {}

}  // namespace nf4
