// nf4-bench: checks and times the operations of libnf4 and of its peers.
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <variant>

#include "checkpoint/model.hpp"
#include "device/device.hpp"
#include "formatted.hpp"
#include "options.hpp"
#include "report/output.hpp"
#include "status.hpp"
#include "sweep.hpp"
#include "tune/regret.hpp"
#include "tune/tune.hpp"
#include "variants.hpp"

namespace nf4bench {
namespace {

constexpr int kWrong = 1;   // a result
constexpr int kFailed = 2;  // the run

std::unique_ptr<Device> open_device(const DeviceOption& asked) {
  const int32_t ordinal = asked.ordinal.value_or(0);
  if (ordinal == NF4_HOST_DEVICE) return open_host_device();
  if (std::unique_ptr<Device> device = open_cuda_device(ordinal)) return device;
  if (asked.ordinal) throw std::runtime_error(nf4::formatted("--device is {}; there is no such CUDA device", ordinal));
  say("No CUDA device: this is the host backend.\n");
  return open_host_device();
}

int wrong(size_t results) {
  if (results == 0) return 0;
  fmt::print(stderr, "{} results are wrong\n", results);
  return kWrong;
}

int run_on(Device& device, nf4_handle_t handle, const SweepOptions& options) {
  return wrong(sweep(device, handle, options));
}

int run_on(Device& device, nf4_handle_t handle, const TuneOptions& options) {
  return tune(device, handle, options) ? 0 : kWrong;
}

int run_on(Device& device, nf4_handle_t handle, const RegretOptions& options) {
  return wrong(measure_regret(device, handle, options));
}

int run_on(Device& device, nf4_handle_t handle, const ModelOptions& options) {
  return wrong(measure_model(device, handle, options));
}

int run_on(Device&, nf4_handle_t handle, const VariantsOptions& options) {
  list_variants(handle, options);
  return 0;
}

template <typename Options>
int run(const Options& options) {
  const std::unique_ptr<Device> device = open_device(options.device);
  // The library reads it when the handle is made.
  if (!options.device.as.empty()) setenv("NF4_COMPUTE_CAPABILITY", options.device.as.c_str(), 1);
  const Handle handle = make_handle(device->ordinal());
  return run_on(*device, handle.get(), options);
}

int run(const Text& text) {
  write_stdout(text.text);
  return 0;
}

}  // namespace
}  // namespace nf4bench

int main(int argc, char** argv) {
  try {
    nf4bench::check_standard_streams();
    return std::visit([](const auto& options) { return nf4bench::run(options); }, nf4bench::parse_command(argc, argv));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "nf4-bench: %s\n", error.what());
    return nf4bench::kFailed;
  }
}
