#include <cuda_runtime_api.h>

#include <string>

#include "device.hpp"
#include "device/architecture.hpp"
#include "status.hpp"

namespace nf4 {
namespace {

constexpr int kOldestCapability = 75;

// Takes back the error that our own failing call left behind, so that nobody else finds it. `pending` is what was there
// before the call: if it was an error, it was not ours and stays.
[[noreturn]] void fail_cuda(nf4_status_t status, const char* call, cudaError_t error,
                            cudaError_t pending = cudaSuccess) {
  if (pending == cudaSuccess) cudaGetLastError();
  fail(status, "{}: {} ({})", call, cudaGetErrorString(error), cudaGetErrorName(error));
}

// A version of CUDA's, 12080 for example, as people write it.
std::string version_text(int version) { return formatted("{}.{}", version / 1000, version / 10 % 100); }

// CUDA reports a driver that is missing in the words of one that is too old.
[[noreturn]] void fail_driver(int ordinal) {
  int driver = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
    fail(NF4_ERROR_NO_DEVICE,
         "device is {}; there is no NVIDIA driver here: libcuda.so.1 was not found. A container must be started with "
         "its "
         "GPUs",
         ordinal);
  }
  fail(
      NF4_ERROR_NO_DEVICE,
      "device is {}; the NVIDIA driver is too old: it serves programs up to CUDA {}, and this build of libnf4 has CUDA "
      "{}. Update the driver, or build libnf4 with an older CUDA toolkit",
      ordinal, version_text(driver), version_text(CUDART_VERSION));
}

int device_count(int ordinal, cudaError_t pending) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess) return count;
  if (error != cudaErrorInsufficientDriver && error != cudaErrorNoDevice) {
    fail_cuda(NF4_ERROR_NO_DEVICE, "cudaGetDeviceCount", error, pending);
  }
  if (pending == cudaSuccess) cudaGetLastError();
  if (error == cudaErrorInsufficientDriver) fail_driver(ordinal);
  return 0;
}

}  // namespace

Device query_device(int ordinal) {
  const cudaError_t pending = cudaPeekAtLastError();
  const int count = device_count(ordinal, pending);
  if (count == 0) {
    fail(NF4_ERROR_NO_DEVICE,
         "device is {}; the NVIDIA driver has no GPU to offer (does CUDA_VISIBLE_DEVICES hide it?)", ordinal);
  }
  if (ordinal >= count) {
    fail(NF4_ERROR_NO_DEVICE, "device is {}; there are {} CUDA devices, numbered from 0", ordinal, count);
  }
  cudaDeviceProp properties;
  if (const cudaError_t error = cudaGetDeviceProperties(&properties, ordinal); error != cudaSuccess) {
    fail_cuda(NF4_ERROR_CUDA, "cudaGetDeviceProperties", error, pending);
  }
  const int capability = 10 * properties.major + properties.minor;
  if (capability < kOldestCapability) {
    fail(NF4_ERROR_UNSUPPORTED, "device {} ({}) has compute capability {}.{}; expected 7.5 or newer", ordinal,
         properties.name, properties.major, properties.minor);
  }
  int architecture = 0;
  if (const int error = compiled_architecture(ordinal, &architecture); error != cudaSuccess) {
    fail_cuda(NF4_ERROR_CUDA, "reading a kernel's attributes", static_cast<cudaError_t>(error), pending);
  }
  std::array<int, 4> clusters{};
  if (const int error = resident_clusters(ordinal, &clusters); error != cudaSuccess) {
    fail_cuda(NF4_ERROR_CUDA, "counting the clusters that run at once", static_cast<cudaError_t>(error), pending);
  }
  return {ordinal,         capability,   properties.multiProcessorCount,
          properties.name, architecture, static_cast<int>(properties.sharedMemPerBlockOptin),
          clusters};
}

void check_ready(const Device& device) {
  // Peek, not get: an error that is not ours stays for its owner to find.
  if (const cudaError_t error = cudaPeekAtLastError(); error != cudaSuccess) {
    fail(NF4_ERROR_CUDA, "an error from before this call is pending in CUDA: {} ({}); nothing was launched",
         cudaGetErrorString(error), cudaGetErrorName(error));
  }
  int current = 0;
  if (const cudaError_t error = cudaGetDevice(&current); error != cudaSuccess) {
    fail_cuda(NF4_ERROR_CUDA, "cudaGetDevice", error);
  }
  if (current != device.ordinal) {
    fail(NF4_ERROR_WRONG_DEVICE, "the calling thread's CUDA device is {}, the handle's is {}; call cudaSetDevice first",
         current, device.ordinal);
  }
}

void check_launched(int error, const char* what) {
  if (error != cudaSuccess) fail_cuda(NF4_ERROR_CUDA, what, static_cast<cudaError_t>(error));
}

}  // namespace nf4
