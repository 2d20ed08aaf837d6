// The facts of the format that a caller may need: the two tables, and sizes.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "check.hpp"
#include "codebook.hpp"

using namespace nf4;

namespace {

// The signed dynamic map: for each of 7 decades the midpoints of 2^i equal parts of [0.1, 1], both signs, and 0 and 1.
// Each step is rounded to fp32 where bitsandbytes' construction through torch.linspace rounds.
void dynamic_map(float* values) {
  int size = 0;
  float decade = 1e-6f;
  static constexpr float kDecades[] = {1e-6f, 1e-5f, 1e-4f, 1e-3f, 1e-2f, 1e-1f, 1.0f};
  for (int i = 0; i < 7; ++i) {
    decade = kDecades[i];
    const int parts = 1 << i;
    const float step = (1.0f - 0.1f) / static_cast<float>(parts);
    const auto boundary = [&](int j) {  // linspace counts from the nearer end
      return j < (parts + 1) / 2 ? 0.1f + step * static_cast<float>(j) : 1.0f - step * static_cast<float>(parts - j);
    };
    for (int j = 0; j < parts; ++j) {
      const float value = decade * ((boundary(j) + boundary(j + 1)) / 2.0f);
      values[size++] = value;
      values[size++] = -value;
    }
  }
  values[size++] = 0.0f;
  values[size++] = 1.0f;
  std::sort(values, values + size);
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
