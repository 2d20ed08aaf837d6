// The oracle of tests/oracle/oracle.hpp, evaluated on the current CUDA device.
#pragma once

#include <cstdint>
#include <vector>

#include "oracle.hpp"

namespace nf4bench {

// All pointers of `product` are device pointers.
std::vector<nf4ref::Reference> cuda_references(const nf4ref::Product& product);
std::vector<nf4ref::Reference> cuda_references(const nf4ref::TransposedProduct& product);
std::vector<nf4ref::Reference> cuda_references(const nf4ref::RoutedProduct& product);

// Counts the elements of w [rows, cols] that are not what `weight` unpacks to.
int64_t cuda_unpack_mismatches(const void* w, nf4_dtype_t dtype, const nf4_weight_t& weight);

}  // namespace nf4bench
