// What a sweep comes to, in a few lines.
#pragma once

#include <string>
#include <vector>

#include "measure.hpp"

namespace nf4bench {

// A line for each kind of work (operation, M, dtype, blocksize, nested or not): how many times as fast what the library
// selects is as each peer, in the geometric mean over the shapes that both did, and how it compares at worst with the
// fastest variant that was measured. "" if nothing selected was measured.
std::string summary(const std::vector<Row>& rows, const std::vector<std::string>& peers);

}  // namespace nf4bench
