#include "checkpoint/checkpoint.hpp"

#include <algorithm>
#include <iterator>

#include "checkpoint.hpp"
#include "device/device.hpp"
#include "formatted.hpp"
#include "workload.hpp"

namespace nf4test {
namespace {

using namespace nf4bench;

std::vector<Part> joined(const std::vector<std::vector<Part>>& lists) {
  std::vector<Part> out;
  for (const auto& list : lists) out.insert(out.end(), list.begin(), list.end());
  return out;
}

const Matrix& matrix_of(const Checkpoint& checkpoint, const std::string& name) {
  const auto& matrices = checkpoint.matrices();
  const auto found =
      std::find_if(matrices.begin(), matrices.end(), [&](const Matrix& matrix) { return matrix.name == name; });
  if (found == matrices.end()) throw std::logic_error("no matrix " + name);
  return *found;
}

std::string refusal(const std::string& path) {
  try {
    Checkpoint checkpoint(path);
    return "";
  } catch (const std::runtime_error& error) {
    return error.what();
  }
}

// What is said of a file with a layer "w" one of whose parts was changed.
std::string refusal_of_layer(bool nested, const std::string& suffix, const std::function<void(Part&)>& change) {
  const Directory directory;
  std::vector<Part> parts = packed_parts("w", {8, 64}, nested);
  for (Part& part : parts) {
    if (part.name == "w" + suffix) change(part);
  }
  std::erase_if(parts, [](const Part& part) { return part.name.empty(); });
  write_file(directory / "file", safetensors_of(parts));
  const std::string said = refusal(directory / "file");
  const std::string named = directory / "file: layer w: ";
  CHECK(said.compare(0, named.size(), named) == 0);
  return said.substr(std::min(said.size(), named.size()));
}

void replace(std::string& text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  text.replace(at, from.size(), to);
}

// The weights that a packed matrix unpacks to.
std::vector<float> unpacked(Checkpoint& checkpoint, const Matrix& matrix) {
  const PackedData data = checkpoint.read_packed(matrix);
  const nf4_weight_t view = data.view(matrix);
  std::vector<float> out;
  for (int64_t i = 0; i < matrix.rows() * matrix.cols(); ++i)
    out.push_back(static_cast<float>(nf4ref::element(view, i)));
  return out;
}

bool near_the_original(const std::vector<float>& found) {
  const std::vector<float> original = some_weights(static_cast<int64_t>(found.size()));
  double error = 0, norm = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    error += std::pow(found[i] - original[i], 2);
    norm += std::pow(original[i], 2);
  }
  return error < 0.02 * norm;
}

}  // namespace

TEST_CASE("checkpoint: dense and packed matrices and experts, and nothing else") {
  const Directory directory;
  write_file(directory / "file", safetensors_of(joined({packed_parts("a", {8, 64}, false),
                                                        packed_parts("b", {24, 96}, true, 32, 32),
                                                        packed_parts("experts", {4, 8, 96}, true),
                                                        {dense_part("dense", {64, 64}),
                                                         dense_part("dense_experts", {3, 64, 64}),
                                                         dense_part("norm", {8192}),
                                                         dense_part("small", {8, 64}),
                                                         dense_part("convolution", {64, 64, 3}),
                                                         {"fp4", "BF16", {4096, 1}, std::string(8192, 'x')},
                                                         {"fp4.quant_state.bitsandbytes__fp4", "U8", {2}, "{}"}}})));
  Checkpoint checkpoint(directory / "file");
  std::vector<std::string> names;
  for (const Matrix& matrix : checkpoint.matrices()) names.push_back(matrix.name);
  CHECK(names == std::vector<std::string>{"a", "b", "dense", "dense_experts", "experts"});
  CHECK(checkpoint.other_layers() == std::vector<std::string>{"fp4"});

  const Matrix& plain = matrix_of(checkpoint, "a");
  CHECK(plain.dtype == NF4_F32);
  CHECK(plain.packed->blocksize == 64);
  CHECK_FALSE(plain.packed->nested);
  CHECK(plain.bytes == 8 * 64 / 2 + 8 * 4);
  CHECK(near_the_original(unpacked(checkpoint, plain)));
  const Matrix& nested = matrix_of(checkpoint, "b");
  CHECK(nested.packed->blocksize == 32);
  CHECK(nested.packed->absmax_blocksize == 32);
  CHECK(nested.bytes == 24 * 96 / 2 + 72 + 3 * 4 + 1024);
  CHECK(near_the_original(unpacked(checkpoint, nested)));
  const Matrix& experts = matrix_of(checkpoint, "experts");
  CHECK(experts.experts());
  CHECK(experts.rows() == 32);
  CHECK(near_the_original(unpacked(checkpoint, experts)));
  CHECK(checkpoint.read_dense(matrix_of(checkpoint, "dense")).size() == 64 * 64 * 4);
  CHECK(matrix_of(checkpoint, "dense_experts").rows() == 3 * 64);
}

TEST_CASE("checkpoint: a layer whose parts lie in two shards is one layer") {
  const Directory directory;
  const std::vector<Part> layer = packed_parts("layer.weight", {24, 96}, true);
  for (size_t first = 1; first < layer.size(); ++first) {  // so many parts are in the first shard
    const std::vector<Part> shards[] = {{layer.begin(), layer.begin() + static_cast<std::ptrdiff_t>(first)},
                                        {layer.begin() + static_cast<std::ptrdiff_t>(first), layer.end()}};
    std::string map;
    for (int i = 0; i < 2; ++i) {
      write_file(directory / nf4::formatted("shard{}", i), safetensors_of(shards[i]));
      for (const Part& part : shards[i])
        map += nf4::formatted(R"({}"{}":"shard{}")", map.empty() ? "" : ",", part.name, i);
    }
    write_file(directory / "model.safetensors.index.json", R"({"metadata":{},"weight_map":{)" + map + "}}");
    for (const std::string& path : {directory / "", directory / "model.safetensors.index.json"}) {
      CAPTURE(first, path);
      Checkpoint checkpoint(path);
      REQUIRE(checkpoint.matrices().size() == 1);
      CHECK(near_the_original(unpacked(checkpoint, checkpoint.matrices()[0])));
    }
  }
}

TEST_CASE("checkpoint: an index that is wrong is refused with the tensor and the file") {
  const Directory directory;
  const std::string index = directory / "a.index.json";
  const auto said = [&](const std::string& text) {
    write_file(index, text);
    return refusal(index);
  };
  write_file(directory / "shard", safetensors_of({dense_part("w", {64, 64})}));
  CHECK(said(R"({"weight_map":{"w":"shard"}})").empty());
  CHECK(said(R"({"weight_map":{"w":"shard","v":"shard"}})") == index + ": shard has no tensor v");
  CHECK(said(R"({"weight_map":{"w":"../shard"}})") ==
        index + ": w is in \"../shard\"; expected a file beside the index");
  CHECK(holds(said(R"({"weight_map":{"w":5}})"), "w is in 5; expected a file"));
  CHECK(holds(said(R"({"weight_map":{"w":"nowhere"}})"), "cannot open " + directory / "nowhere"));
  CHECK(said(R"({"weight_map":{"w":"shard","w":"shard"}})") == index + " has two w");
  CHECK(said("{}") == index + " has no weight_map");
  CHECK(said("[]") == index + " is no JSON object");
  CHECK(said("{") == index + " is no JSON object");
  CHECK(said(R"({"a":)" + std::string(100000, '[')) == index + " nests too deep");
  CHECK(refusal("/dev/zero.index.json") == "cannot open /dev/zero.index.json");
  const Directory empty;
  CHECK(refusal(empty / "") == empty / "" + " has neither model.safetensors nor model.safetensors.index.json");
}

TEST_CASE("checkpoint: a packed layer that lacks a part, or has a wrong one, is refused by its name") {
  const auto without = [](Part& part) { part.name.clear(); };
  const auto shorter = [](Part& part) {
    part.data.resize(part.data.size() - 4);
    part.shape = {static_cast<int64_t>(part.data.size()) / (part.dtype == "U8" ? 1 : 4)};
  };
  CHECK(refusal_of_layer(false, "", without) == "it lacks its codes");
  CHECK(refusal_of_layer(false, ".absmax", without) == "it lacks w.absmax");
  CHECK(refusal_of_layer(false, ".quant_map", without) == "it lacks w.quant_map");
  CHECK(refusal_of_layer(true, ".nested_quant_map", without) == "it lacks w.nested_quant_map");
  CHECK(refusal_of_layer(true, ".nested_absmax", without) == "w.absmax has 8 elements of U8; expected 8 of F32");
  CHECK(refusal_of_layer(false, "", shorter) ==
        "its codes are 252 bytes of U8; expected 256 bytes of U8, F32, F16 or BF16");
  CHECK(refusal_of_layer(false, ".absmax", shorter) == "w.absmax has 7 elements of F32; expected 8 of F32");
  CHECK(refusal_of_layer(true, ".nested_quant_map", shorter) ==
        "w.nested_quant_map has 255 elements of F32; expected 256 of F32");
  CHECK(refusal_of_layer(false, ".quant_map", [](Part& part) { part.data[5] ^= 1; }) ==
        "its quant_map is not that of NF4");
}

TEST_CASE("checkpoint: a quant_state that is wrong is refused by what is wrong") {
  const auto said = [](const std::string& from, const std::string& to) {
    return refusal_of_layer(true, ".quant_state.bitsandbytes__nf4", [&](Part& part) {
      replace(part.data, from, to);
      part.shape = {static_cast<int64_t>(part.data.size())};
    });
  };
  CHECK(said("{", "[") == "its quant_state is no JSON object");
  CHECK(said("\"blocksize\": 64", "\"blocksize\": 48") == "blocksize is 48; expected a power of two from 32 to 4096");
  CHECK(said("\"blocksize\": 64", "\"blocksize\": -64") == "blocksize is no whole number");
  CHECK(said("\"blocksize\": 64", "\"blocksiz\": 64") == "blocksize is no whole number");
  CHECK(said("\"blocksize\": 64", "\"blocksize\": 64, \"blocksize\": 64") == "its quant_state has two blocksize");
  CHECK(said("nested_blocksize\": 256", "nested_blocksize\": 8192") ==
        "nested_blocksize is 8192; expected a power of two from 32 to 4096");
  CHECK(said("nested_offset", "offset") == "nested_offset is no number");
  CHECK(said("float32", "float8") == "dtype is float8; expected float32, float16 or bfloat16");
  CHECK(said("[8, 64]", "[512]") == "shape has 1 sizes; expected 2, or 3 of experts");
  CHECK(said("[8, 64]", "[8, 0]") == "shape holds what is no size");
  CHECK(said("[8, 64]", "[2147483647, 2147483647, 2147483647]") == "shape is too large");
  CHECK(holds(said("[8, 64]", "[8, 65]"), "its codes are 256 bytes of U8; expected 260"));
}

TEST_CASE("workload: a packed weight is multiplied as it is") {
  const Directory directory;
  write_file(directory / "file", safetensors_of(packed_parts("w", {24, 96}, true, 32, 64)));
  Checkpoint checkpoint(directory / "file");
  const Matrix& matrix = checkpoint.matrices().at(0);
  const PackedData data = checkpoint.read_packed(matrix);
  Problem problem;
  problem.n = 24;
  problem.k = 96;
  problem.blocksize = 32;
  problem.nested = true;
  problem.absmax_blocksize = 64;
  const std::unique_ptr<Device> device = open_host_device();
  const Handle handle = make_handle(NF4_HOST_DEVICE);
  Workload workload(*device, handle.get(), problem, false, false);
  workload.take_packed(data.view(matrix));
  const nf4_weight_t given = data.view(matrix);
  for (const int set : {0, workload.sets() - 1}) {
    const nf4_weight_t taken = workload.weight(set);
    CHECK(taken.absmax_blocksize == 64);
    bool same = true;
    for (int64_t i = 0; i < 24 * 96; ++i) same = same && nf4ref::element(taken, i) == nf4ref::element(given, i);
    CHECK(same);
  }
}

}  // namespace nf4test
