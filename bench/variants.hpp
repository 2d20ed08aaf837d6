// The library's variants, as its C API tells of them.
#pragma once

#include <string>
#include <vector>

#include "nf4/nf4.h"
#include "options.hpp"
#include "problem.hpp"

namespace nf4bench {

struct Variant {
  std::string name;
  std::string description;
  std::string accuracy;  // class
  std::vector<std::string> configs;
};

// In the default order, whether or not the device can run them.
std::vector<Variant> variants_of(nf4_handle_t handle, nf4_op_t op);

// Why `variant` cannot run `problem`; "" if it can.
std::string unsupported(nf4_handle_t handle, const std::string& variant, const Problem& problem);

// What a call of `problem` runs with `options` in a workspace of that many bytes.
nf4_selection_t select(nf4_handle_t handle, const Problem& problem, size_t workspace_size,
                       nf4_options_t options = NF4_OPTIONS_INIT);

// Throws std::invalid_argument where a name is neither a variant of one of `ops` nor, if it may be, "selected".
void check_variants(nf4_handle_t handle, const std::vector<nf4_op_t>& ops, const std::vector<std::string>& names,
                    bool may_be_selected);

// Prints name, accuracy class, description and configs of each variant, and whether it can run a problem.
void list_variants(nf4_handle_t handle, const VariantsOptions& options);

}  // namespace nf4bench
