#include "tuning.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <memory>
#include <vector>

#include "check.hpp"
#include "file.hpp"
#include "registry.hpp"
#include "text/formatted.hpp"
#include "tuning_builtin.hpp"

namespace nf4 {
namespace {

constexpr std::string_view kHeader = "nf4-tuning 1";
constexpr std::string_view kColumns = "# device,op,dtype,m,n,k,blocksize,variant,config,microseconds";
constexpr size_t kFields = 10;              // a row may have one more: experts
constexpr std::string_view kPlan = "plan";  // in place of a config
constexpr size_t kMaxFileSize = size_t{16} << 20;

// One line of a table, with what its messages need.
struct Line {
  std::string_view table;
  int number;

  template <class... Args>
  [[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) const {
    nf4::fail(NF4_ERROR_PARSE, "{}, line {}: {}", table, number, formatted(format, std::forward<Args>(args)...));
  }
};

// A field as messages show it: short, and without bytes that a terminal would act on.
std::string shown(std::string_view field) {
  std::string text(field.substr(0, 60));
  for (char& c : text) {
    if (std::isprint(static_cast<unsigned char>(c)) == 0) c = '?';
  }
  return text;
}

template <class Number>
std::optional<Number> parse_number(std::string_view text) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// "8", "2-16" or "257-"; nothing where it is none of these.
std::optional<Range> parse_bounds(std::string_view text) {
  const size_t dash = text.find('-', 1);
  const bool open = dash == text.size() - 1;
  const auto low = parse_number<int64_t>(text.substr(0, dash));
  const auto high = dash == std::string_view::npos ? low
                    : open                         ? std::optional{INT64_MAX}
                                                   : parse_number<int64_t>(text.substr(dash + 1));
  if (!low || !high || *low < 0 || *high < *low) return std::nullopt;
  return Range{*low, *high};
}

// "*" or bounds.
Range parse_range(const Line& line, const char* column, std::string_view text) {
  if (text == "*") return {};
  if (const auto range = parse_bounds(text)) return *range;
  line.fail("{} is '{}'; expected *, a number, low-high, or low-", column, shown(text));
}

std::string format_range(const Range& range) {
  if (range.low == range.high) return formatted("{}", range.low);
  if (range.high == INT64_MAX) return range.low == 0 ? "*" : formatted("{}-", range.low);
  return formatted("{}-{}", range.low, range.high);
}

// The enumerator, counted from 0, whose name is `text`.
template <class Enum>
std::optional<Enum> parse_name(std::string_view text, int count) {
  for (int i = 0; i < count; ++i) {
    if (text == name_of(static_cast<Enum>(i))) return static_cast<Enum>(i);
  }
  return std::nullopt;
}

std::vector<std::string_view> split(std::string_view text) {
  std::vector<std::string_view> fields;
  for (size_t comma = 0; comma != std::string_view::npos;) {
    comma = text.find(',');
    fields.push_back(text.substr(0, comma));
    text.remove_prefix(comma == std::string_view::npos ? text.size() : comma + 1);
  }
  return fields;
}

TuningRow parse_row(const Line& line, std::string_view text) {
  const std::vector<std::string_view> found = split(text);
  if (found.size() != kFields && found.size() != kFields + 1) {
    line.fail("expected {} fields: {}; or one more, experts", kFields, kColumns.substr(2));
  }
  std::array<std::string_view, kFields + 1> fields;
  fields.back() = "*";
  std::copy(found.begin(), found.end(), fields.begin());
  const auto& [device, op, dtype, m, n, k, blocksize, variant, config, microseconds, experts] = fields;

  TuningRow row{};
  row.line = line.number;
  row.device = device;
  if (device.empty()) line.fail("device is empty; expected a name, sm_NN, host or *");
  if (device.starts_with("sm_")) {
    row.capabilities = parse_bounds(device.substr(3));
    if (!row.capabilities || row.capabilities->low == 0) {
      line.fail("device is '{}'; expected sm_ and a number or a range, sm_90 or sm_80-89 for example", shown(device));
    }
  }
  if (const auto parsed = parse_name<Op>(op, kOps)) {
    row.op = *parsed;
  } else {
    line.fail(
        "op is '{}'; expected pack, unpack, gemm, pack_absmax, unpack_absmax, gemm_experts, sort_experts or "
        "gemm_transposed",
        shown(op));
  }
  if (dtype != "*") {
    row.dtype = parse_name<Dtype>(dtype, kInputDtypes);
    if (!row.dtype) line.fail("dtype is '{}'; expected f32, f16, bf16 or *", shown(dtype));
  }
  row.m = parse_range(line, "m", m);
  row.n = parse_range(line, "n", n);
  row.k = parse_range(line, "k", k);
  row.blocksize = parse_range(line, "blocksize", blocksize);
  row.experts = parse_range(line, "experts", experts);
  if (variant == "*") {
    if (config != kPlan) line.fail("config is '{}', and variant *; only 'plan' goes with it", shown(config));
  } else if ((row.variant = find_variant(variant)) == nullptr) {
    nf4::fail(NF4_ERROR_UNKNOWN_VARIANT, "{}, line {}: variant is '{}'; there are {}", line.table, line.number,
              shown(variant), variant_names());
  }
  if (row.variant != nullptr && row.variant->op != row.op) line.fail("{} is no variant of {}", variant, op);
  if (config != kPlan) {
    row.config = find_config(*row.variant, config);
    if (*row.config < 0) {
      line.fail("config is '{}', which {} has not; its first is '{}'", shown(config), variant,
                row.variant->config_text(0));
    }
  } else if (row.variant != nullptr && row.variant->plan == nullptr) {
    line.fail("config is 'plan', and {} has no plan; its first config is '{}'", variant, row.variant->config_text(0));
  }
  if (!microseconds.empty()) {
    row.microseconds = parse_number<double>(microseconds);
    if (!row.microseconds || !(*row.microseconds > 0) || *row.microseconds > 1e12) {
      line.fail("microseconds is '{}'; expected a positive number or nothing", shown(microseconds));
    }
  }
  return row;
}

}  // namespace

bool TuningRow::matches(const Device& on) const {
  if (capabilities) return capabilities->contains(on.compute_capability);
  return device == "*" || device == on.name;
}

bool TuningRow::matches(const Problem& problem) const {
  return m.contains(problem.m) && n.contains(problem.n) && k.contains(problem.k) &&
         blocksize.contains(problem.blocksize) && experts.contains(problem.experts) && op == problem.op &&
         (!dtype || *dtype == problem.dtype);
}

TuningIndex::TuningIndex(std::unique_ptr<const TuningTable> table, const Device& device) : table_(std::move(table)) {
  for (const TuningRow& row : table_->rows) {
    if (!row.matches(device)) continue;
    auto& of_op = rows_[static_cast<size_t>(row.op)];
    for (size_t dtype = 0; dtype < of_op.size(); ++dtype) {
      if (row.dtype && *row.dtype != static_cast<Dtype>(dtype)) continue;
      for (size_t i = magnitude(row.m.low); i <= magnitude(row.m.high); ++i) of_op[dtype][i].push_back(&row);
    }
  }
}

std::unique_ptr<TuningTable> parse_tuning(std::string_view text, std::string_view name) {
  auto table = std::make_unique<TuningTable>();
  for (int number = 1; number == 1 || !text.empty(); ++number) {
    const Line line{name, number};
    const size_t newline = std::min(text.find('\n'), text.size());
    std::string_view content = text.substr(0, newline);
    text.remove_prefix(std::min(newline + 1, text.size()));
    if (!content.empty() && content.back() == '\r') content.remove_suffix(1);
    if (number == 1) {
      // What such a file holds is nobody's business: it may be anything, and messages end up in logs.
      if (content != kHeader) line.fail("it is not '{}', so this is no tuning table", kHeader);
    } else if (!content.empty() && content.front() != '#') {
      table->rows.push_back(parse_row(line, content));
    }
  }
  return table;
}

std::string format_tuning(const TuningTable& table) {
  std::string text = formatted("{}\n{}\n", kHeader, kColumns);
  for (const TuningRow& row : table.rows) {
    const std::string experts = format_range(row.experts);
    text +=
        formatted("{},{},{},{},{},{},{},{},{},{}{}\n", row.device, name_of(row.op),
                  row.dtype ? name_of(*row.dtype) : "*", format_range(row.m), format_range(row.n), format_range(row.k),
                  format_range(row.blocksize), row.variant != nullptr ? row.variant->name : "*",
                  row.config ? row.variant->config_text(*row.config) : std::string(kPlan),
                  row.microseconds ? formatted("{}", *row.microseconds) : "", experts == "*" ? "" : "," + experts);
  }
  return text;
}

std::unique_ptr<TuningTable> read_tuning(const char* path) { return parse_tuning(read_file(path, kMaxFileSize), path); }

std::unique_ptr<TuningTable> builtin_tuning() { return parse_tuning(kBuiltinTuning, "built-in tuning table"); }

}  // namespace nf4

using namespace nf4;

extern "C" {

nf4_status_t nf4_tuning_load(nf4_handle_t handle, const char* path) {
  return guarded([&] {
    check_handle(handle);
    check_not_null("path", path);
    handle->set_tuning(read_tuning(path));
  });
}

nf4_status_t nf4_tuning_save(nf4_handle_t handle, const char* path) {
  return guarded([&] {
    check_handle(handle);
    check_not_null("path", path);
    replace_file(path, format_tuning(handle->tuning()->table()));
  });
}

nf4_status_t nf4_tuning_reset(nf4_handle_t handle) {
  return guarded([&] {
    check_handle(handle);
    handle->set_tuning(builtin_tuning());
  });
}

}  // extern "C"
