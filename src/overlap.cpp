#include "overlap.hpp"

#include <algorithm>

#include "check.hpp"
#include "status.hpp"

namespace nf4 {
namespace {

int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b > 0 ? 1 : 0); }

const void* end(const Extent& extent) { return static_cast<const unsigned char*>(extent.begin) + extent.length; }

}  // namespace

Extent array_extent(const char* name, const void* begin, int64_t bytes) {
  return {name, begin, 1, bytes, bytes, bytes};
}

Extent matrix_extent(const char* name, const void* begin, int64_t rows, int64_t cols, int64_t ld, size_t element) {
  const auto size = static_cast<int64_t>(element);
  if (rows <= 1 || ld == cols) return array_extent(name, begin, rows * cols * size);
  return {name, begin, rows, cols * size, ld * size, ((rows - 1) * ld + cols) * size};
}

std::array<Extent, 5> weight_extents(const Weight& weight) {
  const Absmax& absmax = weight.absmax;
  const int64_t blocks = blocks_of(weight);
  const bool nested = absmax.dtype == Dtype::u8 && blocks > 0;
  const int64_t groups = nested ? ((blocks - 1) >> absmax.log2_blocksize) + 1 : 0;
  constexpr auto kFloat = static_cast<int64_t>(sizeof(float));
  return {array_extent("weight->codes", weight.codes, (weight.rows * weight.cols + 1) / 2),
          array_extent("weight->absmax", absmax.values, blocks * static_cast<int64_t>(size_of(absmax.dtype))),
          array_extent("weight->absmax_map", absmax.map, nested ? 256 * kFloat : 0),
          array_extent("weight->absmax2", absmax.absmax2, groups * kFloat),
          array_extent("weight->absmax_offset", absmax.offset, nested ? kFloat : 0)};
}

bool overlap(const Extent& a, const Extent& b) {
  const auto distance =
      static_cast<int64_t>(reinterpret_cast<uintptr_t>(b.begin) - reinterpret_cast<uintptr_t>(a.begin));
  if (distance >= a.length || -distance >= b.length) return false;  // as nearly always
  if (a.bytes == 0 || b.bytes == 0) return false;
  if (a.runs > 1 && b.runs > 1 && a.pitch != b.pitch) return false;
  // Run i of a and run j of b overlap if (i - j) * pitch lies between these two.
  const int64_t low = distance - a.bytes;
  const int64_t high = distance + b.bytes;
  const int64_t pitch = a.runs > 1 ? a.pitch : b.pitch;
  const int64_t first = std::max(ceil_div(low + 1, pitch), 1 - b.runs);
  return first < a.runs && first * pitch < high;
}

void check_apart(const Extent& output, std::span<const Extent> others) {
  for (const Extent& other : others) {
    if (!overlap(output, other)) continue;
    fail(NF4_ERROR_INVALID_ARGUMENT,
         "{} (from {} to {}) overlaps {} (from {} to {}); expected memory of its own for {}", output.name, output.begin,
         end(output), other.name, other.begin, end(other), output.name);
  }
}

}  // namespace nf4
