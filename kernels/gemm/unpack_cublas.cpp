// gemm.unpack_cublas: unpacks W into the caller's workspace, then lets cuBLASLt multiply. For so many rows of x that
// the product is bound by arithmetic, and writing and reading W in 16 bits costs little beside it.
//
//     workspace     [ W, N*K of dtype | cuBLASLt's ]     each from a multiple of 256 bytes on
//
// To cuBLASLt, which thinks in columns, y [m, N] is D [N, m] and W [N, K] is A [K, N]: D = A^T B + bias. A 16-bit
// weight is what unpack makes, rounded once; products and sums are fp32 (no TF32), and partial sums are never put down
// in y's type, which a split of K might do if it were not forbidden.
//
// The algorithm is cuBLASLt's own first choice, asked for once per problem. It depends on sizes and alignments alone,
// so the same call has the same bits. Where there is none, for an alignment or a type that the device lacks, gemm.tiled
// runs instead.
#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <array>
#include <compare>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "device/on_device.hpp"
#include "dispatch.hpp"
#include "families.hpp"
#include "gemm/cublaslt.hpp"

namespace nf4 {
namespace {

struct Config {
  const char* stores;  // unpack.stream's: whether the weights may stay in the L2 cache for cuBLASLt to find

  std::string text() const { return std::string("stores=") + stores; }
};

constexpr Config kConfigs[] = {{"cached"}, {"streaming"}};

size_t size_of(Dtype dtype) {
  return with_dtype(dtype, [](auto type) { return sizeof type; });
}

cudaDataType_t cuda_type(Dtype dtype) {
  return dtype == Dtype::f32 ? CUDA_R_32F : dtype == Dtype::f16 ? CUDA_R_16F : CUDA_R_16BF;
}

// ---- workspace ------------------------------------------------------------------------------------------------------

constexpr size_t kMiB = size_t{1} << 20;

// Where things lie in the workspace, in bytes.
struct Room {
  size_t scratch, scratch_size;

  static Room of(int64_t n, int64_t k, Dtype dtype, const Device& device) {
    const auto padded = [](size_t bytes) { return (bytes + 255) / 256 * 256; };
    // What NVIDIA recommends for cuBLAS on Hopper and later, and before.
    return {padded(static_cast<size_t>(n * k) * size_of(dtype)), (device.compute_capability >= 90 ? 32 : 4) * kMiB};
  }
  size_t size() const { return scratch + scratch_size; }
};

size_t workspace_size(const Problem& problem, const Device& device, int) {
  return Room::of(problem.n, problem.k, problem.dtype, device).size();
}

// ---- cuBLASLt's objects ---------------------------------------------------------------------------------------------

struct Failure {
  cublasStatus_t status;
};

void check(cublasStatus_t status) {
  if (status != CUBLAS_STATUS_SUCCESS) throw Failure{status};
}

cudaError_t cuda_error(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return cudaErrorInitializationError;
    case CUBLAS_STATUS_ALLOC_FAILED:
      return cudaErrorMemoryAllocation;
    case CUBLAS_STATUS_INVALID_VALUE:
      return cudaErrorInvalidValue;
    case CUBLAS_STATUS_ARCH_MISMATCH:
      return cudaErrorNoKernelImageForDevice;
    case CUBLAS_STATUS_EXECUTION_FAILED:
      return cudaErrorLaunchFailure;
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return cudaErrorNotSupported;
    default:
      return cudaErrorUnknown;
  }
}

// What cuBLASLt's choice may depend on.
struct Key {
  Dtype dtype;
  bool bias;
  int64_t m, n, k, ldx, ldy;
  uint32_t x_alignment, y_alignment;  // bytes

  auto operator<=>(const Key&) const = default;
};

// The description of a product, made for one call.
struct Description {
  using Layout = std::unique_ptr<cublasLtMatrixLayoutOpaque_t, decltype(&cublasLtMatrixLayoutDestroy)>;
  using Operation = std::unique_ptr<cublasLtMatmulDescOpaque_t, decltype(&cublasLtMatmulDescDestroy)>;

  Layout a, b, d;  // column-major
  Operation operation;

  Description(const CublasLt& lt, const Key& key)
      : a(layout(lt, key.dtype, key.k, key.n, key.k)),
        b(layout(lt, key.dtype, key.k, key.m, key.ldx)),
        d(layout(lt, key.dtype, key.n, key.m, key.ldy)),
        operation(nullptr, lt.desc_destroy) {
    cublasLtMatmulDesc_t created = nullptr;
    check(lt.desc_create(&created, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    operation.reset(created);
    const auto set = [&](cublasLtMatmulDescAttributes_t attribute, const auto& value) {
      check(lt.desc_set(created, attribute, &value, sizeof value));
    };
    set(CUBLASLT_MATMUL_DESC_TRANSA, int32_t{CUBLAS_OP_T});
  }

 private:
  static Layout layout(const CublasLt& lt, Dtype dtype, int64_t rows, int64_t cols, int64_t ld) {
    cublasLtMatrixLayout_t created = nullptr;
    check(lt.layout_create(&created, cuda_type(dtype), static_cast<uint64_t>(rows), static_cast<uint64_t>(cols), ld));
    return {created, lt.layout_destroy};
  }
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

// cuBLASLt on one device, and the algorithms that it chose there.
class Context {
 public:
  Context(const CublasLt& lt, int ordinal) : lt_(lt), why_not_(lt.why_not()) {
    if (!why_not_.empty()) return;
    const RelaxedCapture relaxed;
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
    const cudaError_t error = on_device(ordinal, [&] {
      status = lt.create(&handle_);
      return cudaSuccess;
    });
    if (error != cudaSuccess) {
      why_not_ = std::string("cuBLASLt's device cannot be set: ") + cudaGetErrorString(error);
    } else if (status != CUBLAS_STATUS_SUCCESS) {
      why_not_ = "cublasLtCreate failed with status " + std::to_string(static_cast<int>(status));
    }
  }

  // The handle is left to the end of the process, when the driver may be gone before us.
  static Context& of(const Device& device) {
    static std::mutex mutex;
    static std::map<int, std::unique_ptr<Context>> contexts;
    const std::lock_guard lock(mutex);
    std::unique_ptr<Context>& context = contexts[device.ordinal];
    if (context == nullptr) context = std::make_unique<Context>(CublasLt::instance(), device.ordinal);
    return *context;
  }

  const CublasLt& lt() const { return lt_; }
  cublasLtHandle_t handle() const { return handle_; }
  const std::string& why_not() const { return why_not_; }  // "" if it can be used

  // Writes the algorithm for `key`, which `description` describes; false if there is none.
  bool algorithm(const Key& key, const Description& description, size_t scratch_size, cublasLtMatmulAlgo_t* algorithm) {
    const std::lock_guard lock(mutex_);
    auto found = algorithms_.find(key);
    if (found == algorithms_.end()) {
      if (algorithms_.size() == kCached) algorithms_.clear();
      found = algorithms_.emplace(key, choose(key, description, scratch_size)).first;
    }
    *algorithm = found->second.algo;
    return found->second.state == CUBLAS_STATUS_SUCCESS;
  }

 private:
  static constexpr size_t kCached = 1024;  // problems, some 200 bytes each

  cublasLtMatmulHeuristicResult_t choose(const Key& key, const Description& description, size_t scratch_size) const {
    cublasLtMatmulPreference_t created = nullptr;
    check(lt_.preference_create(&created));
    const std::unique_ptr<cublasLtMatmulPreferenceOpaque_t, decltype(&cublasLtMatmulPreferenceDestroy)> preference(
        created, lt_.preference_destroy);
    const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
      check(lt_.preference_set(created, attribute, &value, sizeof value));
    };
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{scratch_size});
    set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, key.x_alignment);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, key.y_alignment);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, key.y_alignment);

    cublasLtMatmulHeuristicResult_t result{};
    int count = 0;
    const cublasStatus_t status =
        lt_.heuristic(handle_, description.operation.get(), description.a.get(), description.b.get(),
                      description.d.get(), description.d.get(), created, 1, &result, &count);
    if (status != CUBLAS_STATUS_NOT_SUPPORTED) check(status);
    if (count == 0) result.state = CUBLAS_STATUS_NOT_SUPPORTED;
    return result;
  }

  const CublasLt& lt_;
  std::string why_not_;
  cublasLtHandle_t handle_ = nullptr;
  std::mutex mutex_;
  std::map<Key, cublasLtMatmulHeuristicResult_t> algorithms_;
};

// ---- the variant ----------------------------------------------------------------------------------------------------

// The largest power of two, 16 at most, that divides the address.
uint32_t alignment_of(const void* pointer) {
  const auto bits = reinterpret_cast<uintptr_t>(pointer) | 16;
  return static_cast<uint32_t>(bits & (~bits + 1));
}

// For each of our configs the first of unpack.stream's that stores in the same way.
std::array<int, std::size(kConfigs)> stream_configs(const Variant& stream) {
  std::array<int, std::size(kConfigs)> indices{};
  for (size_t ours = 0; ours < indices.size(); ++ours) {
    int& index = indices[ours];
    while (index + 1 < stream.configs && !stream.config_text(index).ends_with(kConfigs[ours].text())) ++index;
  }
  return indices;
}

int launch_unpack(void* w, const GemmArgs& args, const Device& device, int config, Stream stream) {
  const Weight& weight = args.weight;
  const UnpackArgs unpack{w, weight.cols, args.dtype, weight};
  const auto alignment = static_cast<int>(std::min(alignment_of(weight.codes), alignment_of(weight.absmax.values)));
  const Problem problem{Op::unpack,          args.dtype, 1,    weight.rows, weight.cols, 1 << weight.log2_blocksize,
                        weight.absmax.dtype, alignment,  false};
  static const Variant& fast = unpack_stream_variants()[0];
  static const auto fast_configs = stream_configs(fast);
  if (fast.unsupported(problem, device) == nullptr)
    return fast.launch(&unpack, device, fast_configs[static_cast<size_t>(config)], stream);
  return unpack_lut_variants()[0].launch(&unpack, device, 0, stream);
}

// Writes the bias to every row of y, for the product to be added to: a bias fused into the product gave inexact
// results in bf16, as if it were added after the sum had been rounded. The rows written are copied to as many more,
// until all are there.
int spread_bias(const GemmArgs& args, Stream stream) {
  const size_t size = size_of(args.dtype);
  const size_t width = static_cast<size_t>(args.weight.rows) * size;
  const size_t pitch = static_cast<size_t>(args.ldy) * size;
  auto* const y = static_cast<std::byte*>(args.y);
  cudaError_t error = cudaMemcpyAsync(y, args.bias, width, cudaMemcpyDeviceToDevice, stream);
  for (int64_t done = 1; done < args.m && error == cudaSuccess; done *= 2) {
    error = cudaMemcpy2DAsync(y + static_cast<size_t>(done) * pitch, pitch, y, pitch, width,
                              static_cast<size_t>(std::min(done, args.m - done)), cudaMemcpyDeviceToDevice, stream);
  }
  return error;
}

int launch_unpack_cublas(const GemmArgs& args, const Device& device, int config, Stream stream) try {
  const RelaxedCapture relaxed;
  const Weight& weight = args.weight;
  auto* const workspace = static_cast<std::byte*>(args.workspace);
  const Room room = Room::of(weight.rows, weight.cols, args.dtype, device);

  Context& context = Context::of(device);
  const Key key{args.dtype,           args.bias != nullptr, args.m, weight.rows, weight.cols, args.ldx, args.ldy,
                alignment_of(args.x), alignment_of(args.y)};
  const Description description(context.lt(), key);
  cublasLtMatmulAlgo_t algorithm;
  if (!context.algorithm(key, description, room.scratch_size, &algorithm))
    return gemm_tiled_variants()[0].launch(&args, device, 0, stream);

  if (const int error = launch_unpack(workspace, args, device, config, stream); error != cudaSuccess) return error;
  if (args.bias != nullptr) {
    if (const int error = spread_bias(args, stream); error != cudaSuccess) return error;
  }
  constexpr float kOne = 1.0f;
  const float beta = args.bias != nullptr ? 1.0f : 0.0f;
  check(context.lt().matmul(context.handle(), description.operation.get(), &kOne, workspace, description.a.get(),
                            args.x, description.b.get(), &beta, args.y, description.d.get(), args.y,
                            description.d.get(), &algorithm, workspace + room.scratch, room.scratch_size, stream));
  return cudaSuccess;
} catch (const Failure& failure) {
  return cuda_error(failure.status);
}

const char* unsupported(const Problem& problem, const Device& device) {
  if (problem.k == 0) return "there is nothing to multiply (K = 0)";
  if (std::max({problem.m, problem.n, problem.k}) > std::numeric_limits<int32_t>::max())
    return "cuBLASLt takes sizes below 2^31";
  const std::string& why_not = Context::of(device).why_not();
  return why_not.empty() ? nullptr : why_not.c_str();
}

constexpr Variant kVariants[] = {
    {"gemm.unpack_cublas", "unpack to the workspace, then cuBLASLt, loaded at run time: for many rows of x", "unpacked",
     Op::gemm, false, std::size(kConfigs), config_text<kConfigs>, unsupported, workspace_size,
     erased<GemmArgs, launch_unpack_cublas>},
};

}  // namespace

std::span<const Variant> gemm_unpack_cublas_variants() { return kVariants; }

}  // namespace nf4
