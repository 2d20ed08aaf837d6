#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <new>
#include <thread>

#include "device/device.hpp"
#include "random.hpp"
#include "report/statistics.hpp"

namespace nf4bench {
namespace {

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median_of_nine(const std::function<void()>& work) {
  std::vector<double> seconds;
  for (int i = 0; i < 9; ++i) seconds.push_back(seconds_of(work));
  return quantile(seconds, 0.5);
}

class HostDevice final : public Device {
 public:
  int32_t ordinal() const override { return NF4_HOST_DEVICE; }

  std::vector<std::pair<std::string, std::string>> description() const override {
    return {{"device", "host"}, {"threads", std::to_string(std::thread::hardware_concurrency())}};
  }

  void* allocate(size_t bytes) override {
    constexpr size_t kAlignment = 256;  // as cudaMalloc gives
    const size_t padded = std::max(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
    void* memory = std::aligned_alloc(kAlignment, padded);
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
  }
  void release(void* memory) override { std::free(memory); }
  void copy_in(void* to, const void* from, size_t bytes) override { std::memcpy(to, from, bytes); }
  void copy_out(void* to, const void* from, size_t bytes) override { std::memcpy(to, from, bytes); }
  void poison(void* memory, size_t bytes) override { std::memset(memory, 0xff, bytes); }

  void fill_bytes(void* memory, int64_t bytes, uint64_t seed) override {
    nf4ref::parallel_for(bytes, bytes, [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        static_cast<uint8_t*>(memory)[i] = static_cast<uint8_t>(random_bits(static_cast<uint64_t>(i), seed));
      }
    });
  }

  void fill_uniform(void* memory, nf4_dtype_t dtype, int64_t count, float low, float high, uint64_t seed) override {
    nf4ref::parallel_for(count, count, [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        nf4ref::store(memory, dtype, i, random_uniform(static_cast<uint64_t>(i), seed, low, high));
      }
    });
  }

  std::vector<nf4ref::Reference> references(const nf4ref::Product& product) override {
    return nf4ref::references(product);
  }
  std::vector<nf4ref::Reference> references(const nf4ref::TransposedProduct& product) override {
    return nf4ref::references(product);
  }
  std::vector<nf4ref::Reference> references(const nf4ref::RoutedProduct& product) override {
    return nf4ref::references(product);
  }

  int64_t unpack_mismatches(const void* w, nf4_dtype_t dtype, const nf4_weight_t& weight) override {
    std::atomic<int64_t> mismatches = 0;
    const int64_t count = weight.rows * weight.cols;
    nf4ref::parallel_for(count, count, [&](int64_t begin, int64_t end) {
      int64_t found = 0;
      for (int64_t i = begin; i < end; ++i) found += !nf4ref::unpacks_to(w, dtype, i, weight, i);
      mismatches += found;
    });
    return mismatches;
  }

  int64_t reference_budget() const override { return int64_t{1} << 31; }

  int64_t cold_bytes() const override {
    const int64_t last_level = sysconf(_SC_LEVEL3_CACHE_SIZE);
    return std::clamp<int64_t>(2 * last_level, 64 << 20, 256 << 20);  // what shares a larger cache empties it too
  }

  Ceilings ceilings() override {
    const int64_t bytes = 2 * cold_bytes();
    const Buffer from(*this, static_cast<size_t>(bytes));
    const Buffer to(*this, static_cast<size_t>(bytes));
    std::memset(from.get(), 1, from.bytes());
    std::atomic<uint64_t> sink = 0;
    const auto each = [&](auto body) { return median_of_nine([&] { nf4ref::parallel_for(bytes / 8, bytes, body); }); };
    const double write = each([&](int64_t begin, int64_t end) {
      std::memset(to.as<uint64_t>() + begin, 1, static_cast<size_t>(end - begin) * 8);
    });
    const double copy = each([&](int64_t begin, int64_t end) {
      std::memcpy(to.as<uint64_t>() + begin, from.as<uint64_t>() + begin, static_cast<size_t>(end - begin) * 8);
    });
    const double read = each([&](int64_t begin, int64_t end) {
      uint64_t sum = 0;
      for (int64_t i = begin; i < end; ++i) sum += from.as<uint64_t>()[i];
      sink += sum;
    });
    const auto total = static_cast<double>(bytes);
    return {total / read, total / write, 2 * total / copy};
  }

  void run(const Launch& launch) override { launch(0, nullptr); }

  std::vector<double> time(const Launch& launch, int launches, bool, const Pace& pace) override {
    const double once = seconds_of([&] { launch(0, nullptr); });
    if (once > pace.hopeless_seconds) return {once};
    const int replays = pace.replays(once);
    std::vector<double> seconds;
    for (int i = 0; i < replays; ++i) seconds.push_back(seconds_of([&] { launch(i % launches, nullptr); }));
    return seconds;
  }
};

}  // namespace

std::unique_ptr<Device> open_host_device() { return std::make_unique<HostDevice>(); }

}  // namespace nf4bench
