// Every CUDA call that the library makes fails in turn, and every allocation of host memory: the right status, nothing
// left behind, and the next call works.
#include <algorithm>
#include <functional>
#include <set>
#include <thread>

#include "heap.hpp"
#include "runtime.hpp"
#include "support/calls.hpp"
#include "support/harness.hpp"
#include "thread_start.hpp"

namespace nf4test {
namespace {

constexpr cudaError_t kError = cudaErrorUnknown;
constexpr int kDevices = 64;

// All that an operation may ask of CUDA: nothing that allocates, frees, waits or copies.
const std::set<std::string> kHotCalls = {"cudaGetDevice", "cudaFuncSetAttribute", "cudaLaunchKernelExC"};

bool only_hot_calls() {
  return std::all_of(fake_cuda::calls().begin(), fake_cuda::calls().end(),
                     [](std::string_view call) { return kHotCalls.count(std::string(call)) == 1; });
}

// The calls of `op` fail in turn, on every variant and config; returns the names of those that did.
std::set<std::string> check_operation(nf4_op_t op) {
  fake_cuda::reset(std::vector<fake_cuda::Device>(kDevices, fake_cuda::kH200));
  std::vector<std::unique_ptr<Backend>> backends;
  for (int device = 0; device < kDevices; ++device) backends.push_back(std::make_unique<Backend>(device));
  std::set<std::string> failed;
  int device = 0;
  for_each_call(
      *backends[0], op, small_shapes(op), [&](Call& call, const nf4_variant_info_t&, const nf4_options_t& options) {
        for (int number = 1; number < 20; ++number) {
          device =
              device % (kDevices - 1) + 1;  // a kernel's attributes are set once on each, so take others as they come
          REQUIRE(cudaSetDevice(device) == cudaSuccess);
          const Backend& backend = *backends[static_cast<size_t>(device)];
          fake_cuda::clear();
          fake_cuda::fail_call(number, kError);
          const long before = heap::live();
          const nf4_status_t status = call.run(backend, &options);
          const long after = heap::live();
          fake_cuda::fail_call(0);
          const std::string name(fake_cuda::failed_call());
          INFO("call " << number << ", " << name << ", failed");
          CHECK(only_hot_calls());
          CHECK(after == before);
          CHECK(fake_cuda::pending() == cudaSuccess);
          CHECK(fake_cuda::current_device() == device);
          if (name.empty()) {  // more calls than were made
            require_success(status);
            break;
          }
          failed.insert(name);
          check_failed(status, NF4_ERROR_CUDA, "cudaErrorUnknown");
          CHECK(fake_cuda::calls().back() == name);  // it went no further
          require_success(call.run(backend, &options));
        }
        REQUIRE(cudaSetDevice(0) == cudaSuccess);
      });
  return failed;
}

}  // namespace

TEST_CASE("faults: CUDA calls of operations fail in turn") {
  const std::set<std::string> always = {"cudaGetDevice", "cudaLaunchKernelExC"};
  for (const nf4_op_t op : kAllOps) {
    INFO("op " << op);
    const std::set<std::string> failed = check_operation(op);
    CHECK(std::includes(failed.begin(), failed.end(), always.begin(), always.end()));
    if (op == NF4_OP_GEMM) CHECK(failed.count("cudaFuncSetAttribute") == 1);
  }
}

TEST_CASE("faults: CUDA calls of nf4_create fail in turn") {
  constexpr int kCurrent = 1;
  for (const int device : {0, kCurrent}) {
    std::set<std::string> failed;
    for (int number = 1;; ++number) {
      fake_cuda::reset({fake_cuda::kH200, fake_cuda::kH200});
      REQUIRE(cudaSetDevice(kCurrent) == cudaSuccess);
      fake_cuda::clear();
      fake_cuda::fail_call(number, kError);
      nf4_handle_t handle = nullptr;
      const long before = heap::live();
      const nf4_status_t status = nf4_create(&handle, device);
      const bool null = handle == nullptr;
      if (status == NF4_SUCCESS) nf4_destroy(handle);
      const long after = heap::live();
      fake_cuda::fail_call(0);
      const std::string name(fake_cuda::failed_call());
      INFO("device " << device << ", call " << number << ", " << name << ", failed");
      CHECK(after == before);
      CHECK(fake_cuda::pending() == cudaSuccess);
      const bool restoring = name == "cudaSetDevice" && fake_cuda::calls().back() == name && device != kCurrent &&
                             std::count(fake_cuda::calls().begin(), fake_cuda::calls().end(), name) % 2 == 0;
      if (!restoring) CHECK(fake_cuda::current_device() == kCurrent);
      if (name.empty()) {
        require_success(status);
        break;
      }
      failed.insert(name);
      check_failed(status, name == "cudaGetDeviceCount" ? NF4_ERROR_NO_DEVICE : NF4_ERROR_CUDA, "cudaErrorUnknown");
      CHECK(null);
      require_success(nf4_create(&handle, device));
      require_success(nf4_destroy(handle));
    }
    CHECK(failed.count("cudaGetDeviceCount") == 1);
    CHECK(failed.count("cudaGetDeviceProperties") == 1);
    CHECK(failed.count("cudaGetDevice") == 1);
    CHECK(failed.count("cudaFuncGetAttributes") == 1);
    CHECK(failed.count("cudaSetDevice") == (device == kCurrent ? 0 : 1));
  }
}

TEST_CASE("faults: no driver, one that is too old, and one without a GPU are told apart") {
  struct Case {
    int driver;
    cudaError_t error;
    std::string_view part;
  };
  for (const auto& [driver, error, part] : {
           Case{0, cudaErrorInsufficientDriver, "device is 1; there is no NVIDIA driver here"},
           Case{11040, cudaErrorInsufficientDriver,
                "device is 1; the NVIDIA driver is too old: it serves programs up to CUDA 11.4"},
           Case{CUDART_VERSION, cudaErrorNoDevice, "device is 1; the NVIDIA driver has no GPU to offer"},
       }) {
    for (const cudaError_t pending : {cudaSuccess, cudaErrorIllegalAddress}) {
      fake_cuda::reset({fake_cuda::kH200, fake_cuda::kH200});
      fake_cuda::set_driver(driver);
      if (pending != cudaSuccess) fake_cuda::set_pending(pending);
      fake_cuda::fail_call(1, error);
      nf4_handle_t handle = nullptr;
      check_failed(nf4_create(&handle, 1), NF4_ERROR_NO_DEVICE, std::string(part));
      if (pending == cudaSuccess) CHECK(fake_cuda::pending() == cudaSuccess);
    }
  }
}

TEST_CASE("faults: a device that is too old is told") {
  fake_cuda::reset({{72, 72, 48 << 10, 8}});
  nf4_handle_t handle = nullptr;
  check_failed(nf4_create(&handle, 0), NF4_ERROR_UNSUPPORTED,
               "device 0 (fake) has compute capability 7.2; expected 7.5 or newer");
}

TEST_CASE("faults: where nf4_create fails, an error from before is not taken") {
  for (int number = 1;; ++number) {
    fake_cuda::reset({fake_cuda::kH200, fake_cuda::kH200});
    fake_cuda::set_pending(cudaErrorIllegalAddress);
    fake_cuda::fail_call(number, kError);
    nf4_handle_t handle = nullptr;
    const nf4_status_t status = nf4_create(&handle, 1);
    const std::string name(fake_cuda::failed_call());
    fake_cuda::fail_call(0);
    INFO("call " << number << ", " << name << ", failed");
    // CUDA keeps the last error alone. Its owner still finds that there was one.
    CHECK(fake_cuda::pending() == (name.empty() ? cudaErrorIllegalAddress : kError));
    if (name.empty()) {
      require_success(status);
      require_success(nf4_destroy(handle));
      break;
    }
    check_failed(status, name == "cudaGetDeviceCount" ? NF4_ERROR_NO_DEVICE : NF4_ERROR_CUDA, "cudaErrorUnknown");
  }
}

TEST_CASE("faults: an error from before is returned and stays, and nothing is launched") {
  fake_cuda::reset({fake_cuda::kH200});
  const Backend backend(0);
  for (const nf4_op_t op : kAllOps) {
    INFO("op " << op);
    Call call(false, op, dtypes_of(op).back(), small_shapes(op).front());
    fake_cuda::clear();
    fake_cuda::set_pending(cudaErrorIllegalAddress);
    check_failed(call.run(backend, nullptr), NF4_ERROR_CUDA, "cudaErrorIllegalAddress");
    CHECK(fake_cuda::pending() == cudaErrorIllegalAddress);
    CHECK(fake_cuda::launches().empty());
    fake_cuda::set_pending(cudaSuccess);
    require_success(call.run(backend, nullptr));
  }
  // Making a handle launches nothing, so the error does not keep it from that; and it stays, even where that fails.
  fake_cuda::set_pending(cudaErrorIllegalAddress);
  nf4_handle_t handle = nullptr;
  require_success(nf4_create(&handle, 0));
  require_success(nf4_destroy(handle));
  CHECK(fake_cuda::pending() == cudaErrorIllegalAddress);
  check_failed(nf4_create(&handle, 1), NF4_ERROR_NO_DEVICE, "there are 1 CUDA devices");
  CHECK(fake_cuda::pending() == cudaErrorIllegalAddress);
}

TEST_CASE("faults: another current device is refused, and nothing is launched") {
  fake_cuda::reset({fake_cuda::kH200, fake_cuda::kH200});
  const Backend backend(0);
  for (const nf4_op_t op : kAllOps) {
    Call call(false, op, dtypes_of(op).back(), small_shapes(op).front());
    REQUIRE(cudaSetDevice(1) == cudaSuccess);
    fake_cuda::clear();
    check_failed(call.run(backend, nullptr), NF4_ERROR_WRONG_DEVICE, "device is 1, the handle's is 0");
    CHECK(fake_cuda::launches().empty());
    CHECK(fake_cuda::current_device() == 1);
    REQUIRE(cudaSetDevice(0) == cudaSuccess);
  }
}

TEST_CASE("faults: functions that launch nothing do not call CUDA") {
  fake_cuda::reset({fake_cuda::kH200});
  const Backend backend(0);
  const Directory directory;
  const std::string path = directory / "table";
  nf4_handle_t const handle = backend.handle();
  fake_cuda::clear();

  const nf4_problem_t problem = NF4_PROBLEM_INIT;
  nf4_selection_t selection{};
  selection.struct_size = sizeof selection;
  require_success(nf4_select(handle, &problem, nullptr, &selection));
  nf4_device_info_t device_info{};
  device_info.struct_size = sizeof device_info;
  require_success(nf4_device_info(handle, &device_info));
  nf4_variant_info_t variant_info{};
  variant_info.struct_size = sizeof variant_info;
  require_success(nf4_variant_info(handle, NF4_OP_GEMM, 0, &variant_info));
  size_t count = 0;
  require_success(nf4_variant_count(handle, NF4_OP_GEMM, &count));
  char text[64];
  require_success(nf4_variant_config(handle, variant_info.name, 0, text, sizeof text));
  int32_t supported = 0;
  require_success(nf4_variant_supports(handle, variant_info.name, &problem, &supported, nullptr, 0));
  require_success(nf4_tuning_save(handle, path.c_str()));
  require_success(nf4_tuning_load(handle, path.c_str()));
  require_success(nf4_tuning_reset(handle));
  float values[256];
  require_success(nf4_codebook(values));
  require_success(nf4_dynamic_map(values));
  int64_t codes_bytes = 0;
  int64_t absmax_count = 0;
  require_success(nf4_packed_size(&codes_bytes, &absmax_count, 3, 5, 64));
  nf4_handle_t host = nullptr;
  require_success(nf4_create(&host, NF4_HOST_DEVICE));
  require_success(nf4_destroy(host));
  CHECK(nf4_version() == NF4_VERSION);
  CHECK(std::string(nf4_version_string()) == NF4_VERSION_STRING);
  size_t bytes = 0;
  nf4_weight_t weight = NF4_WEIGHT_INIT;
  nf4_product_t product = NF4_PRODUCT_INIT;
  product.weight = &weight;
  require_success(nf4_gemm_workspace(handle, 1, NF4_BF16, &weight, &bytes));
  require_success(nf4_gemm_group_workspace(handle, &product, 1, 1, NF4_BF16, &bytes));
  CHECK(std::string(nf4_status_string(NF4_SUCCESS)) == "NF4_SUCCESS");
  CHECK(nf4_last_error_message() != nullptr);

  CHECK(fake_cuda::calls().empty());
}

TEST_CASE("faults: host memory runs out at each allocation in turn") {
  fake_cuda::reset({fake_cuda::kH200});
  const Directory directory;
  const std::string path = directory / "table";
  const Backend host(NF4_HOST_DEVICE);
  const Backend device(0);
  require_success(nf4_tuning_save(host.handle(), path.c_str()));

  std::vector<std::pair<std::string, std::function<nf4_status_t()>>> actions;
  for (const int32_t ordinal : {int32_t{NF4_HOST_DEVICE}, int32_t{0}}) {
    actions.emplace_back("nf4_create " + std::to_string(ordinal), [ordinal] {
      nf4_handle_t handle = nullptr;
      const nf4_status_t status = nf4_create(&handle, ordinal);
      if (status == NF4_SUCCESS) nf4_destroy(handle);
      return status;
    });
  }
  actions.emplace_back("nf4_select", [&] {
    const nf4_problem_t problem = NF4_PROBLEM_INIT;
    nf4_selection_t selection{};
    selection.struct_size = sizeof selection;
    return nf4_select(device.handle(), &problem, nullptr, &selection);
  });
  actions.emplace_back("nf4_tuning_save", [&] { return nf4_tuning_save(host.handle(), path.c_str()); });
  std::vector<std::unique_ptr<Call>> calls;
  for (const Backend* backend : {&host, &device}) {
    for (const nf4_op_t op : kAllOps) {
      // Large enough to be worth threads on the host.
      calls.push_back(std::make_unique<Call>(backend->on_host(), op, NF4_F32, Shape{9, 64, 4096}));
      actions.emplace_back((backend->on_host() ? "op on the host " : "op on a device ") + std::to_string(op),
                           [backend, call = calls.back().get()] { return call->run(*backend, nullptr); });
    }
    calls.push_back(
        std::make_unique<Call>(backend->on_host(), NF4_OP_GEMM, NF4_BF16, Shape{9, 64, 4096, 64, NF4_F32, true, 3}));
    actions.emplace_back(backend->on_host() ? "a group on the host" : "a group on a device",
                         [backend, call = calls.back().get()] { return call->run(*backend, nullptr); });
  }
  for (const auto& [name, action] : actions) {
    INFO(name);
    require_success(action());  // what is made once and kept is made now
    for (long number = 1;; ++number) {
      const long before = heap::live();
      heap::fail_allocation(number);
      const nf4_status_t status = action();
      const bool failed = heap::failed();
      heap::fail_allocation(0);
      INFO("allocation " << number);
      REQUIRE(heap::live() == before);
      if (!failed) {
        require_success(status);
        break;
      }
      if (status != NF4_SUCCESS) check_failed(status, NF4_ERROR_OUT_OF_MEMORY, "memory");
      require_success(action());
    }
  }
  CHECK(directory.files() == 1);
}

TEST_CASE("faults: on the host work is done, or not begun, where memory or threads run out") {
  const Environment log("NF4_LOG", GENERATE("0", "1"));  // its lines take memory too
  const Backend backend(NF4_HOST_DEVICE);
  struct Work {
    nf4_op_t op;
    Shape shape;
  };
  std::vector<Work> works;
  for (const nf4_op_t op : kAllOps) works.push_back({op, {9, 64, 4096}});
  works.push_back({NF4_OP_GEMM, {9, 64, 4096, 64, NF4_F32, true, 3}});  // launched together, if the host could
  works.push_back({NF4_OP_GEMM, {9, 64, 4096, 64, NF4_F32, true, 6}});  // and these in two launches
  int threads = 0;                                                      // whose start failed
  for (const Work& work : works) {
    Call call(true, work.op, NF4_F32, work.shape);
    INFO("op " << work.op << " " << work.shape.text());
    call.poison();
    const std::vector<uint8_t> untouched = call.outputs();
    require_success(call.run(backend, nullptr));
    const std::vector<uint8_t> complete = call.outputs();
    REQUIRE(complete != untouched);
    for (const bool memory : {true, false}) {
      int failures = 0;
      for (bool failed = true; failed; ++failures) {
        INFO((memory ? "allocation " : "thread ") << failures + 1);
        call.poison();
        nf4_status_t status = NF4_SUCCESS;
        stderr_of([&] {
          memory ? heap::fail_allocation(failures + 1) : thread_start::fail(failures + 1);
          status = call.run(backend, nullptr);
          failed = memory ? heap::failed() : thread_start::failed();
          heap::fail_allocation(0);
          thread_start::fail(0);
        });
        CHECK((call.outputs() == (status == NF4_SUCCESS ? complete : untouched)));
        if (!memory || !failed) require_success(status);
      }
      threads += memory ? 0 : failures - 1;
    }
  }
  if (std::thread::hardware_concurrency() > 1) CHECK(threads > 4);
}

TEST_CASE("faults: a handle keeps no tables that were replaced") {
  fake_cuda::reset({fake_cuda::kH200});
  const Directory directory;
  const std::string path = directory / "table";
  const Backend backend(0);
  require_success(nf4_tuning_save(backend.handle(), path.c_str()));
  const long before = heap::live();
  for (int i = 0; i < 10; ++i) {
    require_success(nf4_tuning_load(backend.handle(), path.c_str()));
    require_success(nf4_tuning_reset(backend.handle()));
  }
  CHECK(heap::live() == before);
}

}  // namespace nf4test
