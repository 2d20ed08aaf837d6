// Unpacks some columns of W.
#pragma once

#include "problem.hpp"

namespace nf4 {

// Whether launch_unpack_slab takes columns of such a W.
inline bool can_unpack_slab(const Problem& problem) { return problem.k % 8 == 0 && problem.alignment >= 4; }

// Writes columns `first` to `first + cols` of all rows of W to slab [weight.rows, cols] of dtype, without gaps: the
// very values of nf4_unpack. `first` and `cols` are multiples of 8; the slab is aligned to 16 bytes.
int launch_unpack_slab(void* slab, const Weight& weight, int64_t first, int64_t cols, Dtype dtype, Stream stream);

}  // namespace nf4
