#include "checkpoint/safetensors.hpp"

#include <algorithm>
#include <array>
#include <filesystem>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <unordered_set>
#include <utility>

#include "formatted.hpp"

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

[[noreturn]] void fail(const std::string& what) { throw std::runtime_error("safetensors header: " + what); }

// Takes the header's JSON event by event: it keeps nothing but the tensors, however long or deep the text is.
class HeaderReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit HeaderReader(uint64_t data_bytes) : data_bytes_(data_bytes) {}

  std::vector<Tensor> tensors() { return std::move(tensors_); }

  bool start_object(size_t) override {
    if (place_ == Place::start) {
      place_ = Place::names;
    } else if (place_ == Place::names) {
      place_ = tensor_.name == kMetadata ? Place::metadata : Place::tensor;
      keys_.clear();
    } else {
      unexpected("object");
    }
    return true;
  }

  bool key(std::string& name) override {
    if (place_ == Place::names) {
      if (!names_.insert(name).second) fail(nf4::formatted("there are two tensors {}", printable(name)));
      tensor_ = Tensor{};
      tensor_.name = name;
      offsets_.clear();
      return true;
    }
    if (!keys_.insert(name).second) fail(nf4::formatted("{} has two {}", here(), printable(name)));
    if (place_ == Place::metadata) return true;
    const auto known = std::find_if(std::begin(kKeys), std::end(kKeys), [&](auto& key) { return key.first == name; });
    if (known == std::end(kKeys)) fail(nf4::formatted("{}: unexpected key {}", here(), printable(name)));
    place_ = known->second;
    return true;
  }

  bool end_object() override {
    if (place_ == Place::tensor) {
      finish_tensor();
      tensors_.push_back(std::move(tensor_));
    }
    place_ = Place::names;
    return true;
  }

  bool start_array(size_t) override {
    if ((place_ != Place::shape && place_ != Place::offsets) || in_array_) unexpected("array");
    in_array_ = true;
    return true;
  }

  bool end_array() override {
    in_array_ = false;
    place_ = Place::tensor;
    return true;
  }

  bool number_unsigned(uint64_t value) override {
    if (!in_array_) unexpected("number");
    if (value > uint64_t{std::numeric_limits<int64_t>::max()}) no_size();
    if (place_ == Place::shape) {
      tensor_.shape.push_back(static_cast<int64_t>(value));
    } else {
      offsets_.push_back(value);
    }
    return true;
  }

  bool string(std::string& value) override {
    if (place_ == Place::metadata) return true;
    if (place_ != Place::dtype) unexpected("string");
    tensor_.dtype = value;
    place_ = Place::tensor;
    return true;
  }

  bool number_integer(int64_t) override { no_size(); }  // which is negative
  bool number_float(double, const std::string&) override { no_size(); }
  bool null() override { unexpected("null"); }
  bool boolean(bool) override { unexpected("boolean"); }
  bool binary(nlohmann::json::binary_t&) override { unexpected("binary value"); }

  bool parse_error(size_t byte, const std::string&, const nlohmann::detail::exception& error) override {
    constexpr size_t kLongest = 200;  // the message holds the text where it went wrong
    const std::string_view what = error.what();
    const std::string_view after_place = what.substr(what.find(": ") + 2);
    fail(nf4::formatted("byte {}: {}", byte, printable(after_place.substr(0, kLongest))));
  }

 private:
  // What comes next: the whole object, a name and its tensor, a key of a tensor, or the value of one.
  enum class Place { start, names, metadata, tensor, dtype, shape, offsets };
  static constexpr std::string_view kMetadata = "__metadata__";
  static constexpr std::pair<std::string_view, Place> kKeys[] = {
      {"dtype", Place::dtype}, {"shape", Place::shape}, {"data_offsets", Place::offsets}};

  std::string here() const { return tensor_.name == kMetadata ? tensor_.name : "tensor " + printable(tensor_.name); }

  [[noreturn]] void unexpected(const char* what) const {
    if (place_ == Place::start) fail("expected an object");
    fail(nf4::formatted("{}: unexpected {}", here(), what));
  }

  [[noreturn]] void no_size() const {
    if (!in_array_) unexpected("number");
    fail(here() + ": expected whole numbers of 0 or more, below 2^63");
  }

  void finish_tensor() {
    Tensor& tensor = tensor_;
    if (tensor.dtype.empty()) fail(here() + ": no dtype");
    if (offsets_.size() != 2) fail(here() + ": expected two data_offsets");
    tensor.begin = offsets_[0];
    tensor.end = offsets_[1];
    for (const int64_t size : tensor.shape) {
      if (__builtin_mul_overflow(tensor.elements, size, &tensor.elements))
        fail(here() + ": the sizes of its shape come to 2^63 or more");
    }
    if (tensor.begin > tensor.end || tensor.end > data_bytes_) {
      fail(nf4::formatted("{}: data_offsets {} to {} are not within the file's {} bytes of data", here(), tensor.begin,
                          tensor.end, data_bytes_));
    }
    for (const DtypeSize& dtype : kDtypes) {
      if (tensor.dtype != dtype.name) continue;
      if (tensor.bytes() % dtype.bytes == 0 && tensor.bytes() / dtype.bytes == static_cast<uint64_t>(tensor.elements))
        continue;
      fail(nf4::formatted("{}: its shape has {} elements of {} bytes, but its data_offsets span {} bytes", here(),
                          tensor.elements, dtype.bytes, tensor.bytes()));
    }
  }

  uint64_t data_bytes_;
  Place place_ = Place::start;
  bool in_array_ = false;
  Tensor tensor_;                         // the one that is being read
  std::vector<uint64_t> offsets_;         // of it
  std::unordered_set<std::string> keys_;  // of it
  std::unordered_set<std::string> names_;
  std::vector<Tensor> tensors_;
};

uint64_t little_endian(const std::array<unsigned char, 8>& bytes) {
  uint64_t value = 0;
  for (size_t i = bytes.size(); i-- > 0;) value = value << 8 | bytes[i];
  return value;
}

}  // namespace

std::vector<Tensor> parse_safetensors_header(std::string_view header, uint64_t data_bytes) {
  // The parser would take a NUL for the end.
  if (header.find('\0') != std::string_view::npos) fail(nf4::formatted("byte {}: NUL", header.find('\0')));
  HeaderReader reader(data_bytes);
  nlohmann::json::sax_parse(header, &reader);
  return reader.tensors();
}

std::string printable(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    // U+0080 to U+009F are control characters too.
    const bool c1 = byte == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0;
    if (byte >= 0x20 && byte != 0x7f && !c1) {
      out += text[i];
    } else if (c1) {
      out += nf4::formatted("\\u{:04x}", static_cast<unsigned char>(text[++i]));
    } else {
      out += nf4::formatted("\\x{:02x}", byte);
    }
  }
  return out;
}

Safetensors::Safetensors(const std::string& path) : path_(path) {
  if (std::filesystem::exists(path) && !std::filesystem::is_regular_file(path))
    throw std::runtime_error(path + " is no regular file; expected a safetensors file");
  file_.open(path, std::ios::binary | std::ios::ate);
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
        nf4::formatted("{}: says that its header has {} bytes, but {} follow; truncated, or not a safetensors file",
                       path, length, rest));
  }
  std::string header(length, '\0');
  if (!file_.read(header.data(), static_cast<std::streamsize>(length))) throw std::runtime_error("cannot read " + path);
  data_start_ = length_bytes.size() + length;
  try {
    tensors_ = parse_safetensors_header(header, rest - length);
  } catch (const std::runtime_error& error) {
    throw std::runtime_error(path + ": " + error.what());
  }
}

std::vector<unsigned char> Safetensors::read(const Tensor& tensor) {
  std::vector<unsigned char> data(tensor.bytes());
  file_.clear();
  file_.seekg(static_cast<std::streamoff>(data_start_ + tensor.begin));
  if (!file_.read(reinterpret_cast<char*>(data.data()), static_cast<std::streamsize>(data.size()))) {
    throw std::runtime_error(nf4::formatted("{}: cannot read tensor {}", path_, printable(tensor.name)));
  }
  return data;
}

}  // namespace nf4bench
