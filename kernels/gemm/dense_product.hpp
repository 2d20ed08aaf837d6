// Products of x with dense weights on the device, by cuBLASLt (cublaslt.hpp): y [m, outputs] = x [m, length] times
// weights that were unpacked before. Products and sums are fp32 (no TF32), and partial sums are never put down in y's
// type, which a split of the length might do if it were not forbidden.
//
// The algorithm is cuBLASLt's own first choice, asked for once per problem. It depends on sizes and alignments alone,
// so the same call has the same bits.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "problem.hpp"

namespace nf4 {

// What cuBLASLt's choice may depend on.
struct DenseProblem {
  Dtype dtype;
  bool transposed;  // weights are [length, outputs], else [outputs, length]; without gaps
  bool adds;        // to what y holds
  int64_t m, outputs, length;
  int64_t ldx, ldy;
  uint32_t x_alignment, y_alignment;  // bytes, see alignment_of()

  auto operator<=>(const DenseProblem&) const = default;
};

// The largest power of two, 16 at most, that divides the address.
uint32_t alignment_of(const void* pointer);

// "" if products can be made on the device, else the reason, as a user should read it; it stays where it is.
const std::string& dense_products_unsupported(const Device& device);

// A workspace of weights [outputs, length], or [length, outputs], and of cuBLASLt's own, each from a multiple of 256
// bytes on.
struct DenseRoom {
  size_t scratch, scratch_size;  // where cuBLASLt's begins, and its size, in bytes

  static DenseRoom of(int64_t outputs, int64_t length, Dtype dtype, const Device& device);
  size_t size() const { return scratch + scratch_size; }
};

size_t element_size(Dtype dtype);

// A product as cuBLASLt knows it, made for one call. Constructor and launch throw DenseProduct::Failure.
class DenseProduct {
 public:
  struct Failure {
    cublasStatus_t status;
    int error() const;  // the cudaError_t that says the same
  };

  DenseProduct(const Device& device, const DenseProblem& problem, const DenseRoom& room);

  bool has_algorithm() const { return has_algorithm_; }

  // Where there is an algorithm. Sizes and alignments of y and x are those of the problem; the workspace is laid out as
  // the room says, and holds the weights.
  void launch(void* y, const void* x, void* workspace, Stream stream) const;

 private:
  struct Description;
  class Context;
  friend const std::string& dense_products_unsupported(const Device& device);

  Context& context_;
  DenseRoom room_;
  float beta_;
  std::unique_ptr<Description, void (*)(Description*)> description_;
  cublasLtMatmulAlgo_t algorithm_{};
  bool has_algorithm_;
};

// While it lives, this thread may load code although one of its streams is being captured.
class RelaxedCapture {
 public:
  RelaxedCapture() { cudaThreadExchangeStreamCaptureMode(&mode_); }
  ~RelaxedCapture() { cudaThreadExchangeStreamCaptureMode(&mode_); }
  RelaxedCapture(const RelaxedCapture&) = delete;
  RelaxedCapture& operator=(const RelaxedCapture&) = delete;

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

// body() is a launch that makes products: its error, or that of the product that failed.
template <class Body>
int with_dense_products(const Body& body) try {
  const RelaxedCapture relaxed;
  return body();
} catch (const DenseProduct::Failure& failure) {
  return failure.error();
}

}  // namespace nf4
