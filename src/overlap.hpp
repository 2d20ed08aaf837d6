// Where operands lie in memory, and that outputs lie apart from all else that a call reads or writes.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "variant.hpp"

namespace nf4 {

// Runs of bytes, each `pitch` bytes after the one before.
struct Extent {
  const char* name;  // of the argument
  const void* begin;
  int64_t runs;
  int64_t bytes;  // of a run
  int64_t pitch;
  int64_t length;  // bytes from the first of the first run to the last of the last
};

Extent array_extent(const char* name, const void* begin, int64_t bytes);
Extent matrix_extent(const char* name, const void* begin, int64_t rows, int64_t cols, int64_t ld, size_t element);

// The codes of W, then its scales.
std::array<Extent, 5> weight_extents(const Weight& weight);

// Whether a byte belongs to both. Matrices that lie between one another's rows do not overlap; of two whose rows are
// not equally far apart that is taken as given.
bool overlap(const Extent& a, const Extent& b);

// Fails with NF4_ERROR_INVALID_ARGUMENT if an output overlaps one of the others.
void check_apart(const Extent& output, std::span<const Extent> others);

}  // namespace nf4
