// The product with one row of x: weights are multiplied as they are decoded.
#pragma once

#include "product.hpp"

namespace nf4 {

// Whether host_gemv takes the product.
bool host_gemv_supports(const HostProduct& product);

int64_t host_gemv_scratch(const HostProduct& product);  // see host_product_scratch()
void host_gemv(const HostProduct& product, const Device& device, double* scratch);

}  // namespace nf4
