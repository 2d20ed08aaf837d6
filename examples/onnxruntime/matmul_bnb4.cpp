// A library of custom operators for ONNX Runtime: nf4.MatMulBnb4 is com.microsoft.MatMulBnb4 by libnf4, on the host. It
// has the inputs A [..., K], B and absmax, the attributes K, N, block_size and quant_type, and the output Y [..., N].
//
//   c++ -std=c++17 -shared -fPIC matmul_bnb4.cpp -lnf4 -o libnf4_onnxruntime.so
//
// matmul_bnb4.py registers it, and makes a model use it.
#include <nf4/nf4.hpp>

#include <cstdint>
#include <exception>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "ort.hpp"

namespace {

struct Failed {  // of a call of ONNX Runtime
  OrtStatus* status;
};

void check(OrtStatus* status) {
  if (status) throw Failed{status};
}

// What `work` comes to: an exception becomes a status.
template <class Work>
OrtStatus* guarded(const OrtApi* api, Work work) noexcept {
  try {
    work();
    return nullptr;
  } catch (const Failed& failed) {
    return failed.status;
  } catch (const std::invalid_argument& error) {
    return api->CreateStatus(ORT_INVALID_ARGUMENT, error.what());
  } catch (const std::exception& error) {
    return api->CreateStatus(ORT_FAIL, error.what());
  }
}

const nf4::Handle& host() {
  static const nf4::Handle handle(NF4_HOST_DEVICE);
  return handle;
}

// ---- tensors

struct Tensor {
  void* data = nullptr;
  std::vector<std::int64_t> shape;
  std::int64_t count = 0;
};

Tensor input(const OrtApi* api, const OrtKernelContext* context, std::size_t index) {
  const OrtValue* value = nullptr;
  check(api->KernelContext_GetInput(context, index, &value));
  Tensor tensor;
  check(api->GetTensorMutableData(const_cast<OrtValue*>(value), &tensor.data));
  OrtTensorTypeAndShapeInfo* raw = nullptr;
  check(api->GetTensorTypeAndShape(value, &raw));
  const std::unique_ptr<OrtTensorTypeAndShapeInfo, void (*)(OrtTensorTypeAndShapeInfo*)> info(
      raw, api->ReleaseTensorTypeAndShapeInfo);
  std::size_t dimensions = 0, count = 0;
  check(api->GetDimensionsCount(raw, &dimensions));
  tensor.shape.resize(dimensions);
  check(api->GetDimensions(raw, tensor.shape.data(), dimensions));
  check(api->GetTensorShapeElementCount(raw, &count));
  tensor.count = static_cast<std::int64_t>(count);
  return tensor;
}

void* output(const OrtApi* api, OrtKernelContext* context, const std::vector<std::int64_t>& shape) {
  OrtValue* value = nullptr;
  check(api->KernelContext_GetOutput(context, 0, shape.data(), shape.size(), &value));
  void* data = nullptr;
  check(api->GetTensorMutableData(value, &data));
  return data;
}

// ---- a node of a model

class Kernel {
 public:
  Kernel(const OrtApi* api, const OrtKernelInfo* info, nf4_dtype_t dtype)
      : api_(api), dtype_(dtype), k_(attribute(info, "K")), n_(attribute(info, "N")) {
    const std::int64_t blocksize = attribute(info, "block_size");
    if (blocksize < 0 || blocksize > std::numeric_limits<std::int32_t>::max())
      refuse("block_size", blocksize, "32 to 4096");
    blocksize_ = static_cast<std::int32_t>(blocksize);
    nf4::packed_size(n_, k_, blocksize_);  // refuses the others
    expect_one("quant_type", attribute(info, "quant_type"), "NF4");
    expect_one("transB", optional_attribute(info, "transB", 1), "W is [N, K]");
  }

  const OrtApi* api() const { return api_; }

  void compute(OrtKernelContext* context) const {
    const Tensor a = input(api_, context, 0), b = input(api_, context, 1), absmax = input(api_, context, 2);
    const std::string expected = std::to_string(k_) + ", K";
    if (a.shape.empty())
      throw std::invalid_argument("nf4.MatMulBnb4: A is a scalar; expected a last dimension of " + expected);
    if (a.shape.back() != k_) refuse("the last dimension of A", a.shape.back(), expected);
    std::int64_t m = 1;
    for (std::size_t i = 0; i + 1 < a.shape.size(); ++i) m *= a.shape[i];
    std::vector<std::int64_t> shape = a.shape;
    shape.back() = n_;
    const nf4::Weight weight(n_, k_, {static_cast<const std::uint8_t*>(b.data), b.count},
                             nf4::ConstData(absmax.data, absmax.count, dtype_), blocksize_);
    const nf4::Data y(output(api_, context, shape), m * n_, dtype_);
    nf4::gemm(host(), nf4::Matrix(y, m, n_), nf4::ConstMatrix(nf4::ConstData(a.data, a.count, dtype_), m, k_), weight);
  }

 private:
  [[noreturn]] static void refuse(const std::string& what, std::int64_t value, const std::string& expected) {
    throw std::invalid_argument("nf4.MatMulBnb4: " + what + " is " + std::to_string(value) + "; expected " + expected);
  }

  static void expect_one(const std::string& what, std::int64_t value, const std::string& meaning) {
    if (value != 1) refuse(what, value, "1, " + meaning);
  }

  std::int64_t attribute(const OrtKernelInfo* info, const char* name) const {
    std::int64_t value = 0;
    check(api_->KernelInfoGetAttribute_int64(info, name, &value));
    return value;
  }

  std::int64_t optional_attribute(const OrtKernelInfo* info, const char* name, std::int64_t otherwise) const {
    std::int64_t value = otherwise;
    OrtStatus* missing = api_->KernelInfoGetAttribute_int64(info, name, &value);
    if (!missing) return value;
    api_->ReleaseStatus(missing);
    return otherwise;
  }

  const OrtApi* api_;
  nf4_dtype_t dtype_;
  std::int64_t k_, n_;
  std::int32_t blocksize_ = 0;
};

// ---- the operator, once for each type of A, absmax and Y

struct MatMulBnb4 : OrtCustomOp {
  ONNXTensorElementDataType type;
  nf4_dtype_t dtype;

  MatMulBnb4(ONNXTensorElementDataType type_, nf4_dtype_t dtype_) : OrtCustomOp{}, type(type_), dtype(dtype_) {
    version = 16;
    GetName = [](const OrtCustomOp*) { return "MatMulBnb4"; };
    GetExecutionProviderType = [](const OrtCustomOp*) { return "CPUExecutionProvider"; };
    GetInputTypeCount = [](const OrtCustomOp*) -> std::size_t { return 3; };
    GetInputType = [](const OrtCustomOp* op, std::size_t index) {
      return index == 1 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 : static_cast<const MatMulBnb4*>(op)->type;
    };
    GetOutputTypeCount = [](const OrtCustomOp*) -> std::size_t { return 1; };
    GetOutputType = [](const OrtCustomOp* op, std::size_t) { return static_cast<const MatMulBnb4*>(op)->type; };
    GetInputCharacteristic =
        GetOutputCharacteristic = [](const OrtCustomOp*, std::size_t) { return INPUT_OUTPUT_REQUIRED; };
    GetInputMemoryType = [](const OrtCustomOp*, std::size_t) { return OrtMemTypeDefault; };
    CreateKernelV2 = [](const OrtCustomOp* op, const OrtApi* api, const OrtKernelInfo* info, void** kernel) {
      return guarded(api, [&] { *kernel = new Kernel(api, info, static_cast<const MatMulBnb4*>(op)->dtype); });
    };
    KernelComputeV2 = [](void* opaque, OrtKernelContext* context) {
      const auto* kernel = static_cast<const Kernel*>(opaque);
      return guarded(kernel->api(), [&] { kernel->compute(context); });
    };
    KernelDestroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  }
};

}  // namespace

// What ONNX Runtime calls when the library is registered with the options of a session.
extern "C" __attribute__((visibility("default"))) OrtStatus* RegisterCustomOps(OrtSessionOptions* options,
                                                                               const OrtApiBase* base) {
  static const MatMulBnb4 operators[] = {{ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, NF4_F32},
                                         {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16, NF4_F16},
                                         {ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16, NF4_BF16}};
  const OrtApi* api = base->GetApi(16);
  if (!api) return base->GetApi(1)->CreateStatus(ORT_FAIL, "nf4.MatMulBnb4 needs ONNX Runtime 1.16 or newer");
  return guarded(api, [&] {
    static OrtCustomOpDomain* const domain = [&] {  // sessions refer to it: it is never freed
      OrtCustomOpDomain* made = nullptr;
      check(api->CreateCustomOpDomain("nf4", &made));
      for (const MatMulBnb4& op : operators) check(api->CustomOpDomain_Add(made, &op));
      return made;
    }();
    check(api->AddCustomOpDomain(options, domain));
  });
}
