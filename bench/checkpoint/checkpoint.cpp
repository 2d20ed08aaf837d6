#include "checkpoint/checkpoint.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <limits>
#include <set>
#include <stdexcept>
#include <string_view>

#include "checkpoint/json.hpp"
#include "formatted.hpp"
#include "status.hpp"

namespace nf4bench {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr std::string_view kState = ".quant_state.bitsandbytes__";
constexpr int64_t kFewestElements = 4096;         // of a matrix
constexpr uintmax_t kLongestIndex = 100'000'000;  // bytes, as of a safetensors header
constexpr uint64_t kLongestState = 1 << 16;       // bytes
constexpr const char* kFile = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

struct DtypeName {
  nf4_dtype_t dtype;
  std::string_view tensor;  // in a safetensors header
  std::string_view torch;   // in a quant_state
};
constexpr DtypeName kDtypes[] = {
    {NF4_F32, "F32", "float32"}, {NF4_F16, "F16", "float16"}, {NF4_BF16, "BF16", "bfloat16"}};

std::optional<nf4_dtype_t> dtype_of(std::string_view name, std::string_view DtypeName::*spelling) {
  for (const DtypeName& dtype : kDtypes) {
    if (dtype.*spelling == name) return dtype.dtype;
  }
  return std::nullopt;
}

// Packed layers keep their codes in any of these (bnb_4bit_quant_storage).
bool stores_codes(const Tensor& tensor) {
  return tensor.dtype == "U8" || dtype_of(tensor.dtype, &DtypeName::tensor).has_value();
}

std::string file_path(const std::string& path) {
  if (!fs::is_directory(path)) return path;
  for (const char* name : {kFile, kIndex}) {
    if (fs::exists(fs::path(path) / name)) return fs::path(path) / name;
  }
  throw std::runtime_error(nf4::formatted("{} has neither {} nor {}", path, kFile, kIndex));
}

std::string read_text(const std::string& path, uintmax_t most) {
  if (fs::exists(path) && !fs::is_regular_file(path)) throw std::runtime_error(path + " is no regular file");
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot open " + path);
  if (fs::file_size(path) > most) throw std::runtime_error(nf4::formatted("{} has more than {} bytes", path, most));
  return {std::istreambuf_iterator<char>(file), {}};
}

// Fields of a quant_state. The layer's name is put before what they throw.
template <typename T>
T field(const Json& state, const char* name, bool (Json::*is)() const noexcept, const char* expected) {
  const auto found = state.find(name);
  if (found == state.end() || !((*found).*is)())
    throw std::runtime_error(nf4::formatted("{} is no {}", name, expected));
  return found->get<T>();
}

int32_t blocksize(const Json& state, const char* name) {
  const auto value = field<uint64_t>(state, name, &Json::is_number_unsigned, "whole number");
  if (value < 32 || value > 4096 || (value & (value - 1)) != 0) {
    throw std::runtime_error(nf4::formatted("{} is {}; expected a power of two from 32 to 4096", name, value));
  }
  return static_cast<int32_t>(value);
}

// Two sizes, or three, of 2^62 elements at most.
std::vector<int64_t> shape_of(const Json& state) {
  const auto sizes = field<Json>(state, "shape", &Json::is_array, "list");
  int64_t elements = 1;
  std::vector<int64_t> shape;
  for (const Json& size : sizes) {
    constexpr int64_t kMost = int64_t{1} << 31;
    const bool valid = size.is_number_unsigned() && size.get<uint64_t>() > 0 && size.get<uint64_t>() < kMost;
    if (!valid) throw std::runtime_error("shape holds what is no size");
    shape.push_back(size.get<int64_t>());
    if (__builtin_mul_overflow(elements, shape.back(), &elements)) throw std::runtime_error("shape is too large");
  }
  if (shape.size() != 2 && shape.size() != 3) {
    throw std::runtime_error(nf4::formatted("shape has {} sizes; expected 2, or 3 of experts", shape.size()));
  }
  return shape;
}

}  // namespace

nf4_weight_t PackedData::view(const Matrix& matrix) const {
  const PackedForm& form = *matrix.packed;
  nf4_weight_t out = NF4_WEIGHT_INIT;
  out.rows = matrix.rows();
  out.cols = matrix.cols();
  out.codes = codes.data();
  out.absmax = absmax.data();
  out.blocksize = form.blocksize;
  if (!form.nested) return out;
  out.absmax_dtype = NF4_U8;
  out.absmax_map = reinterpret_cast<const float*>(map.data());
  out.absmax2 = reinterpret_cast<const float*>(absmax2.data());
  out.absmax_offset = &form.absmax_offset;
  out.absmax_blocksize = form.absmax_blocksize;
  return out;
}

Checkpoint::Checkpoint(const std::string& path) : path_(file_path(path)) {
  if (path_.ends_with(".json")) {
    open_index(path_);
  } else {
    open_file(path_);
  }
  find_packed();
  find_dense();
  std::sort(matrices_.begin(), matrices_.end(), [](auto& a, auto& b) { return a.name < b.name; });
}

void Checkpoint::open_file(const std::string& path) {
  shards_.emplace_back(path);
  for (const Tensor& tensor : shards_.back().tensors()) tensors_.emplace(tensor.name, Place{0, tensor});
}

void Checkpoint::open_index(const std::string& path) {
  const Json index = parse_object(read_text(path, kLongestIndex), path);
  const auto weight_map = index.find("weight_map");
  if (weight_map == index.end() || !weight_map->is_object()) throw std::runtime_error(path + " has no weight_map");

  std::map<std::string, size_t> shard_of;  // by the file's name
  for (const auto& [name, file] : weight_map->items()) {
    const std::string file_name = file.is_string() ? file.get<std::string>() : "";
    if (file_name.empty() || file_name.find('/') != std::string::npos) {
      throw std::runtime_error(nf4::formatted("{}: {} is in {}; expected a file beside the index", path,
                                              printable(name),
                                              printable(file.dump(-1, ' ', false, Json::error_handler_t::replace))));
    }
    if (shard_of.emplace(file_name, shards_.size()).second)
      shards_.emplace_back(fs::path(path).parent_path() / file_name);
  }
  for (const auto& [file_name, shard] : shard_of) {
    for (const Tensor& tensor : shards_[shard].tensors()) {
      const auto listed = weight_map->find(tensor.name);
      if (listed != weight_map->end() && *listed == file_name) tensors_.emplace(tensor.name, Place{shard, tensor});
    }
  }
  for (const auto& [name, file] : weight_map->items()) {
    if (find(name) == nullptr) {
      throw std::runtime_error(
          nf4::formatted("{}: {} has no tensor {}", path, printable(file.get<std::string>()), printable(name)));
    }
  }
}

const Tensor* Checkpoint::find(const std::string& name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second.tensor;
}

const Tensor& Checkpoint::part(const std::string& name, const char* dtype, int64_t count) const {
  const Tensor* const tensor = find(name);
  if (tensor == nullptr) throw std::runtime_error("it lacks " + name);
  if (tensor->dtype != dtype || tensor->elements != count) {
    throw std::runtime_error(nf4::formatted("{} has {} elements of {}; expected {} of {}", name, tensor->elements,
                                            tensor->dtype, count, dtype));
  }
  return *tensor;
}

std::vector<unsigned char> Checkpoint::read(const std::string& name) {
  const Place& place = tensors_.at(name);
  return shards_[place.shard].read(place.tensor);
}

// The layer whose codes are the tensor `name`, and whose quant_state is `state_key`.
Matrix Checkpoint::packed_layer(const std::string& name, const std::string& state_key) {
  if (find(state_key)->bytes() > kLongestState) throw std::runtime_error("its quant_state is too long");
  const std::vector<unsigned char> text = read(state_key);
  const Json state = parse_object({reinterpret_cast<const char*>(text.data()), text.size()}, "its quant_state");
  Matrix matrix;
  matrix.name = name;
  matrix.shape = shape_of(state);
  const auto dtype = field<std::string>(state, "dtype", &Json::is_string, "name");
  const auto known = dtype_of(dtype, &DtypeName::torch);
  if (!known) throw std::runtime_error(nf4::formatted("dtype is {}; expected float32, float16 or bfloat16", dtype));
  matrix.dtype = *known;

  PackedForm& form = matrix.packed.emplace();
  form.blocksize = blocksize(state, "blocksize");
  int64_t code_bytes = 0;
  int64_t blocks = 0;
  check(nf4_packed_size(&code_bytes, &blocks, matrix.rows(), matrix.cols(), form.blocksize));
  const Tensor* const codes = find(name);
  if (codes == nullptr) throw std::runtime_error("it lacks its codes");
  if (!stores_codes(*codes) || codes->bytes() != static_cast<uint64_t>(code_bytes)) {
    throw std::runtime_error(nf4::formatted("its codes are {} bytes of {}; expected {} bytes of U8, F32, F16 or BF16",
                                            codes->bytes(), codes->dtype, code_bytes));
  }
  const std::string nested_absmax = name + ".nested_absmax";
  form.nested = find(nested_absmax) != nullptr;
  uint64_t bytes = codes->bytes() + part(name + ".absmax", form.nested ? "U8" : "F32", blocks).bytes();
  const std::string quant_map = name + ".quant_map";
  part(quant_map, "F32", 16);
  float values[16];
  check(nf4_codebook(values));
  if (std::memcmp(read(quant_map).data(), values, sizeof values) != 0) {
    throw std::runtime_error("its quant_map is not that of NF4");
  }
  if (form.nested) {
    form.absmax_blocksize = blocksize(state, "nested_blocksize");
    form.absmax_offset = field<float>(state, "nested_offset", &Json::is_number, "number");
    const int64_t groups = (blocks + form.absmax_blocksize - 1) / form.absmax_blocksize;
    bytes += part(nested_absmax, "F32", groups).bytes() + part(name + ".nested_quant_map", "F32", 256).bytes();
  }
  matrix.bytes = static_cast<int64_t>(bytes);
  return matrix;
}

void Checkpoint::find_packed() {
  for (const auto& [key, place] : tensors_) {
    const size_t at = key.rfind(kState);
    if (at == std::string::npos) continue;
    const std::string name = key.substr(0, at);
    if (key.substr(at + kState.size()) != "nf4") {
      other_layers_.push_back(name);
      continue;
    }
    try {
      matrices_.push_back(packed_layer(name, key));
    } catch (const std::runtime_error& error) {
      throw std::runtime_error(nf4::formatted("{}: layer {}: {}", path_, printable(name), printable(error.what())));
    }
  }
}

void Checkpoint::find_dense() {
  std::set<std::string> codes(other_layers_.begin(), other_layers_.end());
  for (const Matrix& matrix : matrices_) codes.insert(matrix.name);
  for (const auto& [name, place] : tensors_) {
    const Tensor& tensor = place.tensor;
    const auto dtype = dtype_of(tensor.dtype, &DtypeName::tensor);
    const size_t dimensions = tensor.shape.size();
    if (!dtype || codes.count(name) > 0 || (dimensions != 2 && dimensions != 3) || tensor.elements == 0) continue;
    const int64_t experts = dimensions == 3 ? tensor.shape[0] : 1;
    if (tensor.elements / experts < kFewestElements) continue;
    matrices_.push_back({name, tensor.shape, *dtype, std::nullopt, static_cast<int64_t>(tensor.bytes())});
  }
}

std::vector<unsigned char> Checkpoint::read_dense(const Matrix& matrix) { return read(matrix.name); }

PackedData Checkpoint::read_packed(const Matrix& matrix) {
  PackedData out;
  out.codes = read(matrix.name);
  out.absmax = read(matrix.name + ".absmax");
  if (!matrix.packed->nested) return out;
  out.map = read(matrix.name + ".nested_quant_map");
  out.absmax2 = read(matrix.name + ".nested_absmax");
  return out;
}

}  // namespace nf4bench
