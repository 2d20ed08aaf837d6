// The tuning table: which variant and config to run for which problem, as data (docs/tuning.md).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "variant.hpp"

namespace nf4 {

struct Range {
  int64_t low = 0;
  int64_t high = INT64_MAX;

  bool contains(int64_t value) const { return low <= value && value <= high; }
};

struct TuningRow {
  std::string device;  // a device's name, "sm_90", "host", or "*"
  int capability;      // 90 if device is "sm_90", else -1
  Op op;
  std::optional<Dtype> dtype;  // none: any
  Range m, n, k;
  Range blocksize;
  const Variant* variant;
  int config;
  std::optional<double> microseconds;  // as measured when the row was made
  int line;                            // in the file, for explanations

  bool matches(const Problem& problem, const Device& on) const;
};

struct TuningTable {
  std::vector<TuningRow> rows;  // the first that matches and can run decides
};

// Reads a table, or fails with NF4_ERROR_PARSE or NF4_ERROR_UNKNOWN_VARIANT; `name` is what messages call it.
std::unique_ptr<TuningTable> parse_tuning(std::string_view text, std::string_view name);

std::string format_tuning(const TuningTable& table);

std::unique_ptr<TuningTable> read_tuning(const char* path);     // NF4_ERROR_IO too
void write_tuning(const TuningTable& table, const char* path);  // NF4_ERROR_IO
std::unique_ptr<TuningTable> builtin_tuning();

}  // namespace nf4
