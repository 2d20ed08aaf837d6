// The tuning table: which variant and config to run for which problem, as data (docs/guide/tuning.md).
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "variant.hpp"

namespace nf4 {

inline constexpr int kInputDtypes = 3;  // f32, f16 and bf16: the Dtypes that a problem can have

struct Range {
  int64_t low = 0;
  int64_t high = INT64_MAX;

  bool contains(int64_t value) const { return low <= value && value <= high; }
};

struct TuningRow {
  std::string device;                 // a device's name, "sm_90", "sm_80-89", "host", or "*"
  std::optional<Range> capabilities;  // those of "sm_..."
  Op op;
  std::optional<Dtype> dtype;  // none: any
  Range m, n, k;
  Range blocksize;
  Range experts;
  const Variant* variant;              // null: whichever plans to take the least, of all that plan
  std::optional<int> config;           // none: the variant plans it for each problem
  std::optional<double> microseconds;  // as measured when the row was made
  int line;                            // in the file, for explanations

  bool matches(const Device& on) const;
  bool matches(const Problem& problem) const;  // on a device that matches
};

struct TuningTable {
  std::vector<TuningRow> rows;  // the first that matches and can run decides
};

// What a call looks through: a table's rows for one device, in order, apart by operation, dtype, and the binary order
// of magnitude of m. So a call tries a dozen rows of a table of hundreds, most of which are for other devices or other
// m.
class TuningIndex {
 public:
  TuningIndex(std::unique_ptr<const TuningTable> table, const Device& device);

  const TuningTable& table() const { return *table_; }
  // Every row that matches `problem`, and others.
  std::span<const TuningRow* const> near(const Problem& problem) const {
    return rows_[static_cast<size_t>(problem.op)][static_cast<size_t>(problem.dtype)][magnitude(problem.m)];
  }

 private:
  static constexpr size_t kMagnitudes = 12;  // of m: 0, 1, 2-3, 4-7 and so on; the last is 1024 and more

  static size_t magnitude(int64_t m) {
    return std::min<size_t>(static_cast<size_t>(std::bit_width(static_cast<uint64_t>(m))), kMagnitudes - 1);
  }

  using Rows = std::array<std::vector<const TuningRow*>, kMagnitudes>;

  std::unique_ptr<const TuningTable> table_;
  std::array<std::array<Rows, kInputDtypes>, kOps> rows_;
};

// Reads a table, or fails with NF4_ERROR_PARSE or NF4_ERROR_UNKNOWN_VARIANT; `name` is what messages call it.
std::unique_ptr<TuningTable> parse_tuning(std::string_view text, std::string_view name);

std::string format_tuning(const TuningTable& table);

std::unique_ptr<TuningTable> read_tuning(const char* path);  // NF4_ERROR_IO too
std::unique_ptr<TuningTable> builtin_tuning();

}  // namespace nf4
