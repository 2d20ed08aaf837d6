// All operands of one call side by side in one piece of memory, on the host or on the GPU, with canaries between them.
// After the call every byte that is not an output must be what it was.
//
// compute-sanitizer knows allocations, not operands. For it NF4_TEST_MEMORY=apart gives each operand on the GPU an
// allocation of its own, so that memcheck sees an access beside one, and NF4_TEST_MEMORY=unwritten also leaves outputs
// as they were allocated, so that initcheck sees a read of one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "nf4/nf4.h"

#if NF4_HAVE_CUDA
#include <cuda_runtime.h>
#endif

#include "catch.hpp"

namespace nf4test {

#if NF4_HAVE_CUDA
inline void check_cuda(cudaError_t error) {
  INFO(cudaGetErrorString(error));
  REQUIRE(error == cudaSuccess);
}
#endif

// A handle, on device NF4_HOST_DEVICE or 0.
class Backend {
 public:
  explicit Backend(int32_t device) : device_(device) {
    const nf4_status_t status = nf4_create(&handle_, device);
    INFO(nf4_last_error_message());
    REQUIRE(status == NF4_SUCCESS);
  }
  ~Backend() { nf4_destroy(handle_); }
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;

  nf4_handle_t handle() const { return handle_; }
  bool on_host() const { return device_ == NF4_HOST_DEVICE; }

 private:
  int32_t device_;
  nf4_handle_t handle_ = nullptr;
};

// The test "NAME, CUDA", tagged [gpu] and `tags`: the statement in the last argument, of a Backend named `backend`.
#define NF4_ON_CUDA(name, tags, ...)       \
  TEST_CASE(name ", CUDA", "[gpu]" tags) { \
    REQUIRE_GPU();                         \
    const ::nf4test::Backend backend(0);   \
    __VA_ARGS__;                           \
  }

// The same after the test "NAME, host", which has no tags.
#define NF4_ON_BOTH(name, tags, ...)                   \
  TEST_CASE(name ", host") {                           \
    const ::nf4test::Backend backend(NF4_HOST_DEVICE); \
    __VA_ARGS__;                                       \
  }                                                    \
  NF4_ON_CUDA(name, tags, __VA_ARGS__)

// Device memory for a workspace. Its bytes are 0xff: NaN in every floating-point type.
class Scratch {
 public:
  explicit Scratch(size_t size) : size_(size) {
#if NF4_HAVE_CUDA
    if (size == 0) return;
    check_cuda(cudaMalloc(&memory_, size));
    check_cuda(cudaMemset(memory_, 0xff, size));
#endif
  }
  ~Scratch() {
#if NF4_HAVE_CUDA
    cudaFree(memory_);
#endif
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  void* get() const { return memory_; }
  size_t size() const { return size_; }

  // Whether nothing was written from byte `offset` on.
  bool untouched_from(size_t offset) const {
    std::vector<uint8_t> bytes(size_ - offset);
#if NF4_HAVE_CUDA
    check_cuda(cudaMemcpy(bytes.data(), static_cast<uint8_t*>(memory_) + offset, bytes.size(), cudaMemcpyDeviceToHost));
#endif
    return std::all_of(bytes.begin(), bytes.end(), [](uint8_t byte) { return byte == 0xff; });
  }

 private:
  size_t size_;
  void* memory_ = nullptr;
};

class Arena {
 public:
  // Where an operand lies. A null operand has no place.
  struct Slot {
    size_t offset = 0;
    size_t size = 0;
    size_t skew = 0;
    size_t number = 0;  // among the arena's operands
    bool null = true;
  };

  explicit Arena(bool on_host) : on_host_(on_host), placement_(on_host ? Placement::together : placement()) {}
  ~Arena() { free_device(); }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Adds an input. It begins `skew` bytes after a multiple of 256.
  template <class T>
  Slot add(const std::vector<T>& values, size_t skew = 0) {
    const Slot slot = reserve(values.size() * sizeof(T), skew);
    if (!values.empty()) std::memcpy(image_.data() + slot.offset, values.data(), slot.size);
    return slot;
  }

  // Adds an output, filled with 0xff: NaN in every floating-point type.
  Slot add_output(size_t size, size_t skew = 0) {
    const Slot slot = reserve(size, skew);
    std::memset(image_.data() + slot.offset, 0xff, slot.size);
    operands_.back().output = true;
    return slot;
  }

  // Moves everything to the memory that the call will see.
  void upload() {
    reserve(0, 0);  // a canary after the last operand
    result_ = image_;
    if (on_host_) {
      // 256 bytes more than needed, to align the base as the GPU's allocator does.
      host_.resize(image_.size() + 256);
      base_ = host_.data() + (256 - reinterpret_cast<uintptr_t>(host_.data()) % 256) % 256;
      std::memcpy(base_, image_.data(), image_.size());
    } else {
#if NF4_HAVE_CUDA
      free_device();
      if (placement_ == Placement::together) {
        check_cuda(cudaMalloc(&base_, image_.size()));
        check_cuda(cudaMemcpy(base_, image_.data(), image_.size(), cudaMemcpyHostToDevice));
        settle();
        return;
      }
      for (Operand& operand : operands_) {
        const Slot& slot = operand.slot;
        if (slot.size == 0) continue;
        check_cuda(cudaMalloc(&operand.base, slot.skew + slot.size));
        if (operand.output && placement_ == Placement::unwritten) continue;
        check_cuda(cudaMemcpy(at(slot), image_.data() + slot.offset, slot.size, cudaMemcpyHostToDevice));
      }
      settle();
#endif
    }
  }

  // Fetches everything back once the call is done.
  void download() {
    if (placement_ == Placement::together) {
      fetch(result_.data(), base_, result_.size());
    } else {
      for (const Operand& operand : operands_) download(operand.slot);
    }
  }

  // Fetches one operand back.
  void download(const Slot& slot) { fetch(result_.data() + slot.offset, at(slot), slot.size); }

  // Fills an output with 0xff again.
  void poison(const Slot& slot) {
    if (on_host_) {
      std::memset(at(slot), 0xff, slot.size);
    } else {
#if NF4_HAVE_CUDA
      check_cuda(cudaMemset(at(slot), 0xff, slot.size));
      settle();
#endif
    }
  }

  // The operand where the call sees it.
  template <class T = void>
  T* at(const Slot& slot) const {
    if (slot.null) return nullptr;
    if (placement_ == Placement::together) return reinterpret_cast<T*>(static_cast<std::byte*>(base_) + slot.offset);
    void* const base = operands_[slot.number].base;  // null if it is empty
    return base != nullptr ? reinterpret_cast<T*>(static_cast<std::byte*>(base) + slot.skew) : nullptr;
  }

  // The operand as uploaded, and as downloaded; in host memory.
  template <class T = void>
  const T* before(const Slot& slot) const {
    return slot.null ? nullptr : reinterpret_cast<const T*>(image_.data() + slot.offset);
  }
  template <class T = void>
  const T* after(const Slot& slot) const {
    return slot.null ? nullptr : reinterpret_cast<const T*>(result_.data() + slot.offset);
  }

  // "" if nothing but the outputs changed, else which byte did.
  std::string trespass(const std::vector<Slot>& outputs) const {
    std::vector<std::byte> expected = image_;
    for (const Slot& slot : outputs) {
      if (slot.size > 0) std::memcpy(expected.data() + slot.offset, result_.data() + slot.offset, slot.size);
    }
    for (size_t i = 0; i < expected.size(); ++i) {
      if (expected[i] != result_[i]) return "byte " + std::to_string(i) + " of the arena was written";
    }
    return "";
  }

 private:
  static constexpr size_t kCanary = 256;

  enum class Placement { together, apart, unwritten };

  static Placement placement() {
    const char* value = std::getenv("NF4_TEST_MEMORY");
    const std::string text = value != nullptr ? value : "";
    if (text.empty()) return Placement::together;
    if (text == "apart") return Placement::apart;
    if (text == "unwritten") return Placement::unwritten;
    throw std::runtime_error("NF4_TEST_MEMORY is '" + text + "'; expected apart or unwritten");
  }

  struct Operand {
    Slot slot;
    bool output = false;
    void* base = nullptr;  // of its own allocation, where operands lie apart
  };

  Slot reserve(size_t size, size_t skew) {
    const size_t offset = (image_.size() + kCanary + 255) / 256 * 256 + skew;
    image_.resize(offset + size, std::byte{0xa5});
    const Slot slot{offset, size, skew, operands_.size(), false};
    operands_.push_back({slot, false, nullptr});
    return slot;
  }

#if NF4_HAVE_CUDA
  // Copies and fills may still be under way when CUDA returns; a call on a stream of its own would not wait for them.
  static void settle() { check_cuda(cudaDeviceSynchronize()); }
#endif

  void fetch(std::byte* to, const void* from, size_t size) {
    if (size == 0) return;
    if (on_host_) {
      std::memcpy(to, from, size);
    } else {
#if NF4_HAVE_CUDA
      check_cuda(cudaDeviceSynchronize());
      check_cuda(cudaMemcpy(to, from, size, cudaMemcpyDeviceToHost));
#endif
    }
  }

  void free_device() {
#if NF4_HAVE_CUDA
    if (on_host_) return;
    cudaFree(base_);
    base_ = nullptr;
    for (Operand& operand : operands_) {
      cudaFree(operand.base);
      operand.base = nullptr;
    }
#endif
  }

  bool on_host_;
  Placement placement_;
  std::vector<Operand> operands_;
  std::vector<std::byte> image_;
  std::vector<std::byte> result_;
  std::vector<std::byte> host_;
  void* base_ = nullptr;
};

}  // namespace nf4test
