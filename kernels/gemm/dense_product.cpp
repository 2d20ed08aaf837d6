#include "gemm/dense_product.hpp"

#include <map>
#include <mutex>

#include "device/on_device.hpp"
#include "dispatch.hpp"
#include "gemm/cublaslt.hpp"

namespace nf4 {
namespace {

cudaDataType_t cuda_type(Dtype dtype) {
  return dtype == Dtype::f32 ? CUDA_R_32F : dtype == Dtype::f16 ? CUDA_R_16F : CUDA_R_16BF;
}

void check(cublasStatus_t status) {
  if (status != CUBLAS_STATUS_SUCCESS) throw DenseProduct::Failure{status};
}

}  // namespace

size_t element_size(Dtype dtype) {
  return with_dtype(dtype, [](auto type) { return sizeof type; });
}

uint32_t alignment_of(const void* pointer) {
  const auto bits = reinterpret_cast<uintptr_t>(pointer) | 16;
  return static_cast<uint32_t>(bits & (~bits + 1));
}

DenseRoom DenseRoom::of(int64_t outputs, int64_t length, Dtype dtype, const Device& device) {
  constexpr size_t kMiB = size_t{1} << 20;
  const size_t weights = static_cast<size_t>(outputs * length) * element_size(dtype);
  // What NVIDIA recommends for cuBLAS on Hopper and later, and before.
  return {(weights + 255) / 256 * 256, (device.compute_capability >= 90 ? 32 : 4) * kMiB};
}

int DenseProduct::Failure::error() const {
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

// To cuBLASLt, which thinks in columns, y is D [outputs, m], x is B [length, m], and the weights are A: [outputs,
// length] where they are transposed, so that D = A B, else [length, outputs], and D = A^T B.
struct DenseProduct::Description {
  using Layout = std::unique_ptr<cublasLtMatrixLayoutOpaque_t, decltype(&cublasLtMatrixLayoutDestroy)>;
  using Operation = std::unique_ptr<cublasLtMatmulDescOpaque_t, decltype(&cublasLtMatmulDescDestroy)>;

  Layout a, b, d;  // column-major
  Operation operation;

  Description(const CublasLt& lt, const DenseProblem& problem)
      : a(problem.transposed ? layout(lt, problem.dtype, problem.outputs, problem.length, problem.outputs)
                             : layout(lt, problem.dtype, problem.length, problem.outputs, problem.length)),
        b(layout(lt, problem.dtype, problem.length, problem.m, problem.ldx)),
        d(layout(lt, problem.dtype, problem.outputs, problem.m, problem.ldy)),
        operation(nullptr, lt.desc_destroy) {
    cublasLtMatmulDesc_t created = nullptr;
    check(lt.desc_create(&created, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    operation.reset(created);
    const int32_t of_a = problem.transposed ? CUBLAS_OP_N : CUBLAS_OP_T;
    check(lt.desc_set(created, CUBLASLT_MATMUL_DESC_TRANSA, &of_a, sizeof of_a));
  }

 private:
  static Layout layout(const CublasLt& lt, Dtype dtype, int64_t rows, int64_t cols, int64_t ld) {
    cublasLtMatrixLayout_t created = nullptr;
    check(lt.layout_create(&created, cuda_type(dtype), static_cast<uint64_t>(rows), static_cast<uint64_t>(cols), ld));
    return {created, lt.layout_destroy};
  }
};

// cuBLASLt on one device, and the algorithms that it chose there.
class DenseProduct::Context {
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

  // Writes the algorithm for `problem`, which `description` describes; false if there is none.
  bool algorithm(const DenseProblem& problem, const Description& description, size_t scratch_size,
                 cublasLtMatmulAlgo_t* algorithm) {
    const std::lock_guard lock(mutex_);
    auto found = algorithms_.find(problem);
    if (found == algorithms_.end()) {
      if (algorithms_.size() == kCached) algorithms_.clear();
      found = algorithms_.emplace(problem, choose(problem, description, scratch_size)).first;
    }
    *algorithm = found->second.algo;
    return found->second.state == CUBLAS_STATUS_SUCCESS;
  }

 private:
  static constexpr size_t kCached = 1024;  // problems, some 200 bytes each

  cublasLtMatmulHeuristicResult_t choose(const DenseProblem& problem, const Description& description,
                                         size_t scratch_size) const {
    cublasLtMatmulPreference_t created = nullptr;
    check(lt_.preference_create(&created));
    const std::unique_ptr<cublasLtMatmulPreferenceOpaque_t, decltype(&cublasLtMatmulPreferenceDestroy)> preference(
        created, lt_.preference_destroy);
    const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
      check(lt_.preference_set(created, attribute, &value, sizeof value));
    };
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{scratch_size});
    set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, problem.x_alignment);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, problem.y_alignment);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, problem.y_alignment);

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
  std::map<DenseProblem, cublasLtMatmulHeuristicResult_t> algorithms_;
};

const std::string& dense_products_unsupported(const Device& device) {
  return DenseProduct::Context::of(device).why_not();
}

DenseProduct::DenseProduct(const Device& device, const DenseProblem& problem, const DenseRoom& room)
    : context_(Context::of(device)),
      room_(room),
      beta_(problem.adds ? 1.0f : 0.0f),
      description_(new Description(context_.lt(), problem), [](Description* description) { delete description; }),
      has_algorithm_(context_.algorithm(problem, *description_, room.scratch_size, &algorithm_)) {}

void DenseProduct::launch(void* y, const void* x, void* workspace, Stream stream) const {
  constexpr float kOne = 1.0f;
  const Description& description = *description_;
  check(context_.lt().matmul(context_.handle(), description.operation.get(), &kOne, workspace, description.a.get(), x,
                             description.b.get(), &beta_, y, description.d.get(), y, description.d.get(), &algorithm_,
                             static_cast<std::byte*>(workspace) + room_.scratch, room_.scratch_size, stream));
}

}  // namespace nf4
