// How the sums of a tile lie in shared memory, [rows of x][pitch], where the ring of stages was: in plain C++.
#pragma once

namespace nf4 {

// Floats from one row of x to the next, for a tile of so many rows of W. Lanes that write columns 2t of 8 rows then
// meet different banks.
constexpr int sum_pitch(int rows) { return rows + 4; }

constexpr int sum_bytes(int rows, int cols) { return cols * sum_pitch(rows) * static_cast<int>(sizeof(float)); }

}  // namespace nf4
