// The types of elements and of stored scales.
#pragma once

#include <cstdint>

namespace nf4 {

enum class Dtype : int32_t { f32 = 0, f16 = 1, bf16 = 2, u8 = 3 };  // the values of nf4_dtype_t

}  // namespace nf4
