// What was built: for records, and for --version.
#pragma once

#include <string>

namespace nf4bench {

// "1.1.0", of the library that is running.
std::string library_version();

// The commit of the sources, as git describes it.
std::string built_commit();

}  // namespace nf4bench
