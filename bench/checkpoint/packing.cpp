#include "checkpoint/packing.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "problem.hpp"

namespace nf4bench {
namespace {

constexpr size_t kNameWidth = 56;

std::string without_numbers(const std::string& name) {
  std::string out;
  for (const char c : name) {
    const bool digit = c >= '0' && c <= '9';
    if (!digit) out += c;
    if (digit && !out.ends_with('*')) out += '*';
  }
  return out;
}

// "f32", or what it is packed as: "nf4 f32", "nested f32".
std::string form_of(const Matrix& matrix) {
  const char* const packed = !matrix.packed ? "" : matrix.packed->nested ? "nested " : "nf4 ";
  return fmt::format("{}{}", packed, dtype_name(matrix.dtype));
}

std::string bytes_text(int64_t bytes) { return bytes > 0 ? std::to_string(bytes) : "-"; }

std::string error_text(const Distance& distance) {
  return distance.norm2 > 0 ? fmt::format("{:.5f}", distance.relative()) : "-";
}

// The end of a long name tells most.
std::string shortened(const std::string& name) {
  const std::string text = printable(name);
  if (text.size() <= kNameWidth) return text;
  const auto inside_character = [&](size_t i) { return (static_cast<unsigned char>(text[i]) & 0xc0) == 0x80; };
  size_t begin = text.size() - kNameWidth + 3;
  while (begin < text.size() && inside_character(begin)) ++begin;
  return "..." + text.substr(begin);
}

std::string line_of(const std::string& name, const std::string& shape, const std::string& form,
                    const Packing& packing) {
  return fmt::format("{:<{}} {:>5} {:>14} {:>11} {:>13} {:>13} {:>13} {:>6.2f}x {:>9} {:>9}\n", shortened(name),
                     kNameWidth, fmt::format("x{}", packing.matrices), shape, form, packing.before,
                     bytes_text(packing.plain), bytes_text(packing.nested),
                     static_cast<double>(packing.before) / static_cast<double>(packing.after),
                     error_text(packing.error), error_text(packing.error_nested));
}

}  // namespace

void Packing::add(const Packing& other) {
  matrices += other.matrices;
  before += other.before;
  after += other.after;
  plain += other.plain;
  nested += other.nested;
  error.add(other.error);
  error_nested.add(other.error_nested);
}

void PackingTable::add(const Matrix& matrix, const Packing& packing) {
  const Line line{without_numbers(matrix.name), matrix.name, fmt::format("{}", fmt::join(matrix.shape, "x")),
                  form_of(matrix), packing};
  const auto same = [&](const Line& other) {
    return other.kind == line.kind && other.shape == line.shape && other.form == line.form;
  };
  const auto found = std::find_if(lines_.begin(), lines_.end(), same);
  if (found == lines_.end()) {
    lines_.push_back(line);
  } else {
    found->packing.add(packing);
  }
}

std::string PackingTable::text() const {
  std::string out =
      fmt::format("\n{:<{}} {:>5} {:>14} {:>11} {:>13} {:>13} {:>13} {:>7} {:>9} {:>9}\n", "matrices", kNameWidth, "",
                  "shape", "form", "bytes", "nf4", "nested", "smaller", "error", "nested");
  Packing all;
  all.matrices = 0;
  bool all_plain = true;
  bool all_nested = true;
  for (const Line& line : lines_) {
    out += line_of(line.packing.matrices == 1 ? line.name : line.kind, line.shape, line.form, line.packing);
    all.add(line.packing);
    all_plain = all_plain && line.packing.plain > 0;
    all_nested = all_nested && line.packing.nested > 0;
  }
  if (!all_plain) all.plain = 0;  // sums of some would mislead
  if (!all_nested) all.nested = 0;
  return out + line_of("all", "", "", all);
}

}  // namespace nf4bench
