// Reads tensors from a safetensors file: 8 bytes of header length, a JSON header, then the data.
#pragma once

#include <cstdint>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace nf4bench {

struct Tensor {
  std::string name;
  std::string dtype;  // as the file spells it: "F32", "BF16", ...
  std::vector<int64_t> shape;
  uint64_t begin = 0;  // bytes, from the start of the data
  uint64_t end = 0;
  int64_t elements = 1;  // by the shape

  uint64_t bytes() const { return end - begin; }
};

// Parses the header of a file with `data_bytes` of data after it. Throws std::runtime_error that tells the place and
// what is wrong there. A tensor that it returns lies within the data and, of a known dtype, has the size that its shape
// says; no two have a name. A shape whose sizes, multiplied from the first on, come to 2^63 or more is refused, though
// a 0 follow.
std::vector<Tensor> parse_safetensors_header(std::string_view header, uint64_t data_bytes);

// `text` of a file as a terminal may show it: control characters as \xNN.
std::string printable(std::string_view text);

class Safetensors {
 public:
  // Throws std::runtime_error if the file cannot be read or is not what it should be.
  explicit Safetensors(const std::string& path);

  const std::string& path() const { return path_; }
  const std::vector<Tensor>& tensors() const { return tensors_; }
  std::vector<unsigned char> read(const Tensor& tensor);

 private:
  std::string path_;
  std::ifstream file_;
  uint64_t data_start_ = 0;
  std::vector<Tensor> tensors_;
};

}  // namespace nf4bench
