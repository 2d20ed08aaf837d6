// Which rows of a stage of codes a warp multiplies as which rows of the operand A of mma.m16n8k16.
#pragma once

namespace nf4 {

// Of 8 rows of a tile, the one that is row g of an operand A. So the 8-byte reads of a half warp fall into different
// banks: rows lie 128 bytes apart, with piece c (16 bytes) of row r at place c ^ (r % 8).
__device__ constexpr int operand_row(int g) { return 2 * (g % 4) + g / 4; }

}  // namespace nf4
