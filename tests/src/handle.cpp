#include "handle.hpp"

#include <sys/stat.h>

#include <cstring>
#include <string>
#include <thread>

#include "support/arena.hpp"
#include "support/harness.hpp"

namespace nf4test {
namespace {

// A failed nf4_create: its handle is null even if there was something in it before.
void check_not_created(int32_t device, nf4_status_t expected, const std::string& part) {
  int nothing = 0;
  auto handle = reinterpret_cast<nf4_handle_t>(&nothing);
  check_failed(nf4_create(&handle, device), expected, part);
  CHECK(handle == nullptr);
}

std::string selection_reason(const Backend& backend) {
  const nf4_problem_t problem = NF4_PROBLEM_INIT;
  nf4_selection_t selection{};
  selection.struct_size = sizeof selection;
  REQUIRE(nf4_select(backend.handle(), &problem, nullptr, &selection) == NF4_SUCCESS);
  return selection.reason;
}

void check_info(const Backend& backend, int32_t device) {
  nf4_device_info_t info;
  std::memset(&info, 0xa5, sizeof info);
  info.struct_size = sizeof info;
  REQUIRE(nf4_device_info(backend.handle(), &info) == NF4_SUCCESS);
  CHECK(info.struct_size == sizeof info);
  CHECK(info.device == device);
  CHECK(info.multiprocessors > 0);
  CHECK(info.reserved == 0);
  if (device == NF4_HOST_DEVICE) {
    CHECK(info.compute_capability == 0);
    CHECK(std::string(info.name) == "host");
    CHECK(info.multiprocessors == static_cast<int>(std::thread::hardware_concurrency()));
  } else {
    CHECK(info.compute_capability >= 75);
    CHECK(std::strlen(info.name) > 0);
  }
}

}  // namespace

TEST_CASE("handle: tells what it runs on, host") { check_info(Backend(NF4_HOST_DEVICE), NF4_HOST_DEVICE); }

TEST_CASE("handle: destroying null is fine") { CHECK(nf4_destroy(nullptr) == NF4_SUCCESS); }

TEST_CASE("handle: devices that are none") {
  check_failed(nf4_create(nullptr, NF4_HOST_DEVICE), NF4_ERROR_INVALID_ARGUMENT, "handle is null");
  check_not_created(-2, NF4_ERROR_INVALID_ARGUMENT, "device is -2; expected");
  check_not_created(INT32_MIN, NF4_ERROR_INVALID_ARGUMENT, "device is -2147483648; expected");
  // Without a GPU the message tells whether there is a driver.
  nf4_handle_t first = nullptr;
  const bool has_gpu = nf4_create(&first, 0) == NF4_SUCCESS;
  nf4_destroy(first);
  check_not_created(1000000, NF4_ERROR_NO_DEVICE,
                    !NF4_HAVE_CUDA ? "device is 1000000; this build of libnf4 has no CUDA"
                    : has_gpu      ? "device is 1000000; there are "
                                   : "NVIDIA driver");
}

TEST_CASE("handle: NF4_FORCE_VARIANT") {
  SECTION("forces its operation, and only that") {
    const Environment force("NF4_FORCE_VARIANT", "unpack.host,pack.host");
    const Backend backend(NF4_HOST_DEVICE);
    const auto forced = [&](nf4::Op op) { return backend.handle()->forced[static_cast<size_t>(op)]; };
    REQUIRE(forced(nf4::Op::pack) != nullptr);
    REQUIRE(forced(nf4::Op::unpack) != nullptr);
    CHECK(std::string(forced(nf4::Op::pack)->name) == "pack.host");
    CHECK(std::string(forced(nf4::Op::unpack)->name) == "unpack.host");
    CHECK(forced(nf4::Op::gemm) == nullptr);
  }
  SECTION("shows as the reason of a selection") {
    const Environment force("NF4_FORCE_VARIANT", "gemm.host");
    CHECK(selection_reason(Backend(NF4_HOST_DEVICE)) == "forced by NF4_FORCE_VARIANT");
  }
  SECTION("is read when the handle is made") {
    const Backend before(NF4_HOST_DEVICE);
    const Environment force("NF4_FORCE_VARIANT", "gemm.host");
    CHECK(selection_reason(before) == "default: the first variant that can run this");
  }
  SECTION("an empty one is none") {
    const Environment force("NF4_FORCE_VARIANT", "");
    CHECK(selection_reason(Backend(NF4_HOST_DEVICE)) == "default: the first variant that can run this");
  }
  SECTION("an empty name is none, wherever it stands") {
    for (const char* names : {",unpack.host", "unpack.host,", ",,unpack.host,,pack.host,", ","}) {
      CAPTURE(names);
      const Environment force("NF4_FORCE_VARIANT", names);
      const Backend backend(NF4_HOST_DEVICE);
      const bool named = std::strchr(names, 'u') != nullptr;
      CHECK((backend.handle()->forced[static_cast<size_t>(nf4::Op::unpack)] != nullptr) == named);
    }
  }
  SECTION("an unknown name fails, and the message lists those known") {
    const Environment force("NF4_FORCE_VARIANT", "gemm.host,gemm.nonsense");
    check_not_created(NF4_HOST_DEVICE, NF4_ERROR_UNKNOWN_VARIANT, "NF4_FORCE_VARIANT names 'gemm.nonsense'");
    check_not_created(NF4_HOST_DEVICE, NF4_ERROR_UNKNOWN_VARIANT, "unpack_absmax.host");
  }
#if NF4_HAVE_CUDA
  SECTION("two names for one operation fail") {
    const Environment force("NF4_FORCE_VARIANT", "gemm.host,gemm.tiled");
    check_not_created(NF4_HOST_DEVICE, NF4_ERROR_INVALID_ARGUMENT, "'gemm.host' and 'gemm.tiled'");
  }
#endif
}

TEST_CASE("handle: NF4_TUNING_FILE") {
  const Directory directory;
  const std::string path = directory / "table";
  const Environment file("NF4_TUNING_FILE", path);
  SECTION("replaces the built-in table") {
    write_file(path, "nf4-tuning 1\n\nhost,gemm,*,*,*,*,*,gemm.host,,\n");
    CHECK(selection_reason(Backend(NF4_HOST_DEVICE)) == "line 3 of the tuning table");
  }
  SECTION("a file that is not there fails") { check_not_created(NF4_HOST_DEVICE, NF4_ERROR_IO, path); }
  SECTION("a pipe fails, and nobody waits for what it might hold") {
    REQUIRE(mkfifo(path.c_str(), 0600) == 0);
    check_not_created(NF4_HOST_DEVICE, NF4_ERROR_IO, path + "': it is a pipe; expected a regular file");
  }
  SECTION("a malformed file fails, with its line") {
    write_file(path, "nf4-tuning 1\nnonsense\n");
    check_not_created(NF4_HOST_DEVICE, NF4_ERROR_PARSE, path + ", line 2: ");
  }
  SECTION("an unknown variant fails, with its line") {
    write_file(path, "nf4-tuning 1\nhost,gemm,*,*,*,*,*,gemm.nonsense,,\n");
    check_not_created(NF4_HOST_DEVICE, NF4_ERROR_UNKNOWN_VARIANT, path + ", line 2: variant is 'gemm.nonsense'");
  }
  SECTION("an empty name is none") {
    const Environment none("NF4_TUNING_FILE", "");
    CHECK(selection_reason(Backend(NF4_HOST_DEVICE)) == "default: the first variant that can run this");
  }
}

TEST_CASE("handle: NF4_LOG") {
  const auto logged = [](const char* value) {
    const Environment log("NF4_LOG", value);
    const Backend backend(NF4_HOST_DEVICE);
    const float absmax = 1.0f;
    float out = 0.0f;
    nf4_weight_t weight = NF4_WEIGHT_INIT;
    weight.rows = weight.cols = 1;
    weight.absmax = &absmax;
    return stderr_of(
        [&] { REQUIRE(nf4_unpack_absmax(backend.handle(), &out, &weight, nullptr, nullptr) == NF4_SUCCESS); });
  };
  CHECK(logged("1").find("nf4: host: unpack_absmax ") == 0);
  CHECK(logged("0").empty());
  CHECK(logged("").empty());
}

#if NF4_HAVE_CUDA
TEST_CASE("handle: tells what it runs on, CUDA", "[gpu]") {
  REQUIRE_GPU();
  int devices = 0;
  check_cuda(cudaGetDeviceCount(&devices));
  for (int device = 0; device < devices; ++device) check_info(Backend(device), device);
}

TEST_CASE("handle: making one changes neither the current device nor CUDA's errors, CUDA", "[gpu]") {
  REQUIRE_GPU();
  int devices = 0;
  check_cuda(cudaGetDeviceCount(&devices));
  check_cuda(cudaSetDevice(devices - 1));
  const Backend first(0);
  nf4_handle_t beyond = nullptr;
  CHECK(nf4_create(&beyond, devices) == NF4_ERROR_NO_DEVICE);
  int current = -1;
  check_cuda(cudaGetDevice(&current));
  CHECK(current == devices - 1);
  CHECK(cudaPeekAtLastError() == cudaSuccess);
  check_cuda(cudaSetDevice(0));
}
#endif

}  // namespace nf4test
