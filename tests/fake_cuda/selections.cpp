#include "selections.hpp"

#define NF4_SELECT "_ZN3nf46selectERK10nf4_handleRKNS_7ProblemERKNS_7OptionsE"

namespace nf4test {

nf4::Choice real_select(const nf4_handle&, const nf4::Problem&, const nf4::Options&) __asm__("__real_" NF4_SELECT);
nf4::Choice wrapped_select(const nf4_handle&, const nf4::Problem&, const nf4::Options&) __asm__("__wrap_" NF4_SELECT);

std::vector<Selection>& selections() {
  static std::vector<Selection> all;
  return all;
}

nf4::Choice wrapped_select(const nf4_handle& handle, const nf4::Problem& problem, const nf4::Options& options) {
  const nf4::Choice choice = real_select(handle, problem, options);
  selections().push_back({problem, options, choice});
  return choice;
}

}  // namespace nf4test
