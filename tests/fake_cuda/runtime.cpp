#include "runtime.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <utility>

namespace fake_cuda {
namespace {

constexpr size_t kSharedMemoryForAll = 48 << 10;  // more must be asked for with cudaFuncSetAttribute
constexpr unsigned kLargestCluster = 8;

class Malloc : public std::pmr::memory_resource {
  void* do_allocate(size_t size, size_t alignment) override {
    return std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
  }
  void do_deallocate(void* block, size_t, size_t) override { std::free(block); }
  bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }
};

struct State {
  Malloc memory;
  std::pmr::vector<Device> devices{&memory};
  int current = 0;
  int driver = CUDART_VERSION;
  cudaError_t last_error = cudaSuccess;
  int fail_number = 0;
  cudaError_t fail_error = cudaSuccess;
  std::pmr::vector<std::string_view> calls{&memory};
  std::string_view failed_call;
  std::pmr::vector<Launch> launches{&memory};
  std::vector<std::string> violations;
  Observer observer;
  std::pmr::map<const void*, std::string_view> names{&memory};          // of kernels, by the host's function
  std::pmr::map<std::pair<const void*, int>, size_t> allowed{&memory};  // dynamic shared memory, by kernel and device
  std::pmr::set<std::string_view> kernels{&memory};
};

// cuBLASLt would ask the real driver for a device: it is kept out, wherever it is installed, unless a test names what
// it takes for it.
[[maybe_unused]] const int kWithoutCublasLt = setenv("NF4_CUBLASLT", "/kept out of these tests", 0);

// The runtime makes a device's context current to a thread that needs one; the driver expects that it is.
thread_local bool thread_has_context = false;

State& state() {
  static State instance;  // kernels register themselves before main
  return instance;
}

cudaError_t result(cudaError_t error) {
  if (error != cudaSuccess) state().last_error = error;
  return error;
}

// Counts a call of the library's. True if it is the one to fail.
bool fails(const char* name) {
  State& s = state();
  s.calls.emplace_back(name);
  if (s.fail_number == 0 || --s.fail_number > 0) return false;
  s.failed_call = name;
  return true;
}

bool exists(int device) { return 0 <= device && device < static_cast<int>(state().devices.size()); }

// What is wrong with a launch on the current device, "" if nothing is.
std::string violation(const Launch& launch, const cudaLaunchConfig_t& config, size_t allowed) {
  const unsigned long long threads =
      static_cast<unsigned long long>(config.blockDim.x) * config.blockDim.y * config.blockDim.z;
  if (config.gridDim.x == 0 || config.gridDim.x > 0x7fffffff) return "grid of " + std::to_string(config.gridDim.x);
  if (config.gridDim.y != 1 || config.gridDim.z != 1) return "grid of more than one dimension";
  if (threads == 0 || threads > 1024) return "block of " + std::to_string(threads) + " threads";
  if (config.blockDim.y != 1 || config.blockDim.z != 1) return "block of more than one dimension";
  if (launch.shared_memory > allowed) {
    return std::to_string(launch.shared_memory) + " bytes of dynamic shared memory, allowed are " +
           std::to_string(allowed);
  }
  if (launch.cluster == 0 || launch.cluster > kLargestCluster || config.gridDim.x % launch.cluster != 0) {
    return "clusters of " + std::to_string(launch.cluster) + " in a grid of " + std::to_string(config.gridDim.x);
  }
  if (launch.cluster > 1 && state().devices[static_cast<size_t>(state().current)].capability < 90) {
    return "clusters on a device that has none";
  }
  return "";
}

}  // namespace

void reset(const std::vector<Device>& devices) {
  State& s = state();
  s.devices.assign(devices.begin(), devices.end());
  s.current = 0;
  s.driver = CUDART_VERSION;
  s.last_error = cudaSuccess;
  s.observer = nullptr;
  fail_call(0);
  clear();
}

void clear() {
  State& s = state();
  s.calls.clear();
  s.violations.clear();
  s.failed_call = {};
  s.launches.clear();
}

void fail_call(int number, cudaError_t error) {
  state().fail_number = number;
  state().fail_error = error;
}

void observe(Observer observer) { state().observer = std::move(observer); }
void set_pending(cudaError_t error) { state().last_error = error; }
cudaError_t pending() { return state().last_error; }
void set_driver(int version) { state().driver = version; }
int current_device() { return state().current; }
const std::pmr::vector<std::string_view>& calls() { return state().calls; }
std::string_view failed_call() { return state().failed_call; }
const std::pmr::vector<Launch>& launches() { return state().launches; }
const std::vector<std::string>& violations() { return state().violations; }
const std::pmr::set<std::string_view>& kernels() { return state().kernels; }

TensorMap read(const CUtensorMap& map) {
  TensorMap description;
  std::memcpy(&description, &map, sizeof description);
  return description;
}

}  // namespace fake_cuda

using namespace fake_cuda;

extern "C" {

// ---- errors

cudaError_t cudaPeekAtLastError() { return state().last_error; }

cudaError_t cudaGetLastError() {
  const cudaError_t error = state().last_error;
  state().last_error = cudaSuccess;
  return error;
}

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorUnknown:
      return "cudaErrorUnknown";
    case cudaErrorIllegalAddress:
      return "cudaErrorIllegalAddress";
    default:
      return "another error";
  }
}

const char* cudaGetErrorString(cudaError_t) { return "an error of the fake runtime"; }

// ---- devices

cudaError_t cudaDriverGetVersion(int* version) {
  if (fails("cudaDriverGetVersion")) return result(state().fail_error);
  *version = state().driver;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
  if (fails("cudaGetDeviceCount")) return result(state().fail_error);
  *count = static_cast<int>(state().devices.size());
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  if (fails("cudaGetDevice")) return result(state().fail_error);
  *device = state().current;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  if (fails("cudaSetDevice")) return result(state().fail_error);
  if (!exists(device)) return result(cudaErrorInvalidDevice);
  state().current = device;
  thread_has_context = true;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (fails("cudaGetDeviceProperties")) return result(state().fail_error);
  if (!exists(device)) return result(cudaErrorInvalidDevice);
  const Device& found = state().devices[static_cast<size_t>(device)];
  *properties = {};
  std::strcpy(properties->name, "fake");
  properties->major = found.capability / 10;
  properties->minor = found.capability % 10;
  properties->multiProcessorCount = found.multiprocessors;
  properties->sharedMemPerBlockOptin = static_cast<size_t>(found.shared_memory);
  return cudaSuccess;
}

// ---- kernels

void** __cudaRegisterFatBinary(void*) {
  static void* handle = nullptr;
  return &handle;
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterVar(void**, char*, char*, const char*, int, size_t, int, int) {}

void __cudaRegisterFunction(void**, const char* host_function, char*, const char* name, int, uint3*, uint3*, dim3*,
                            dim3*, int*) {
  state().names[host_function] = name;
  state().kernels.insert(name);
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  if (fails("cudaFuncGetAttributes")) return result(state().fail_error);
  *attributes = {};
  attributes->ptxVersion = state().devices[static_cast<size_t>(state().current)].architecture;
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  if (fails("cudaFuncSetAttribute")) return result(state().fail_error);
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 ||
      value > state().devices[static_cast<size_t>(state().current)].shared_memory) {
    return result(cudaErrorInvalidValue);
  }
  state().allowed[{kernel, state().current}] = static_cast<size_t>(value);
  thread_has_context = true;
  return cudaSuccess;
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* kernel, void** arguments) {
  if (fails("cudaLaunchKernelExC")) return result(state().fail_error);
  State& s = state();
  Launch launch{s.names.at(kernel),       config->gridDim.x, config->blockDim.x, 1,
                config->dynamicSmemBytes, config->stream,    s.current,          false};
  for (unsigned i = 0; i < config->numAttrs; ++i) {
    const cudaLaunchAttributeValue& value = config->attrs[i].val;
    switch (config->attrs[i].id) {
      case cudaLaunchAttributeClusterDimension:
        launch.cluster = value.clusterDim.x;
        break;
      case cudaLaunchAttributeProgrammaticStreamSerialization:
        launch.dependent = value.programmaticStreamSerializationAllowed != 0;
        break;
      default:
        s.violations.push_back(std::string(launch.kernel) + ": an attribute that the fake runtime does not know");
        return result(cudaErrorInvalidValue);
    }
  }
  const auto asked = s.allowed.find({kernel, s.current});
  const std::string wrong = violation(launch, *config, asked != s.allowed.end() ? asked->second : kSharedMemoryForAll);
  if (!wrong.empty()) {
    s.violations.push_back(std::string(launch.kernel) + ": " + wrong);
    return result(cudaErrorInvalidConfiguration);
  }
  thread_has_context = true;
  s.launches.push_back(launch);
  if (s.observer) s.observer(launch, arguments);
  return cudaSuccess;
}

// What <<<>>> compiles to. The library launches through cudaLaunchKernelEx, which returns a launch's own error; these
// are here because the compiler's stubs name them.
[[noreturn]] static void launched_with_chevrons() {
  std::fputs("a kernel was launched with <<<>>>\n", stderr);
  std::abort();
}
cudaError_t __cudaPopCallConfiguration(dim3*, dim3*, size_t*, void*) { launched_with_chevrons(); }
cudaError_t __cudaGetKernel(cudaKernel_t*, const void*) { launched_with_chevrons(); }
cudaError_t __cudaLaunchKernel(cudaKernel_t, dim3, dim3, void**, size_t, cudaStream_t) { launched_with_chevrons(); }

cudaError_t cudaOccupancyMaxActiveClusters(int* clusters, const void*, const cudaLaunchConfig_t* config) {
  if (fails("cudaOccupancyMaxActiveClusters")) return result(state().fail_error);
  if (config->numAttrs != 1 || config->attrs[0].id != cudaLaunchAttributeClusterDimension)
    return result(cudaErrorInvalidValue);
  *clusters = state().devices[static_cast<size_t>(state().current)].clusters(
      static_cast<int>(config->attrs[0].val.clusterDim.x));
  return cudaSuccess;
}

// ---- the driver's descriptions for tensor copies

static CUresult encode_tensor_map(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t dimensions, void* address,
                                  const cuuint64_t* sizes, const cuuint64_t* pitches, const cuuint32_t* box,
                                  const cuuint32_t*, CUtensorMapInterleave, CUtensorMapSwizzle swizzle,
                                  CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  if (!thread_has_context) return CUDA_ERROR_INVALID_CONTEXT;
  bool right = dimensions == 2 && reinterpret_cast<uintptr_t>(address) % 16 == 0;
  for (cuuint32_t i = 0; i < dimensions; ++i) {
    right = right && sizes[i] > 0 && sizes[i] <= uint64_t{1} << 32 && box[i] > 0 && box[i] <= 256;
    if (i + 1 < dimensions) right = right && pitches[i] % 16 == 0 && pitches[i] < uint64_t{1} << 40;
  }
  if (!right) state().violations.emplace_back("a description for tensor copies that the driver refuses");
  const TensorMap description{address, type, sizes[0], sizes[1], pitches[0], box[0], box[1], swizzle};
  static_assert(sizeof description <= sizeof *map);
  std::memcpy(map, &description, sizeof description);
  return right ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult* found) {
  if (fails("cudaGetDriverEntryPointByVersion")) return result(state().fail_error);
  const bool known = std::string_view(name) == "cuTensorMapEncodeTiled";
  *function = known ? reinterpret_cast<void*>(encode_tensor_map) : nullptr;
  *found = known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}

// ---- memory, for the tests' own operands, and what has no outcome that matters; these never fail

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode*) { return cudaSuccess; }
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind, cudaStream_t) {
  std::memcpy(to, from, size);
  return cudaSuccess;
}
cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind, cudaStream_t) {
  for (size_t row = 0; row < height; ++row) {
    std::memcpy(static_cast<char*>(to) + row * to_pitch, static_cast<const char*>(from) + row * from_pitch, width);
  }
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** pointer, size_t size) {
  constexpr size_t kAlignment = 256;
  *pointer = std::aligned_alloc(kAlignment, (size + kAlignment - 1) / kAlignment * kAlignment);
  return *pointer != nullptr ? cudaSuccess : result(cudaErrorMemoryAllocation);
}
cudaError_t cudaFree(void* pointer) {
  std::free(pointer);
  return cudaSuccess;
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t size, cudaMemcpyKind) {
  std::memcpy(to, from, size);
  return cudaSuccess;
}
cudaError_t cudaMemset(void* to, int value, size_t size) {
  std::memset(to, value, size);
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }

}  // extern "C"
