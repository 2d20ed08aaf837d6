#include "build.hpp"

#include "formatted.hpp"
#include "nf4/nf4.h"

namespace nf4bench {

std::string library_version() {
  const int32_t version = nf4_version();
  return nf4::formatted("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

std::string built_commit() { return NF4_GIT_COMMIT; }

}  // namespace nf4bench
