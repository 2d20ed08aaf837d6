#include "checkpoint/packing.hpp"

#include <fmt/ranges.h>

#include <algorithm>

#include "formatted.hpp"
#include "problem.hpp"
#include "report/units.hpp"

namespace nf4bench {
namespace {

constexpr size_t kNameWidth = 56;
constexpr size_t kShapeWidth = 20;

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
  return nf4::formatted("{}{}", packed, dtype_name(matrix.dtype));
}

std::string size_text(int64_t bytes) { return bytes > 0 ? bytes_text(bytes) : "-"; }

std::string error_text(const Distance& distance) {
  return distance.norm2 > 0 ? nf4::formatted("{:.5f}", distance.relative()) : "-";
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

std::string line_of(const std::string& name, size_t width, const std::string& form, const Packing& packing) {
  return nf4::formatted("{:<{}} {:>5} {:>11} {:>10} {:>10} {:>10} {:>6.2f}x {:>8} {:>8}\n", shortened(name), width,
                        nf4::formatted("x{}", packing.matrices), form, size_text(packing.before),
                        size_text(packing.plain), size_text(packing.nested),
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
  const std::string shape = nf4::formatted("{}", fmt::join(matrix.shape, " x "));
  const Line line{details_ ? without_numbers(matrix.name) + ", " + shape : shape, form_of(matrix), packing};
  const auto same = [&](const Line& other) { return other.name == line.name && other.form == line.form; };
  const auto found = std::find_if(lines_.begin(), lines_.end(), same);
  if (found == lines_.end()) {
    lines_.push_back(line);
  } else {
    found->packing.add(packing);
  }
}

std::string PackingTable::text() const {
  constexpr size_t kMostLines = 8;  // so that all that is told fits into a screen
  std::vector<Line> lines = lines_;
  const auto larger = [](const Line& a, const Line& b) { return a.packing.before > b.packing.before; };
  if (!details_) std::stable_sort(lines.begin(), lines.end(), larger);
  if (!details_ && lines.size() > kMostLines) {
    Line& rest = lines[kMostLines - 1];
    rest.name = nf4::formatted("{} others", lines.size() - kMostLines + 1);
    rest.form.clear();
    for (size_t i = kMostLines; i < lines.size(); ++i) rest.packing.add(lines[i].packing);
    lines.resize(kMostLines);
  }
  const size_t width = details_ ? kNameWidth : kShapeWidth;
  std::string out = nf4::formatted("{:<{}} {:>5} {:>11} {:>10} {:>10} {:>10} {:>7} {:>8} {:>8}\n", "matrices", width,
                                   "", "form", "before", "NF4", "nested", "smaller", "error", "nested");
  Packing all;
  all.matrices = 0;
  bool all_plain = true;
  bool all_nested = true;
  for (const Line& line : lines_) {
    all.add(line.packing);
    all_plain = all_plain && line.packing.plain > 0;
    all_nested = all_nested && line.packing.nested > 0;
  }
  if (!all_plain) all.plain = 0;  // sums of some would mislead
  if (!all_nested) all.nested = 0;
  for (const Line& line : lines) out += line_of(line.name, width, line.form, line.packing);
  return out + line_of("all", width, "", all);
}

}  // namespace nf4bench
