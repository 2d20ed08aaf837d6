// Matrices of more elements than 32 bits count: 2^31 - 1, 2^31 + 1 and 2^32 + 64, with values checked around the wraps.
#include "catch.hpp"

#if NF4_HAVE_CUDA

#include "support/operands.hpp"

namespace nf4test {
namespace {

// Device memory filled with a pattern whose period is prime, so that an index off by a power of two reads other values.
class Pattern {
 public:
  Pattern(size_t size, std::vector<uint8_t> period) : size_(size), period_(std::move(period)) {
    check_cuda(cudaMalloc(&data_, size));
    const size_t first = std::min(size, period_.size());
    check_cuda(cudaMemcpy(data_, period_.data(), first, cudaMemcpyHostToDevice));
    for (size_t filled = first; filled < size;) {  // whole periods double
      const size_t count = std::min(filled, size - filled);
      check_cuda(cudaMemcpy(data_ + filled, data_, count, cudaMemcpyDeviceToDevice));
      filled += count;
    }
  }
  ~Pattern() { cudaFree(data_); }
  Pattern(const Pattern&) = delete;
  Pattern& operator=(const Pattern&) = delete;

  uint8_t* device() const { return data_; }
  uint8_t byte(size_t i) const { return period_[i % period_.size()]; }
  template <class T>
  T value(size_t i) const {  // the period holds whole values
    T value;
    std::memcpy(&value, period_.data() + i * sizeof(T) % period_.size(), sizeof(T));
    return value;
  }

 private:
  size_t size_;
  std::vector<uint8_t> period_;
  uint8_t* data_ = nullptr;
};

constexpr size_t kPrime = 1000003;

template <class T>
T fetch(const T* device) {
  T value;
  check_cuda(cudaMemcpy(&value, device, sizeof value, cudaMemcpyDeviceToHost));
  return value;
}

bool enough_memory(size_t bytes) {
  size_t available = 0;
  size_t total = 0;
  check_cuda(cudaMemGetInfo(&available, &total));
  if (available < bytes) WARN("skipped: needs " << bytes << " bytes of GPU memory, " << available << " are free");
  return available >= bytes;
}

// Indices where a 31-bit or 32-bit count of elements, bytes of codes or bytes of output would wrap.
std::vector<int64_t> telling_indices(int64_t elements) {
  std::vector<int64_t> indices = {0, 1, elements - 1, elements - 2};
  for (int shift = 29; shift <= 32; ++shift) {
    for (int64_t i = (int64_t{1} << shift) - 70; i < (int64_t{1} << shift) + 70; ++i) {
      if (i < elements) indices.push_back(i);
    }
  }
  return indices;
}

}  // namespace

TEST_CASE("large: pack and unpack beyond 2^32 elements", "[gpu]") {
  REQUIRE_GPU();
  const Backend backend(0);
  std::mt19937 random(31);
  for (const int64_t elements : {(int64_t{1} << 31) - 1, (int64_t{1} << 31) + 1, (int64_t{1} << 32) + 64}) {
    if (!enough_memory(static_cast<size_t>(elements) * 6)) continue;
    INFO(elements << " elements");
    const auto size = static_cast<size_t>(elements);
    const auto blocks = static_cast<size_t>((elements + 63) / 64);
    const Pattern codes((size + 1) / 2, random_bytes(random, kPrime));
    const Pattern absmax(blocks * sizeof(float), raw(uniform(random, kPrime, 0.5f, 1.0f), NF4_F32));
    uint16_t* w = nullptr;
    uint8_t* packed = nullptr;
    float* packed_absmax = nullptr;
    check_cuda(cudaMalloc(&w, size * sizeof *w));
    check_cuda(cudaMalloc(&packed, (size + 1) / 2));
    check_cuda(cudaMalloc(&packed_absmax, blocks * sizeof(float)));
    nf4_weight_t weight = NF4_WEIGHT_INIT;
    weight.rows = 1;
    weight.cols = elements;
    weight.codes = codes.device();
    weight.absmax = absmax.device();
    for_each_config(backend, NF4_OP_UNPACK, [&](const nf4_variant_info_t&, const nf4_options_t& options) {
      check_cuda(cudaMemset(w, 0xff, size * sizeof *w));
      require_success(nf4_unpack(backend.handle(), w, elements, NF4_BF16, &weight, &options, nullptr));
      int wrong = 0;
      for (const int64_t i : telling_indices(elements)) {
        const uint8_t byte = codes.byte(static_cast<size_t>(i / 2));
        const int code = i % 2 == 0 ? byte >> 4 : byte & 15;
        const float expected = nf4ref::codebook(code) * absmax.value<float>(static_cast<size_t>(i / 64));
        wrong += fetch(w + i) != nf4ref::to_bf16(expected);
      }
      CHECK(wrong == 0);
    });
    // Packing what was unpacked gives the codes back wherever the block holds a -1 or 1, as nearly every one of 64
    // does.
    for_each_config(backend, NF4_OP_PACK, [&](const nf4_variant_info_t&, const nf4_options_t& options) {
      check_cuda(cudaMemset(packed, 0xff, (size + 1) / 2));
      require_success(
          nf4_pack(backend.handle(), packed, packed_absmax, w, elements, NF4_BF16, 1, elements, 64, &options, nullptr));
      int wrong = 0;
      int compared = 0;
      for (const int64_t i : telling_indices(elements - 1)) {
        const int64_t begin = i / 64 * 64;
        bool full = false;
        for (int64_t j = begin; j < std::min(begin + 64, elements); ++j) {
          const uint8_t byte = codes.byte(static_cast<size_t>(j / 2));
          const int code = j % 2 == 0 ? byte >> 4 : byte & 15;
          full |= code == 0 || code == 15;
        }
        if (!full) continue;
        ++compared;
        wrong += fetch(packed + i / 2) != codes.byte(static_cast<size_t>(i / 2));
      }
      CHECK(compared > 300);
      CHECK(wrong == 0);
    });
    check_cuda(cudaFree(w));
    check_cuda(cudaFree(packed));
    check_cuda(cudaFree(packed_absmax));
  }
}

TEST_CASE("large: products beyond 2^32 weights", "[gpu]") {
  REQUIRE_GPU();
  const Backend backend(0);
  std::mt19937 random(37);
  constexpr int64_t kCols = 8192;
  constexpr int64_t kRows = (int64_t{1} << 32) / kCols + 5;
  if (!enough_memory(static_cast<size_t>(kRows * kCols))) return;
  const Pattern codes(static_cast<size_t>(kRows * kCols / 2), random_bytes(random, kPrime));
  const Pattern absmax(static_cast<size_t>(kRows * kCols / 64) * sizeof(float),
                       raw(uniform(random, kPrime, 0.5f, 1.0f), NF4_F32));
  constexpr int64_t kM = 3;
  const std::vector<uint8_t> x = raw(uniform(random, kM * kCols, -1.0f, 1.0f), NF4_BF16);
  void* device_x = nullptr;
  uint16_t* y = nullptr;
  check_cuda(cudaMalloc(&device_x, x.size()));
  check_cuda(cudaMemcpy(device_x, x.data(), x.size(), cudaMemcpyHostToDevice));
  check_cuda(cudaMalloc(&y, kM * kRows * sizeof *y));
  nf4_weight_t weight = NF4_WEIGHT_INIT;
  weight.rows = kRows;
  weight.cols = kCols;
  weight.codes = codes.device();
  weight.absmax = absmax.device();
  for_each_config(backend, NF4_OP_GEMM, [&](const nf4_variant_info_t& info, nf4_options_t options) {
    const int64_t m = std::string(info.name).rfind("gemv.", 0) == 0 ? 1 : kM;
    nf4_problem_t problem = NF4_PROBLEM_INIT;
    problem.m = m;
    problem.n = kRows;
    problem.k = kCols;
    const size_t needed = workspace_needed(backend, problem, options);
    if (needed > 0 && !enough_memory(needed)) return;
    const Scratch workspace(needed);
    options.workspace = workspace.get();
    options.workspace_size = workspace.size();
    check_cuda(cudaMemset(y, 0xff, kM * kRows * sizeof *y));
    require_success(
        nf4_gemm(backend.handle(), y, kRows, device_x, kCols, m, NF4_BF16, &weight, nullptr, &options, nullptr));
    nf4ref::Verdict verdict(NF4_BF16, nf4ref::accuracy_g(info.accuracy, NF4_BF16, kCols));
    for (const int64_t around : {int64_t{0}, kRows / 8, kRows / 4, kRows / 2, kRows - 3}) {
      for (int64_t n = std::max<int64_t>(0, around - 2); n < std::min(around + 3, kRows); ++n) {
        for (int64_t i = 0; i < m; ++i) {
          nf4ref::Reference reference;
          for (int64_t k = 0; k < kCols; ++k) {
            const auto e = static_cast<size_t>(n * kCols + k);
            const int code = e % 2 == 0 ? codes.byte(e / 2) >> 4 : codes.byte(e / 2) & 15;
            reference.add(double{nf4ref::codebook(code)} * double{absmax.value<float>(e / 64)} *
                          double{nf4ref::load(x.data(), NF4_BF16, i * kCols + k)});
          }
          verdict.add(double{nf4ref::from_bf16(fetch(y + i * kRows + n))}, reference);
        }
      }
    }
    INFO(verdict.first_violation());
    CHECK(verdict.violations() == 0);
  });
  check_cuda(cudaFree(device_x));
  check_cuda(cudaFree(y));
}

}  // namespace nf4test

#endif
