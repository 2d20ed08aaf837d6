// The product with one row of x, by tables of what a byte of codes adds to it.
#pragma once

#include "variant.hpp"

namespace nf4 {

// Whether host_gemv takes the product, and W has rows enough to pay for the tables.
bool prefers_tables(const GemmArgs& args);

int host_gemv(const GemmArgs& args, const Device& device);
int64_t host_gemv_scratch(const GemmArgs& args, const Device& device);  // see host_gemm_scratch()

}  // namespace nf4
