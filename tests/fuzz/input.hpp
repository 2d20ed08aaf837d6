// What a fuzzer's bytes are turned into: values, memory of exactly the size that a call may touch, and checks.
#pragma once

#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "nf4/nf4.h"

// Ends the run, as a finding, if `condition` does not hold.
#define FUZZ_CHECK(condition) ((condition) ? void() : ::nf4fuzz::finding(__FILE__, __LINE__, #condition))

namespace nf4fuzz {

[[noreturn]] inline void finding(const char* file, int line, const char* condition) {
  std::fprintf(stderr, "%s:%d: %s does not hold; last error: %s\n", file, line, condition, nf4_last_error_message());
  std::abort();
}

using Wide = __int128;  // in which no product of two sizes overflows

constexpr int64_t kMaxElements = int64_t{1} << 60;  // that nf4.h takes

class Input {
 public:
  Input(const uint8_t* data, size_t size) : provider_(data, size) {}

  // True in about one of `of` cases, and never once the bytes have run out.
  bool rarely(int of) { return provider_.ConsumeIntegralInRange(0, of - 1) == of - 1; }

  template <class T, size_t Size>
  T pick(const T (&values)[Size]) {
    return provider_.PickValueInArray(values);
  }

  // Small as a rule, else anything.
  int64_t extent() {
    constexpr int64_t kEdges[] = {
        -1, INT64_MIN, INT64_MAX, kMaxElements, kMaxElements + 1, int64_t{1} << 31, 1LL << 32, int64_t{1} << 30};
    if (rarely(16)) return rarely(2) ? provider_.ConsumeIntegral<int64_t>() : pick(kEdges);
    return provider_.ConsumeIntegralInRange<int64_t>(0, 70);
  }

  // A leading dimension for rows of `cols`.
  int64_t leading(int64_t cols) {
    if (rarely(16)) return extent();
    return cols < kMaxElements ? cols + provider_.ConsumeIntegralInRange<int64_t>(0, 9) : cols;
  }

  int32_t blocksize() {
    constexpr int32_t kBlocksizes[] = {64, 32, 128, 256, 512, 1024, 2048, 4096};
    return rarely(16) ? provider_.ConsumeIntegral<int32_t>() : pick(kBlocksizes);
  }

  // 0 to `last`, or rarely anything.
  int32_t enumerator(int32_t last) {
    return rarely(16) ? provider_.ConsumeIntegral<int32_t>() : provider_.ConsumeIntegralInRange(0, last);
  }

  size_t struct_size(size_t size) { return rarely(32) ? provider_.ConsumeIntegral<size_t>() : size; }
  size_t size(size_t most) { return provider_.ConsumeIntegralInRange<size_t>(0, most); }
  uint8_t byte() { return provider_.ConsumeIntegral<uint8_t>(); }
  std::string text(size_t most) { return provider_.ConsumeRandomLengthString(most); }
  std::string rest() { return provider_.ConsumeRemainingBytesAsString(); }

 private:
  FuzzedDataProvider provider_;
};

inline size_t size_of(nf4_dtype_t dtype) { return dtype == NF4_F32 ? 4 : dtype == NF4_U8 ? 1 : 2; }

inline bool is_blocksize(int32_t size) { return size >= 32 && size <= 4096 && (size & (size - 1)) == 0; }

inline bool is_float(nf4_dtype_t dtype) { return dtype == NF4_F32 || dtype == NF4_F16 || dtype == NF4_BF16; }

// rows and cols as nf4.h takes them.
inline bool is_matrix(int64_t rows, int64_t cols) {
  return rows >= 0 && cols >= 0 && Wide{rows} * cols <= kMaxElements;
}
inline bool is_leading(int64_t leading, int64_t cols, int64_t rows) {
  return leading >= cols && Wide{rows} * leading <= kMaxElements;
}

inline Wide ceil_div(Wide a, Wide b) { return b > 0 ? (a + b - 1) / b : 0; }

// Memory for an operand. It ends where the operand ends, so that AddressSanitizer sees an access to the byte beyond. An
// operand that a fuzzer cannot afford has none, and so the call must be refused. Rarely the pointer is null, or one
// byte off.
class Operand {
 public:
  Operand(Input& input, Wide elements, size_t element, bool output = false) : element_(element), output_(output) {
    constexpr Wide kAffordable = 1 << 16;
    needed_ = elements > 0;
    if (needed_ && elements * static_cast<Wide>(element) > kAffordable) return;
    if (input.rarely(32)) return;
    const size_t skew = input.rarely(32) ? 1 : 0;
    size_ = needed_ ? static_cast<size_t>(elements) * element : 0;
    block_ = std::make_unique<uint8_t[]>(skew + size_);
    data_ = block_.get() + skew;
    if (output) {
      std::memset(data_, kPoison, size_);
    } else if (size_ > 0) {
      const uint8_t seed = input.byte();
      const uint8_t step = input.byte();
      for (size_t i = 0; i < size_; ++i) data_[i] = static_cast<uint8_t>(seed + i * step + i / 7);
    }
  }

  template <class T>
  T* get() const {
    return reinterpret_cast<T*>(data_);
  }

  // Whether a call may be given it.
  bool valid() const { return !(needed_ && data_ == nullptr) && reinterpret_cast<uintptr_t>(data_) % element_ == 0; }

  // Whether an output is as it was.
  bool untouched() const {
    return !output_ || std::all_of(data_, data_ + size_, [](uint8_t byte) { return byte == kPoison; });
  }

 private:
  static constexpr uint8_t kPoison = 0xa5;

  std::unique_ptr<uint8_t[]> block_;
  uint8_t* data_ = nullptr;
  size_t size_ = 0;
  size_t element_;
  bool output_;
  bool needed_;
};

// A call succeeds if and only if its arguments are valid, and fails with a status and a message.
inline void check_status(nf4_status_t status, bool valid) {
  FUZZ_CHECK((status == NF4_SUCCESS) == valid);
  FUZZ_CHECK(status >= NF4_SUCCESS && status < NF4_ERROR_INTERNAL);
  FUZZ_CHECK(status == NF4_SUCCESS || nf4_last_error_message()[0] != '\0');
}

// A handle of the host backend, made once.
inline nf4_handle_t host_handle() {
  static const nf4_handle_t handle = [] {
    nf4_handle_t made = nullptr;
    FUZZ_CHECK(nf4_create(&made, NF4_HOST_DEVICE) == NF4_SUCCESS);
    return made;
  }();
  return handle;
}

}  // namespace nf4fuzz
