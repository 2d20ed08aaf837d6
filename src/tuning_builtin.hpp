// The tuning table that is compiled in, in the form of docs/guide/tuning.md: src/tuning_builtin.csv, or one without
// rows in a build without CUDA, since it speaks of CUDA devices only.
#pragma once

#include <string_view>

namespace nf4 {

extern const std::string_view kBuiltinTuning;

}  // namespace nf4
