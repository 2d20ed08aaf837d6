// How far what the library selects is behind the best of all that it could have selected.
#pragma once

#include <string>
#include <vector>

#include "measure.hpp"

namespace nf4bench {

// The regret of a problem is the time of what is selected over that of its fastest row, which may be the same: 1 at
// least. A line for each kind of work (operation, M, dtype, blocksize, nested or not): of how many problems, the
// geometric mean and the worst, with its layer and both choices; then the worst of all. "" if nothing selected was
// right.
std::string regret_table(const std::vector<Row>& rows);

}  // namespace nf4bench
