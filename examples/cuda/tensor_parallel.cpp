// A feed-forward layer, y = W2 (W1 x), in tensor parallel on two GPUs: each has half of the rows of W1 and the
// same half of the columns of W2, packed by itself, and NCCL sums what the GPUs have of y. A shard is a weight like
// any other. The result is held against that of one GPU with the whole layer. One process, a thread for each GPU.
#include <cuda_runtime.h>
#include <nccl.h>
#include <nf4/nf4.hpp>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <thread>
#include <vector>

namespace {

constexpr int kGpus = 2;
constexpr std::int64_t kHidden = 1024, kInner = 4096, kTokens = 8;

void check(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
}

void check(ncclResult_t result) {
  if (result != ncclSuccess) throw std::runtime_error(ncclGetErrorString(result));
}

// Device memory of floats or codes, with data() and size() as nf4's buffers ask for them.
template <class T>
class DeviceVector {
 public:
  explicit DeviceVector(std::int64_t size) : size_(static_cast<std::size_t>(size)) {
    check(cudaMalloc(&data_, size_ * sizeof(T)));
  }
  explicit DeviceVector(const std::vector<T>& values) : DeviceVector(static_cast<std::int64_t>(values.size())) {
    check(cudaMemcpy(data_, values.data(), size_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  DeviceVector(const DeviceVector&) = delete;
  ~DeviceVector() { cudaFree(data_); }

  T* data() { return data_; }
  const T* data() const { return data_; }
  std::size_t size() const { return size_; }
  std::vector<T> get() const {
    std::vector<T> values(size_);
    check(cudaMemcpy(values.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }

 private:
  T* data_ = nullptr;
  std::size_t size_;
};

// A matrix [rows, cols] on the host.
struct Matrix {
  std::int64_t rows, cols;
  std::vector<float> values;

  Matrix(std::int64_t rows_, std::int64_t cols_)
      : rows(rows_), cols(cols_), values(static_cast<std::size_t>(rows * cols)) {}

  float& at(std::int64_t row, std::int64_t col) { return values[static_cast<std::size_t>(row * cols + col)]; }
  float at(std::int64_t row, std::int64_t col) const { return values[static_cast<std::size_t>(row * cols + col)]; }

  // Rows [row, row + count_rows) and columns [col, col + count_cols). Blocks of 64 weights begin where the part does,
  // so that packing a part gives the codes and scales that the whole has there.
  Matrix part(std::int64_t row, std::int64_t count_rows, std::int64_t col, std::int64_t count_cols) const {
    Matrix made(count_rows, count_cols);
    for (std::int64_t i = 0; i < count_rows; ++i)
      for (std::int64_t j = 0; j < count_cols; ++j) made.at(i, j) = at(row + i, col + j);
    return made;
  }
};

Matrix random_matrix(std::int64_t rows, std::int64_t cols, std::uint32_t seed) {
  Matrix made(rows, cols);
  for (float& value : made.values) {
    seed = seed * 1664525u + 1013904223u;
    value = (static_cast<float>(seed >> 8) / 8388608.0f - 1.0f) / std::sqrt(static_cast<float>(cols));
  }
  return made;
}

// A packed matrix on the current device.
struct Packed {
  std::int64_t rows, cols;
  DeviceVector<std::uint8_t> codes;
  DeviceVector<float> absmax;

  Packed(const nf4::Handle& handle, const Matrix& matrix, nf4_stream_t stream)
      : rows(matrix.rows),
        cols(matrix.cols),
        codes(nf4::packed_size(rows, cols).codes),
        absmax(nf4::packed_size(rows, cols).absmax) {
    const DeviceVector<float> w(matrix.values);
    nf4::pack(handle, codes, absmax, nf4::ConstMatrix(w, rows, cols), 64, {}, stream);
    check(cudaStreamSynchronize(stream));  // w must outlive the packing
  }

  nf4::Weight weight() const { return {rows, cols, codes, absmax}; }
};

// y = W2 (W1 x) with what `gpu` has of the layer. With a communicator it is summed over its GPUs.
std::vector<float> feed_forward(int gpu, ncclComm_t communicator, const Matrix& w1, const Matrix& w2, const Matrix& x) {
  check(cudaSetDevice(gpu));
  cudaStream_t stream;
  check(cudaStreamCreate(&stream));
  const nf4::Handle handle(gpu);
  const Packed up(handle, w1, stream), down(handle, w2, stream);
  const DeviceVector<float> input(x.values);
  DeviceVector<float> middle(kTokens * up.rows), y(kTokens * down.rows);

  nf4::gemm(handle, nf4::Matrix(middle, kTokens, up.rows), nf4::ConstMatrix(input, kTokens, up.cols), up.weight(), {},
            {}, stream);
  nf4::gemm(handle, nf4::Matrix(y, kTokens, down.rows), nf4::ConstMatrix(middle, kTokens, down.cols), down.weight(), {},
            {}, stream);
  if (communicator) check(ncclAllReduce(y.data(), y.data(), y.size(), ncclFloat, ncclSum, communicator, stream));
  check(cudaStreamSynchronize(stream));
  check(cudaStreamDestroy(stream));
  return y.get();
}

// The same on both GPUs: rows of W1 and columns of W2, cut at a multiple of the blocksize.
std::vector<std::vector<float>> in_parallel(const Matrix& w1, const Matrix& w2, const Matrix& x) {
  ncclComm_t communicators[kGpus];
  check(ncclCommInitAll(communicators, kGpus, nullptr));
  std::vector<std::vector<float>> results(kGpus);
  std::vector<std::thread> threads;
  for (int gpu = 0; gpu < kGpus; ++gpu) {
    threads.emplace_back([&, gpu] {
      try {
        const std::int64_t inner = kInner / kGpus, begin = inner * gpu;
        const Matrix rows = w1.part(begin, inner, 0, kHidden), columns = w2.part(0, kHidden, begin, inner);
        results[static_cast<std::size_t>(gpu)] = feed_forward(gpu, communicators[gpu], rows, columns, x);
      } catch (const std::exception& error) {
        std::fprintf(stderr, "GPU %d: %s\n", gpu, error.what());
        std::_Exit(1);  // the other GPU would wait for this one
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (ncclComm_t communicator : communicators) check(ncclCommDestroy(communicator));
  return results;
}

int run() {
  const Matrix w1 = random_matrix(kInner, kHidden, 1), w2 = random_matrix(kHidden, kInner, 2);
  const Matrix x = random_matrix(kTokens, kHidden, 3);
  const std::vector<float> whole = feed_forward(0, nullptr, w1, w2, x);
  const std::vector<std::vector<float>> parts = in_parallel(w1, w2, x);
  double largest = 0, apart = 0;
  for (std::size_t i = 0; i < whole.size(); ++i) {
    largest = std::fmax(largest, std::fabs(whole[i]));
    for (const std::vector<float>& part : parts) apart = std::fmax(apart, std::fabs(part[i] - whole[i]));
  }
  std::printf("largest result %.3g, farthest from that of one GPU %.3g\n", largest, apart);
  return largest > 0 && apart <= 1e-5 * largest && parts[0] == parts[1] ? 0 : 1;
}

}  // namespace

int main() {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices < kGpus) {
    std::printf("skipped: %d CUDA devices here; expected %d\n", devices, kGpus);
    return 77;
  }
  setenv("NCCL_NVLS_ENABLE", "0", 0);  // NVLink multicast, which nothing of this size needs
  try {
    return run();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
