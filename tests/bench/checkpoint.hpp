// Safetensors files for tests, written from parts in memory.
#pragma once

#include <fmt/ranges.h>

#include <cstring>
#include <string>
#include <vector>

#include "formatted.hpp"
#include "status.hpp"
#include "support/harness.hpp"

namespace nf4test {

struct Part {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  std::string data;
};

inline std::string safetensors_of(const std::vector<Part>& parts) {
  std::string header = "{";
  std::string data;
  for (const Part& part : parts) {
    header +=
        nf4::formatted(R"({}"{}":{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})", data.empty() ? "" : ",",
                       part.name, part.dtype, fmt::join(part.shape, ","), data.size(), data.size() + part.data.size());
    data += part.data;
  }
  header += "}";
  const uint64_t length = header.size();
  std::string out(8, '\0');
  std::memcpy(out.data(), &length, sizeof length);  // little-endian, as these machines are
  return out + header + data;
}

template <typename T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

// Weights that are not all alike.
inline std::vector<float> some_weights(int64_t count) {
  std::vector<float> out;
  for (int64_t i = 0; i < count; ++i) out.push_back(static_cast<float>((i * 37 + 11) % 101 - 50) * 0.01f);
  return out;
}

// The parts of a layer of fp32 weights in NF4, as bitsandbytes keeps them.
inline std::vector<Part> packed_parts(const std::string& name, const std::vector<int64_t>& shape, bool nested,
                                      int32_t blocksize = 64, int32_t nested_blocksize = 256) {
  using nf4bench::check;
  const nf4bench::Handle handle = nf4bench::make_handle(NF4_HOST_DEVICE);
  const int64_t cols = shape.back();
  int64_t rows = 1;
  for (size_t i = 0; i + 1 < shape.size(); ++i) rows *= shape[i];
  int64_t code_bytes = 0;
  int64_t blocks = 0;
  check(nf4_packed_size(&code_bytes, &blocks, rows, cols, blocksize));
  std::vector<uint8_t> codes(static_cast<size_t>(code_bytes));
  std::vector<float> absmax(static_cast<size_t>(blocks));
  check(nf4_pack(handle.get(), codes.data(), absmax.data(), some_weights(rows * cols).data(), cols, NF4_F32, rows, cols,
                 blocksize, nullptr, nullptr));
  std::vector<float> codebook(16);
  check(nf4_codebook(codebook.data()));
  std::string state = nf4::formatted(R"({{"quant_type": "nf4", "blocksize": {}, "dtype": "float32", "shape": [{}])",
                                     blocksize, fmt::join(shape, ", "));
  std::vector<Part> out = {{name, "U8", {code_bytes, 1}, bytes_of(codes)},
                           {name + ".quant_map", "F32", {16}, bytes_of(codebook)}};
  if (nested) {
    const int64_t groups = (blocks + nested_blocksize - 1) / nested_blocksize;
    std::vector<uint8_t> absmax_codes(absmax.size());
    std::vector<float> absmax2(static_cast<size_t>(groups));
    std::vector<float> map(256);
    float offset = 0;
    check(nf4_dynamic_map(map.data()));
    check(nf4_pack_absmax(handle.get(), absmax_codes.data(), absmax2.data(), &offset, absmax.data(), blocks, map.data(),
                          nested_blocksize, nullptr, nullptr));
    out.push_back({name + ".absmax", "U8", {blocks}, bytes_of(absmax_codes)});
    out.push_back({name + ".nested_absmax", "F32", {groups}, bytes_of(absmax2)});
    out.push_back({name + ".nested_quant_map", "F32", {256}, bytes_of(map)});
    state += nf4::formatted(R"(, "nested_blocksize": {}, "nested_dtype": "float32", "nested_offset": {})",
                            nested_blocksize, double{offset});
  } else {
    out.push_back({name + ".absmax", "F32", {blocks}, bytes_of(absmax)});
  }
  state += "}";
  out.push_back({name + ".quant_state.bitsandbytes__nf4", "U8", {static_cast<int64_t>(state.size())}, state});
  return out;
}

inline Part dense_part(const std::string& name, const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return {name, "F32", shape, bytes_of(some_weights(count))};
}

}  // namespace nf4test
