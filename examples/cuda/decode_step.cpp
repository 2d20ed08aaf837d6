// One decoding step of a feed-forward layer, y = W2 (W1 x), captured once in a CUDA graph and replayed with changing x,
// as an inference engine does for each token. Any nf4 call can be captured: it allocates nothing and never
// synchronizes.
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <nf4/nf4.hpp>

#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <type_traits>
#include <vector>

template <>
struct nf4::DType<__nv_bfloat16> : std::integral_constant<nf4_dtype_t, NF4_BF16> {};

namespace {

void check(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
}

// Device memory, with data() and size() as nf4's buffers ask for them.
template <class T>
class DeviceVector {
 public:
  explicit DeviceVector(std::int64_t size) : size_(static_cast<std::size_t>(size)) {
    check(cudaMalloc(&data_, size_ * sizeof(T)));
  }
  DeviceVector(const DeviceVector&) = delete;
  ~DeviceVector() { cudaFree(data_); }

  T* data() { return data_; }
  const T* data() const { return data_; }
  std::size_t size() const { return size_; }
  void set(const std::vector<T>& values) {
    check(cudaMemcpy(data_, values.data(), size_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  std::vector<T> get() const {
    std::vector<T> values(size_);
    check(cudaMemcpy(values.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }

 private:
  T* data_ = nullptr;
  std::size_t size_;
};

using Bf16 = __nv_bfloat16;

// A packed matrix on the device: +scale on the diagonal of its first min(rows, cols) rows, zero elsewhere, which NF4
// holds exactly.
struct Layer {
  std::int64_t rows, cols;
  DeviceVector<std::uint8_t> codes;
  DeviceVector<float> absmax;

  Layer(const nf4::Handle& handle, std::int64_t rows_, std::int64_t cols_, float scale, nf4_stream_t stream)
      : rows(rows_),
        cols(cols_),
        codes(nf4::packed_size(rows, cols).codes),
        absmax(nf4::packed_size(rows, cols).absmax) {
    std::vector<Bf16> diagonal(static_cast<std::size_t>(rows * cols), Bf16(0.0f));
    for (std::int64_t i = 0; i < rows && i < cols; ++i) diagonal[static_cast<std::size_t>(i * cols + i)] = Bf16(scale);
    DeviceVector<Bf16> w(rows * cols);
    w.set(diagonal);
    nf4::pack(handle, codes, absmax, nf4::ConstMatrix(w, rows, cols), 64, {}, stream);
    check(cudaStreamSynchronize(stream));  // w must outlive the packing
  }

  nf4::Weight weight() const { return {rows, cols, codes, absmax}; }
};

int run() {
  const std::int64_t hidden = 1024, inner = 4096;
  cudaStream_t stream;
  check(cudaStreamCreate(&stream));
  const nf4::Handle handle(0);
  std::printf("on %s\n", handle.device_info().name);
  const Layer up(handle, inner, hidden, 2.0f, stream), down(handle, hidden, inner, 0.5f, stream);
  DeviceVector<Bf16> x(hidden), middle(inner), y(hidden);

  cudaGraph_t graph;
  cudaGraphExec_t step;
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  nf4::gemv(handle, middle, x, up.weight(), {}, {}, stream);
  nf4::gemv(handle, y, middle, down.weight(), {}, {}, stream);
  check(cudaStreamEndCapture(stream, &graph));
  check(cudaGraphInstantiate(&step, graph, 0));

  int wrong = 0;
  for (int token = 1; token <= 4; ++token) {
    x.set(std::vector<Bf16>(x.size(), Bf16(static_cast<float>(token))));
    check(cudaGraphLaunch(step, stream));
    check(cudaStreamSynchronize(stream));
    for (const Bf16 value : y.get()) wrong += static_cast<float>(value) != static_cast<float>(token);
    std::printf("token %d: %d of %zu results wrong so far\n", token, wrong, y.size());
  }

  check(cudaGraphExecDestroy(step));
  check(cudaGraphDestroy(graph));
  check(cudaStreamDestroy(stream));
  return wrong ? 1 : 0;
}

}  // namespace

int main() {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::printf("skipped: no CUDA device here\n");
    return 77;
  }
  try {
    return run();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
