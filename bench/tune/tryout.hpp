// Tries the variants of the library, in each of their configs, on one problem.
#pragma once

#include <string>
#include <vector>

#include "contenders/contender.hpp"
#include "device/device.hpp"
#include "measure.hpp"

namespace nf4bench {

// A variant in one of its configs, on the problem.
struct Attempt {
  Row row;
  bool selected = false;  // it is what the library selects there
  bool dropped = false;   // far behind after a glance, and not timed any better
};

// The variants of the library that can run `problem`; not empty `names` keep those alone.
Contenders variants_for(nf4_handle_t handle, const std::vector<std::string>& names, const Problem& problem);

// Checks and times `contenders` in the memory of one problem, with cold, constant weights: all of them at a glance,
// then properly those that are not far behind, be it among all or among those that need no workspace, and what is
// selected.
std::vector<Attempt> try_all(Device& device, nf4_handle_t handle, const Contenders& contenders, const Problem& problem);

// The fastest of those that are not wrong, and that need no workspace if `modest`; NULL if there is none.
const Attempt* fastest(const std::vector<Attempt>& attempts, bool modest);

}  // namespace nf4bench
