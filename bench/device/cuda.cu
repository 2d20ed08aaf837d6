#include <algorithm>
#include <chrono>
#include <limits>
#include <thread>

#include "contenders/dynamic_library.hpp"
#include "device/ceilings.hpp"
#include "device/cuda_check.hpp"
#include "device/cuda_reference.hpp"
#include "device/device.hpp"
#include "random.hpp"

namespace nf4bench {
namespace {

__global__ void fill_bytes_kernel(uint8_t* memory, int64_t bytes, uint64_t seed) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < bytes; i += step) {
    memory[i] = static_cast<uint8_t>(random_bits(static_cast<uint64_t>(i), seed));
  }
}

__global__ void fill_uniform_kernel(void* memory, nf4_dtype_t dtype, int64_t count, float low, float high,
                                    uint64_t seed) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += step) {
    nf4ref::store(memory, dtype, i, random_uniform(static_cast<uint64_t>(i), seed, low, high));
  }
}

constexpr int kFillBlocks = 2048;
constexpr int kFillThreads = 256;

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

std::string driver_version() {
  try {
    const DynamicLibrary library("libnvidia-ml.so.1");
    char text[96] = "";
    const bool known = library.get<int()>("nvmlInit_v2")() == 0 &&
                       library.get<int(char*, unsigned)>("nvmlSystemGetDriverVersion")(text, sizeof text) == 0;
    return known ? text : "unknown";
  } catch (const std::exception&) {
    return "unknown";
  }
}

// A pair of events around work on a stream.
class Stopwatch {
 public:
  Stopwatch() {
    cuda_check(cudaEventCreate(&start_), "cudaEventCreate");
    cuda_check(cudaEventCreate(&stop_), "cudaEventCreate");
  }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;
  ~Stopwatch() {
    cudaEventDestroy(start_);
    cudaEventDestroy(stop_);
  }

  template <typename Work>
  double seconds(cudaStream_t stream, const Work& work) {
    cuda_check(cudaEventRecord(start_, stream), "cudaEventRecord");
    work();
    cuda_check(cudaEventRecord(stop_, stream), "cudaEventRecord");
    cuda_check(cudaEventSynchronize(stop_), "cudaEventSynchronize");
    float milliseconds = 0;
    cuda_check(cudaEventElapsedTime(&milliseconds, start_, stop_), "cudaEventElapsedTime");
    return milliseconds * 1e-3;
  }

 private:
  cudaEvent_t start_ = nullptr;
  cudaEvent_t stop_ = nullptr;
};

// `launches` launches captured as one graph.
class Graph {
 public:
  Graph(cudaStream_t stream, const Launch& launch, int launches) {
    cudaGraph_t graph = nullptr;
    cuda_check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    try {
      for (int i = 0; i < launches; ++i) launch(i, stream);
    } catch (...) {
      cudaStreamEndCapture(stream, &graph);  // an abandoned capture would poison the stream
      if (graph != nullptr) cudaGraphDestroy(graph);
      throw;
    }
    cuda_check(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
    const cudaError_t status = cudaGraphInstantiate(&executable_, graph, 0);
    cudaGraphDestroy(graph);
    cuda_check(status, "cudaGraphInstantiate");
  }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  ~Graph() { cudaGraphExecDestroy(executable_); }

  void replay(cudaStream_t stream) const { cuda_check(cudaGraphLaunch(executable_, stream), "cudaGraphLaunch"); }

 private:
  cudaGraphExec_t executable_ = nullptr;
};

class CudaDevice final : public Device {
 public:
  explicit CudaDevice(int32_t ordinal) : ordinal_(ordinal) {
    cuda_check(cudaSetDevice(ordinal), "cudaSetDevice");
    cuda_check(cudaGetDeviceProperties(&properties_, ordinal), "cudaGetDeviceProperties");
    cuda_check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
  }
  ~CudaDevice() override { cudaStreamDestroy(stream_); }

  int32_t ordinal() const override { return ordinal_; }

  std::vector<std::pair<std::string, std::string>> description() const override {
    int driver = 0;
    int runtime = 0;
    cuda_check(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
    cuda_check(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
    return {{"device", properties_.name},
            {"multiprocessors", std::to_string(properties_.multiProcessorCount)},
            {"L2 bytes", std::to_string(properties_.l2CacheSize)},
            {"driver", driver_version() + ", CUDA " + version_text(driver)},
            {"CUDA runtime", version_text(runtime)}};
  }

  void* allocate(size_t bytes) override {
    void* memory = nullptr;
    cuda_check(cudaMalloc(&memory, std::max<size_t>(bytes, 1)), "cudaMalloc");
    return memory;
  }
  void release(void* memory) override { cudaFree(memory); }
  void copy_in(void* to, const void* from, size_t bytes) override {
    cuda_check(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice), "cudaMemcpy");
    // It returns once `from` was read, and stream_ does not wait for the legacy stream.
    cuda_check(cudaStreamSynchronize(nullptr), "cudaMemcpy");
  }
  void copy_out(void* to, const void* from, size_t bytes) override {
    cuda_check(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost), "cudaMemcpy");
  }
  void poison(void* memory, size_t bytes) override {
    cuda_check(cudaMemset(memory, 0xff, bytes), "cudaMemset");
    cuda_check(cudaDeviceSynchronize(), "cudaMemset");
  }
  void fill_bytes(void* memory, int64_t bytes, uint64_t seed) override {
    fill_bytes_kernel<<<kFillBlocks, kFillThreads>>>(static_cast<uint8_t*>(memory), bytes, seed);
    cuda_check(cudaDeviceSynchronize(), "fill_bytes");
  }
  void fill_uniform(void* memory, nf4_dtype_t dtype, int64_t count, float low, float high, uint64_t seed) override {
    fill_uniform_kernel<<<kFillBlocks, kFillThreads>>>(memory, dtype, count, low, high, seed);
    cuda_check(cudaDeviceSynchronize(), "fill_uniform");
  }

  std::vector<nf4ref::Reference> references(const nf4ref::Product& product) override {
    return cuda_references(product);
  }
  std::vector<nf4ref::Reference> references(const nf4ref::TransposedProduct& product) override {
    return cuda_references(product);
  }
  std::vector<nf4ref::Reference> references(const nf4ref::RoutedProduct& product) override {
    return cuda_references(product);
  }
  int64_t unpack_mismatches(const void* w, nf4_dtype_t dtype, const nf4_weight_t& weight) override {
    return cuda_unpack_mismatches(w, dtype, weight);
  }
  int64_t reference_budget() const override { return int64_t{1} << 33; }

  int64_t cold_bytes() const override {
    return std::max<int64_t>(int64_t{400} << 20, int64_t{8} * properties_.l2CacheSize);
  }
  Ceilings ceilings() override { return cuda_ceilings(*this); }

  void run(const Launch& launch) override {
    launch(0, stream_);
    cuda_check(cudaGetLastError(), "launch");
    cuda_check(cudaDeviceSynchronize(), "run");
  }

  std::vector<double> time(const Launch& launch, int launches, bool capturable, const Pace& pace) override {
    constexpr int kFewestLaunches = 24;  // so that the gap between two replays counts little
    Stopwatch stopwatch;
    const cudaStream_t stream = capturable ? stream_ : nullptr;
    run(launch);  // loads the code
    const double once = stopwatch.seconds(stream, [&] { launch(1, stream); });
    if (once > pace.hopeless_seconds) return {once};
    const int wanted = std::max(launches, kFewestLaunches);
    const int count = static_cast<int>(std::clamp(pace.replay_seconds / once, 1.0, static_cast<double>(wanted)));
    const auto replays_of = [&](const auto& replay) {
      std::this_thread::sleep_for(std::chrono::duration<double>(pace.rest_seconds));
      // All replays of a small kernel can be over before clocks have settled. So the warm-up goes on until none has
      // been faster than the ones before for a span of time.
      constexpr double kFaster = 0.99;
      constexpr int kMostSpans = 10;
      double longest = 0;
      double fastest = std::numeric_limits<double>::infinity();
      double warmed = 0;
      double since = 0;  // one was faster
      for (int i = 0; i < 2 || (since < pace.warm_seconds && warmed < kMostSpans * pace.warm_seconds); ++i) {
        const double seconds = stopwatch.seconds(stream, replay);
        longest = std::max(longest, seconds);
        warmed += seconds;
        since += seconds;
        if (seconds < kFaster * fastest) {
          fastest = seconds;
          since = 0;
        }
      }
      const int replays = pace.replays(longest);
      std::vector<double> seconds;
      for (int i = 0; i < replays; ++i) seconds.push_back(stopwatch.seconds(stream, replay) / count);
      return seconds;
    };
    if (!capturable) {
      return replays_of([&] {
        for (int i = 0; i < count; ++i) launch(i, stream);
      });
    }
    const Graph graph(stream, launch, count);
    return replays_of([&] { graph.replay(stream); });
  }

 private:
  int32_t ordinal_;
  cudaDeviceProp properties_ = {};
  cudaStream_t stream_ = nullptr;
};

}  // namespace

std::unique_ptr<Device> open_cuda_device(int32_t ordinal) {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || ordinal >= count) {
    cudaGetLastError();  // no driver or no device is an answer here, not an error to leave behind
    return nullptr;
  }
  return std::make_unique<CudaDevice>(ordinal);
}

}  // namespace nf4bench
