#include "handle.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <thread>

#include "check.hpp"
#include "device.hpp"
#include "older_device.hpp"
#include "registry.hpp"
#include "status.hpp"

namespace nf4 {
namespace {

Device host_device() {
  return {NF4_HOST_DEVICE, 0, static_cast<int>(std::max(1u, std::thread::hardware_concurrency())), "host"};
}

// Reads NF4_FORCE_VARIANT, names separated by commas; what is empty between them, or at an end, is no name.
void force_variants(nf4_handle& handle, std::string_view names) {
  while (!names.empty()) {
    const size_t comma = std::min(names.find(','), names.size());
    const std::string_view name = names.substr(0, comma);
    names.remove_prefix(std::min(comma + 1, names.size()));
    if (name.empty()) continue;
    const Variant* variant = find_variant(name);
    if (variant == nullptr) {
      fail(NF4_ERROR_UNKNOWN_VARIANT, "NF4_FORCE_VARIANT names '{}', which is no variant; there are {}", name,
           variant_names());
    }
    const Variant*& slot = handle.forced[static_cast<size_t>(variant->op)];
    if (slot != nullptr && slot != variant) {
      fail(NF4_ERROR_INVALID_ARGUMENT, "NF4_FORCE_VARIANT names two variants of one operation: '{}' and '{}'",
           slot->name, name);
    }
    slot = variant;
  }
}

// A program that runs with more rights than who started it takes nothing from that one's environment.
const char* environment(const char* name) {
  const char* value = secure_getenv(name);
  return value != nullptr && *value != '\0' ? value : nullptr;
}

}  // namespace
}  // namespace nf4

using namespace nf4;

extern "C" {

nf4_status_t nf4_create(nf4_handle_t* handle, int32_t device) {
  return guarded([&] {
    check_not_null("handle", handle);
    *handle = nullptr;
    if (device < NF4_HOST_DEVICE) {
      fail(NF4_ERROR_INVALID_ARGUMENT, "device is {}; expected a CUDA ordinal, or NF4_HOST_DEVICE (-1)", device);
    }
    auto created = std::make_unique<nf4_handle>();
    created->device = device == NF4_HOST_DEVICE ? host_device() : query_device(device);
    if (const char* capability = environment("NF4_COMPUTE_CAPABILITY"); capability != nullptr && !created->on_host())
      created->device = as_older_device(created->device, capability);
    const char* log = environment("NF4_LOG");
    created->log = log != nullptr && std::strcmp(log, "0") != 0;
    if (const char* names = environment("NF4_FORCE_VARIANT")) force_variants(*created, names);
    const char* file = environment("NF4_TUNING_FILE");
    created->set_tuning(file != nullptr ? read_tuning(file) : builtin_tuning());
    *handle = created.release();
  });
}

nf4_status_t nf4_destroy(nf4_handle_t handle) {
  delete handle;
  return NF4_SUCCESS;
}

nf4_status_t nf4_device_info(nf4_handle_t handle, nf4_device_info_t* info) {
  return guarded([&] {
    const Device& device = check_handle(handle).device;
    check_struct("info", info);
    nf4_device_info_t told{0, device.ordinal, device.compute_capability, device.multiprocessors, 0, {}};
    copy_text(told.name, device.name);
    write_struct(info, told);
  });
}

}  // extern "C"
