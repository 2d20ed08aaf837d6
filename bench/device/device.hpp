// Where the benchmark runs: a CUDA device or the host. Memory, random data, the oracle, and the clock.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "nf4/nf4.h"
#include "oracle.hpp"

namespace nf4bench {

// Starts the work of memory set `set` on `stream`; sets repeat modulo their number.
using Launch = std::function<void(int set, nf4_stream_t stream)>;

// Highest rates that plain kernels reach, in bytes per second; copy counts bytes read and written.
struct Ceilings {
  double read = 0;
  double write = 0;
  double copy = 0;
};

// How long to time: replays of a few launches each.
struct Pace {
  double replay_seconds;  // a replay holds fewer launches than it might if these take longer than this
  double total_seconds;   // and there are fewer replays
  int fewest_replays;
  int most_replays;
  // On a GPU, nothing runs for that long: large products and checks leave its clocks low, by a quarter and for 50 ms.
  double rest_seconds;
  // Then replays go before those that count, until none has become faster for that long.
  double warm_seconds;
  double hopeless_seconds = std::numeric_limits<double>::infinity();  // one launch of a slower contender is enough

  int replays(double seconds_each) const {
    return static_cast<int>(std::clamp(total_seconds / seconds_each, double(fewest_replays), double(most_replays)));
  }
};

inline constexpr Pace kThorough{25e-3, 0.2, 9, 31, 50e-3, 20e-3};
inline constexpr Pace kBrisk{10e-3, 0.1, 9, 15, 50e-3, 20e-3};  // for runs of a thousand rows
inline constexpr Pace kGlance{2e-3, 6e-3, 3, 3, 0, 4e-3};       // tells what is far behind

class Device {
 public:
  virtual ~Device() = default;

  virtual int32_t ordinal() const = 0;  // as nf4_create takes it
  bool is_host() const { return ordinal() == NF4_HOST_DEVICE; }
  // Pairs of name and value that say what the figures were measured on.
  virtual std::vector<std::pair<std::string, std::string>> description() const = 0;

  virtual void* allocate(size_t bytes) = 0;
  virtual void release(void* memory) = 0;
  virtual void copy_in(void* to, const void* from, size_t bytes) = 0;
  virtual void copy_out(void* to, const void* from, size_t bytes) = 0;
  // Sets every byte to 0xff: a NaN in every floating type.
  virtual void poison(void* memory, size_t bytes) = 0;
  virtual void fill_bytes(void* memory, int64_t bytes, uint64_t seed) = 0;
  virtual void fill_uniform(void* memory, nf4_dtype_t dtype, int64_t count, float low, float high, uint64_t seed) = 0;

  // The oracle, on data of this device.
  virtual std::vector<nf4ref::Reference> references(const nf4ref::Product& product) = 0;
  virtual std::vector<nf4ref::Reference> references(const nf4ref::TransposedProduct& product) = 0;
  virtual std::vector<nf4ref::Reference> references(const nf4ref::RoutedProduct& product) = 0;
  virtual int64_t unpack_mismatches(const void* w, nf4_dtype_t dtype, const nf4_weight_t& weight) = 0;
  // How many products the oracle may form for one problem without slowing a sweep down.
  virtual int64_t reference_budget() const = 0;

  // How much memory to rotate through so that no cache holds any of it when its turn comes again.
  virtual int64_t cold_bytes() const = 0;
  virtual Ceilings ceilings() = 0;

  // Runs set 0 once and waits for it.
  virtual void run(const Launch& launch) = 0;
  // Seconds per launch of each replay, which holds up to `launches` launches that rotate through the sets. One that is
  // not `capturable` is launched one by one on the legacy stream in place of a graph.
  virtual std::vector<double> time(const Launch& launch, int launches, bool capturable, const Pace& pace) = 0;
};

std::unique_ptr<Device> open_host_device();
// NULL where there is no CUDA device, or none was built for.
std::unique_ptr<Device> open_cuda_device(int32_t ordinal);

// Memory of a device.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Device& device, size_t bytes) : device_(&device), memory_(device.allocate(bytes)), bytes_(bytes) {}
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Buffer() {
    if (memory_ != nullptr) device_->release(memory_);
  }

  void* get() const { return memory_; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(memory_);
  }
  size_t bytes() const { return bytes_; }

 private:
  void swap(Buffer& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(memory_, other.memory_);
    std::swap(bytes_, other.bytes_);
  }

  Device* device_ = nullptr;
  void* memory_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace nf4bench
