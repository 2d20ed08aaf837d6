#include "older_device.hpp"

#include <algorithm>
#include <charconv>

#include "status.hpp"

namespace nf4 {
namespace {

constexpr int kOldest = 75;

// 10 * major + minor of "8.6"; -1 if it is none.
int parse_capability(std::string_view text) {
  int major = 0;
  int minor = 0;
  const char* const end = text.data() + text.size();
  const auto [dot, error] = std::from_chars(text.data(), end, major);
  if (error != std::errc{} || dot == end || *dot != '.' || end - dot != 2 || major < 0 || major > 99) return -1;
  const auto [rest, minor_error] = std::from_chars(dot + 1, end, minor);
  return minor_error == std::errc{} && rest == end && minor >= 0 ? 10 * major + minor : -1;
}

// Bytes that a block may ask for (CUDA C++ programming guide, compute capabilities).
int shared_memory_of(int capability) {
  constexpr int kKiB = 1024;
  if (capability < 80) return 64 * kKiB;
  if (capability == 80 || capability == 87) return 163 * kKiB;
  if (capability >= 90 && capability < 120) return 227 * kKiB;
  return 99 * kKiB;
}

}  // namespace

Device as_older_device(const Device& device, std::string_view text) {
  const int capability = parse_capability(text);
  if (capability < kOldest || capability > device.compute_capability) {
    fail(NF4_ERROR_INVALID_ARGUMENT, "NF4_COMPUTE_CAPABILITY is '{}'; expected one from 7.5 to {}.{}, which {} has",
         text, device.compute_capability / 10, device.compute_capability % 10, device.name);
  }
  Device older = device;
  if (capability == device.compute_capability) return older;
  older.compute_capability = capability;
  older.architecture = std::min(device.architecture, capability);
  older.shared_memory = std::min(device.shared_memory, shared_memory_of(capability));
  if (capability < 90) older.resident_clusters = {device.clusters(1), 0, 0, 0};
  older.name = formatted("{} as {}", device.name, text);
  return older;
}

}  // namespace nf4
