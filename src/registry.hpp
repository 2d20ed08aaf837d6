// Every variant of this build.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "variant.hpp"

namespace nf4 {

// The variants of `op` for the host backend or for CUDA devices, in default order: the first that can run a problem
// runs it, unless it is forced or tuned otherwise.
std::span<const Variant* const> variants(Op op, bool host);

// The variant of that name, or null.
const Variant* find_variant(std::string_view name);

// The names of all variants, for messages.
std::string variant_names();

// The index of the config whose text is `text`, or -1.
int find_config(const Variant& variant, std::string_view text);

}  // namespace nf4
