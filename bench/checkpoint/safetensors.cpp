#include "checkpoint/safetensors.hpp"

#include <fmt/format.h>

#include <array>
#include <limits>
#include <stdexcept>

namespace nf4bench {
namespace {

constexpr uint64_t kLongestHeader = 100'000'000;  // the format's own limit

struct DtypeSize {
  std::string_view name;
  uint64_t bytes;
};
constexpr DtypeSize kDtypes[] = {{"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E4M3", 1}, {"F8_E5M2", 1},
                                 {"U16", 2},  {"I16", 2}, {"F16", 2}, {"BF16", 2},    {"U32", 4},
                                 {"I32", 4},  {"F32", 4}, {"U64", 8}, {"I64", 8},     {"F64", 8}};

// Walks over the JSON that such headers are made of: objects, arrays, strings and integers. No value nests deeper than
// the format says, so nothing here recurses.
class Cursor {
 public:
  explicit Cursor(std::string_view text) : text_(text) {}

  [[noreturn]] void fail(const std::string& what) const {
    throw std::runtime_error(fmt::format("safetensors header, byte {}: {}", position_, what));
  }

  void expect(char wanted) {
    if (!accept(wanted)) fail(fmt::format("expected '{}'", wanted));
  }

  bool accept(char wanted) {
    skip_space();
    if (position_ == text_.size() || text_[position_] != wanted) return false;
    ++position_;
    return true;
  }

  void expect_end() {
    skip_space();
    if (position_ != text_.size()) fail("text after the end of the object");
  }

  std::string string() {
    expect('"');
    std::string out;
    while (true) {
      const char c = next();
      if (c == '"') return out;
      if (static_cast<unsigned char>(c) < 0x20) fail("control character in a string");
      if (c == '\\') {
        append_escape(out);
      } else {
        out += c;
      }
    }
  }

  uint64_t integer() {
    skip_space();
    constexpr uint64_t kMost = std::numeric_limits<int64_t>::max();
    const size_t start = position_;
    uint64_t value = 0;
    while (position_ < text_.size() && text_[position_] >= '0' && text_[position_] <= '9') {
      const auto digit = static_cast<uint64_t>(text_[position_] - '0');
      if (value > (kMost - digit) / 10) fail("number too large");
      value = value * 10 + digit;
      ++position_;
    }
    if (position_ == start) fail("expected a number of 0 or more");
    return value;
  }

  // Calls item() for each item up to `close`, which follows an opening bracket that was read.
  template <typename Item>
  void items(char close, const Item& item) {
    if (accept(close)) return;
    do item();
    while (accept(','));
    expect(close);
  }

 private:
  void skip_space() {
    while (position_ < text_.size() && std::string_view(" \t\r\n").find(text_[position_]) != std::string_view::npos) {
      ++position_;
    }
  }

  char next() {
    if (position_ == text_.size()) fail("the text ends here");
    return text_[position_++];
  }

  void append_escape(std::string& out) {
    const char c = next();
    constexpr std::string_view kEscapes = "\"\\/bfnrt";
    constexpr std::string_view kMeanings = "\"\\/\b\f\n\r\t";
    if (const size_t i = kEscapes.find(c); i != std::string_view::npos) {
      out += kMeanings[i];
    } else if (c == 'u') {
      append_utf8(out, hex4());
    } else {
      fail("unknown escape");
    }
  }

  unsigned hex4() {
    unsigned value = 0;
    for (int i = 0; i < 4; ++i) {
      const size_t digit = std::string_view("0123456789abcdef").find(static_cast<char>(next() | 0x20));
      if (digit == std::string_view::npos) fail("expected four hexadecimal digits");
      value = value * 16 + static_cast<unsigned>(digit);
    }
    return value;
  }

  // Surrogates stay single: names only need to be told apart.
  static void append_utf8(std::string& out, unsigned code) {
    if (code < 0x80) {
      out += static_cast<char>(code);
    } else if (code < 0x800) {
      out += static_cast<char>(0xc0 | code >> 6);
      out += static_cast<char>(0x80 | (code & 63));
    } else {
      out += static_cast<char>(0xe0 | code >> 12);
      out += static_cast<char>(0x80 | (code >> 6 & 63));
      out += static_cast<char>(0x80 | (code & 63));
    }
  }

  std::string_view text_;
  size_t position_ = 0;
};

void skip_metadata(Cursor& cursor) {
  cursor.expect('{');
  cursor.items('}', [&] {
    cursor.string();
    cursor.expect(':');
    cursor.string();
  });
}

void check_tensor(const Cursor& cursor, const Tensor& tensor, uint64_t data_bytes) {
  if (tensor.begin > tensor.end || tensor.end > data_bytes) {
    cursor.fail(fmt::format("tensor {}: data_offsets {} to {} are not within the file's {} bytes of data", tensor.name,
                            tensor.begin, tensor.end, data_bytes));
  }
  const uint64_t bytes = tensor.end - tensor.begin;
  for (const DtypeSize& dtype : kDtypes) {
    if (tensor.dtype != dtype.name) continue;
    if (bytes % dtype.bytes != 0 || bytes / dtype.bytes != static_cast<uint64_t>(tensor.elements)) {
      cursor.fail(fmt::format("tensor {}: its shape has {} elements of {} bytes, but its data_offsets span {} bytes",
                              tensor.name, tensor.elements, dtype.bytes, bytes));
    }
  }
}

Tensor parse_tensor(Cursor& cursor, std::string name) {
  Tensor tensor;
  tensor.name = std::move(name);
  int offsets = 0;
  cursor.expect('{');
  cursor.items('}', [&] {
    const std::string key = cursor.string();
    cursor.expect(':');
    if (key == "dtype") {
      tensor.dtype = cursor.string();
    } else if (key == "shape") {
      cursor.expect('[');
      cursor.items(']', [&] { tensor.shape.push_back(static_cast<int64_t>(cursor.integer())); });
    } else if (key == "data_offsets") {
      cursor.expect('[');
      cursor.items(']', [&] { (offsets++ == 0 ? tensor.begin : tensor.end) = cursor.integer(); });
    } else {
      cursor.fail("unexpected key " + key);
    }
  });
  if (tensor.dtype.empty()) cursor.fail("tensor " + tensor.name + ": no dtype");
  if (offsets != 2) cursor.fail("tensor " + tensor.name + ": expected two data_offsets");
  for (const int64_t size : tensor.shape) {
    if (__builtin_mul_overflow(tensor.elements, size, &tensor.elements))
      cursor.fail("tensor " + tensor.name + ": the sizes of its shape come to 2^63 or more");
  }
  return tensor;
}

uint64_t little_endian(const std::array<unsigned char, 8>& bytes) {
  uint64_t value = 0;
  for (size_t i = bytes.size(); i-- > 0;) value = value << 8 | bytes[i];
  return value;
}

}  // namespace

std::vector<Tensor> parse_safetensors_header(std::string_view header, uint64_t data_bytes) {
  Cursor cursor(header);
  std::vector<Tensor> tensors;
  cursor.expect('{');
  cursor.items('}', [&] {
    std::string name = cursor.string();
    cursor.expect(':');
    if (name == "__metadata__") return skip_metadata(cursor);
    tensors.push_back(parse_tensor(cursor, std::move(name)));
    check_tensor(cursor, tensors.back(), data_bytes);
  });
  cursor.expect_end();
  return tensors;
}

Safetensors::Safetensors(const std::string& path) : path_(path), file_(path, std::ios::binary | std::ios::ate) {
  if (!file_) throw std::runtime_error("cannot open " + path);
  const std::streamoff size = file_.tellg();
  std::array<unsigned char, 8> length_bytes{};
  file_.seekg(0);
  if (size < 8 || !file_.read(reinterpret_cast<char*>(length_bytes.data()), length_bytes.size())) {
    throw std::runtime_error(path + ": too short to be a safetensors file");
  }
  const uint64_t length = little_endian(length_bytes);
  const uint64_t rest = static_cast<uint64_t>(size) - length_bytes.size();
  if (length > rest || length > kLongestHeader) {
    throw std::runtime_error(
        fmt::format("{}: says that its header has {} bytes, but {} follow; truncated, or not a safetensors file", path,
                    length, rest));
  }
  std::string header(length, '\0');
  if (!file_.read(header.data(), static_cast<std::streamsize>(length))) throw std::runtime_error("cannot read " + path);
  data_start_ = length_bytes.size() + length;
  tensors_ = parse_safetensors_header(header, rest - length);
}

std::vector<unsigned char> Safetensors::read(const Tensor& tensor) {
  std::vector<unsigned char> data(tensor.end - tensor.begin);
  file_.clear();
  file_.seekg(static_cast<std::streamoff>(data_start_ + tensor.begin));
  if (!file_.read(reinterpret_cast<char*>(data.data()), static_cast<std::streamsize>(data.size()))) {
    throw std::runtime_error(fmt::format("{}: cannot read tensor {}", path_, tensor.name));
  }
  return data;
}

}  // namespace nf4bench
