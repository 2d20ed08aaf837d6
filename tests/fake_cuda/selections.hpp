// What selection was told: the problems and options that the library passed to nf4::select(), which this program's
// linker puts between the two (--wrap), and what it chose.
#pragma once

#include <vector>

#include "select.hpp"

namespace nf4test {

struct Selection {
  nf4::Problem problem;
  nf4::Options options;
  nf4::Choice choice;
};

// Since the last clear, those that found a variant.
std::vector<Selection>& selections();

}  // namespace nf4test
