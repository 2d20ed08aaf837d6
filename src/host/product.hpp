// A product on the host: rows of x by rows or columns of W. nf4_gemm is one, nf4_gemm_transposed, and the work of an
// expert.
#pragma once

#include "variant.hpp"

namespace nf4 {

// Row i of the m, times scale: y[row] = scale[row] * (x[row / top_k] W^T + bias) for row = slots[i]; W where it is
// transposed, whose outputs are then all columns.
struct HostProduct {
  void* y;
  int64_t ldy;
  const void* x;
  int64_t ldx;
  int64_t m;
  Dtype dtype;
  const Weight& weight;
  int64_t first, outputs;          // rows of W: first to first + outputs - 1; or columns, of which first is 0
  const void* bias;                // [outputs] of dtype, or null
  const int32_t* slots = nullptr;  // [m]; null: 0 to m - 1
  int64_t top_k = 1;
  const float* scale = nullptr;  // null: 1
  bool transposed = false;

  int64_t length() const { return transposed ? weight.rows : weight.cols; }  // of a row of x

  int64_t y_row(int64_t i) const { return slots != nullptr ? slots[i] : i; }
  int64_t x_row(int64_t i) const { return y_row(i) / top_k; }
  double scale_of(int64_t i) const { return scale != nullptr ? static_cast<double>(scale[y_row(i)]) : 1.0; }
};

// How many doubles of scratch memory it takes. It takes no other memory.
int64_t host_product_scratch(const HostProduct& product, const Device& device);
void host_product(const HostProduct& product, const Device& device, double* scratch);

}  // namespace nf4
