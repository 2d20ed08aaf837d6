#include <algorithm>
#include <stdexcept>

#include "device/cuda_check.hpp"
#include "device/cuda_reference.hpp"

namespace nf4bench {
namespace {

constexpr int kLanes = 32;
constexpr int kWarps = 8;

// Rows and columns of y, and what is added to a sum of products.
__host__ __device__ int64_t rows_of(const nf4ref::Product& product) { return product.m; }
__host__ __device__ int64_t cols_of(const nf4ref::Product& product) { return product.weight.rows; }
__device__ void finish(nf4ref::Reference& sum, const nf4ref::Product& product, int64_t, int64_t n) {
  nf4ref::add_bias(sum, product, n);
}
__host__ __device__ int64_t rows_of(const nf4ref::TransposedProduct& product) { return product.m; }
__host__ __device__ int64_t cols_of(const nf4ref::TransposedProduct& product) { return product.weight.cols; }
__device__ void finish(nf4ref::Reference&, const nf4ref::TransposedProduct&, int64_t, int64_t) {}
__host__ __device__ int64_t rows_of(const nf4ref::RoutedProduct& routed) { return routed.slots; }
__host__ __device__ int64_t cols_of(const nf4ref::RoutedProduct& routed) {
  return routed.product.weight.rows / routed.experts;
}

// One warp per output: blockIdx.x * kWarps + warp is its column, blockIdx.y its row. sums: [rows, columns].
template <typename Product>
__global__ void __launch_bounds__(kLanes* kWarps) reference_kernel(Product product, nf4ref::Reference* sums) {
  const int64_t n = int64_t{blockIdx.x} * kWarps + threadIdx.x / kLanes;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  if (n >= cols_of(product)) return;
  nf4ref::Reference sum = nf4ref::partial_sum(product, blockIdx.y, n, lane, kLanes);
  for (int offset = kLanes / 2; offset > 0; offset /= 2) {
    sum.y += __shfl_xor_sync(~0u, sum.y, offset);
    sum.s += __shfl_xor_sync(~0u, sum.s, offset);
  }
  if (lane != 0) return;
  finish(sum, product, blockIdx.y, n);
  sums[blockIdx.y * cols_of(product) + n] = sum;
}

__global__ void unpack_mismatches_kernel(const void* w, nf4_dtype_t dtype, nf4_weight_t weight,
                                         unsigned long long* mismatches) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  const int64_t count = weight.rows * weight.cols;
  unsigned long long found = 0;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += step) {
    found += !nf4ref::unpacks_to(w, dtype, i, weight, i);
  }
  if (found != 0) atomicAdd(mismatches, found);
}

// Device memory for the results of one call.
template <typename T>
class Results {
 public:
  explicit Results(size_t count) : host_(count) {
    cuda_check(cudaMalloc(&memory_, std::max<size_t>(1, count) * sizeof(T)), "cudaMalloc");
    cuda_check(cudaMemset(memory_, 0, std::max<size_t>(1, count) * sizeof(T)), "cudaMemset");
  }
  Results(const Results&) = delete;
  Results& operator=(const Results&) = delete;
  ~Results() { cudaFree(memory_); }

  T* device() const { return memory_; }
  std::vector<T> fetch() {
    cuda_check(cudaGetLastError(), "reference kernel");
    cuda_check(cudaMemcpy(host_.data(), memory_, host_.size() * sizeof(T), cudaMemcpyDeviceToHost), "cudaMemcpy");
    return std::move(host_);
  }

 private:
  std::vector<T> host_;
  T* memory_ = nullptr;
};

template <typename Product>
std::vector<nf4ref::Reference> references_of(const Product& product) {
  constexpr int64_t kLargestGridY = 65535;
  const int64_t rows = rows_of(product), cols = cols_of(product);
  if (rows > kLargestGridY) throw std::invalid_argument("too many rows of x for one check");
  Results<nf4ref::Reference> results(static_cast<size_t>(rows * cols));
  const dim3 grid(static_cast<unsigned>((cols + kWarps - 1) / kWarps), static_cast<unsigned>(rows));
  reference_kernel<<<grid, kLanes * kWarps>>>(product, results.device());
  return results.fetch();
}

}  // namespace

std::vector<nf4ref::Reference> cuda_references(const nf4ref::Product& product) { return references_of(product); }

std::vector<nf4ref::Reference> cuda_references(const nf4ref::TransposedProduct& product) {
  return references_of(product);
}

std::vector<nf4ref::Reference> cuda_references(const nf4ref::RoutedProduct& product) { return references_of(product); }

int64_t cuda_unpack_mismatches(const void* w, nf4_dtype_t dtype, const nf4_weight_t& weight) {
  Results<unsigned long long> results(1);
  unpack_mismatches_kernel<<<2048, 256>>>(w, dtype, weight, results.device());
  return static_cast<int64_t>(results.fetch()[0]);
}

}  // namespace nf4bench
