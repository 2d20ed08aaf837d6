// The product with one row of x: weights are multiplied as they are decoded.
#pragma once

#include "variant.hpp"

namespace nf4 {

// Whether host_gemv takes the product.
bool host_gemv_supports(const GemmArgs& args);

int host_gemv(const GemmArgs& args, const Device& device);
int64_t host_gemv_scratch(const GemmArgs& args);  // see host_gemm_scratch()

}  // namespace nf4
