// The facts of the format that a caller may need: the two tables, and sizes.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "check.hpp"
#include "format/codebook.hpp"

using namespace nf4;

namespace {

// The signed dynamic map: in each of 7 decades the midpoints of 2^i equal parts of [0.1, 1], both signs, and 0 and 1.
// Rounded to fp32 where bitsandbytes' construction from torch.linspace rounds: linspace counts from the nearer end, and
// fuses the multiplication with the addition.
void dynamic_map(float* values) {
  static constexpr float kDecades[] = {1e-6f, 1e-5f, 1e-4f, 1e-3f, 1e-2f, 1e-1f, 1.0f};
  float* next = values;
  int parts = 1;
  for (const float decade : kDecades) {
    const float step = (1.0f - 0.1f) / static_cast<float>(parts);
    const auto boundary = [&](int i) {
      return i < (parts + 1) / 2 ? std::fma(step, static_cast<float>(i), 0.1f)
                                 : std::fma(-step, static_cast<float>(parts - i), 1.0f);
    };
    for (int i = 0; i < parts; ++i) {
      const float value = decade * ((boundary(i) + boundary(i + 1)) / 2.0f);
      *next++ = value;
      *next++ = -value;
    }
    parts *= 2;
  }
  *next++ = 0.0f;
  *next++ = 1.0f;
  std::sort(values, next);
}

}  // namespace

nf4_status_t nf4_codebook(float values[16]) {
  return guarded([&] {
    check_not_null("values", values);
    std::memcpy(values, kCodebook, sizeof kCodebook);
  });
}

nf4_status_t nf4_dynamic_map(float values[256]) {
  return guarded([&] {
    check_not_null("values", values);
    dynamic_map(values);
  });
}

nf4_status_t nf4_packed_size(int64_t* codes_bytes, int64_t* absmax_count, int64_t rows, int64_t cols,
                             int32_t blocksize) {
  return guarded([&] {
    check_not_null("codes_bytes", codes_bytes);
    check_not_null("absmax_count", absmax_count);
    const int64_t elements = check_matrix("rows", rows, "cols", cols);
    const int log2_blocksize = check_blocksize("blocksize", blocksize);
    *codes_bytes = (elements + 1) / 2;
    *absmax_count = (elements + blocksize - 1) >> log2_blocksize;
  });
}
