// Random operands, and a weight that lives in an arena.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "arena.hpp"
#include "oracle.hpp"

namespace nf4test {

// Raw values of any dtype, as bytes.
inline std::vector<uint8_t> raw(const std::vector<float>& values, nf4_dtype_t dtype) {
  std::vector<uint8_t> bytes(values.size() * static_cast<size_t>(nf4ref::size_of(dtype)));
  for (size_t i = 0; i < values.size(); ++i) nf4ref::store(bytes.data(), dtype, static_cast<int64_t>(i), values[i]);
  return bytes;
}

inline std::vector<float> uniform(std::mt19937& random, size_t size, float low, float high) {
  std::uniform_real_distribution<float> distribution(low, high);
  std::vector<float> values(size);
  std::generate(values.begin(), values.end(), [&] { return distribution(random); });
  return values;
}

inline std::vector<uint8_t> random_bytes(std::mt19937& random, size_t size) {
  std::vector<uint8_t> bytes(size);
  std::generate(bytes.begin(), bytes.end(), [&] { return static_cast<uint8_t>(random()); });
  return bytes;
}

inline std::vector<float> dynamic_map() {
  std::vector<float> map(256);
  REQUIRE(nf4_dynamic_map(map.data()) == NF4_SUCCESS);
  return map;
}

// The host data of a weight.
struct WeightData {
  int64_t rows, cols;
  int32_t blocksize;
  nf4_dtype_t absmax_dtype;
  std::vector<uint8_t> codes;
  std::vector<uint8_t> absmax;  // raw
  std::vector<float> map, absmax2, offset;

  int64_t blocks() const { return (rows * cols + blocksize - 1) / blocksize; }

  nf4_weight_t view() const {
    nf4_weight_t weight = NF4_WEIGHT_INIT;
    weight.rows = rows;
    weight.cols = cols;
    weight.blocksize = blocksize;
    weight.absmax_dtype = absmax_dtype;
    weight.codes = codes.data();
    weight.absmax = absmax.data();
    weight.absmax_map = map.data();
    weight.absmax2 = absmax2.data();
    weight.absmax_offset = offset.data();
    return weight;
  }
};

inline constexpr int32_t kAbsmaxBlocksize = 256;

// Random codes, and scales around those of trained weights.
inline WeightData random_weight(std::mt19937& random, int64_t rows, int64_t cols, int32_t blocksize,
                                nf4_dtype_t absmax_dtype) {
  WeightData data{rows, cols, blocksize, absmax_dtype, {}, {}, {}, {}, {}};
  data.codes = random_bytes(random, static_cast<size_t>((rows * cols + 1) / 2));
  const auto blocks = static_cast<size_t>(data.blocks());
  if (absmax_dtype == NF4_U8) {
    data.absmax = random_bytes(random, blocks);
    data.map = dynamic_map();
    data.absmax2 = uniform(random, (blocks + kAbsmaxBlocksize - 1) / kAbsmaxBlocksize, 0.005f, 0.02f);
    data.offset = {0.03f};
  } else {
    data.absmax = raw(uniform(random, blocks, 0.01f, 0.05f), absmax_dtype);
  }
  return data;
}

// A weight in an arena, as the call gets it; WeightData::view is the same in host memory, for the oracle.
class ArenaWeight {
 public:
  ArenaWeight(Arena& arena, const WeightData& data, size_t codes_skew = 0)
      : arena_(arena), data_(data), codes_(arena.add(data.codes, codes_skew)), absmax_(arena.add(data.absmax)) {
    if (data.absmax_dtype == NF4_U8) {
      map_ = arena.add(data.map);
      absmax2_ = arena.add(data.absmax2);
      offset_ = arena.add(data.offset);
    }
  }

  nf4_weight_t view() const {
    nf4_weight_t weight = data_.view();
    weight.codes = arena_.at<uint8_t>(codes_);
    weight.absmax = arena_.at(absmax_);
    weight.absmax_map = arena_.at<float>(map_);
    weight.absmax2 = arena_.at<float>(absmax2_);
    weight.absmax_offset = arena_.at<float>(offset_);
    return weight;
  }

 private:
  const Arena& arena_;
  const WeightData& data_;
  Arena::Slot codes_, absmax_, map_, absmax2_, offset_;
};

// Whether the variant is to be tested: NF4_TEST_VARIANT limits a run to the one that it names.
inline bool wanted(const char* variant) {
  const char* only = std::getenv("NF4_TEST_VARIANT");
  return only == nullptr || std::string(only) == variant;
}

inline void require_success(nf4_status_t status) {
  INFO(nf4_status_string(status) << ": " << nf4_last_error_message());
  REQUIRE(status == NF4_SUCCESS);
}

// Every variant of `op` on the backend that is wanted: calls test(info).
template <class Test>
void for_each_variant(const Backend& backend, nf4_op_t op, const Test& test) {
  size_t variants = 0;
  REQUIRE(nf4_variant_count(backend.handle(), op, &variants) == NF4_SUCCESS);
  REQUIRE(variants > 0);
  bool any_wanted = false;
  for (size_t v = 0; v < variants; ++v) {
    nf4_variant_info_t info{};
    info.struct_size = sizeof info;
    REQUIRE(nf4_variant_info(backend.handle(), op, v, &info) == NF4_SUCCESS);
    if (!wanted(info.name)) continue;
    any_wanted = true;
    test(info);
  }
  if (!any_wanted) skip("NF4_TEST_VARIANT names none of its variants");
}

// Why the variant cannot run here for lack of a library that is no part of this one; "" if it lacks none.
inline std::string missing_library(const Backend& backend, const nf4_variant_info_t& info) {
  nf4_problem_t problem = NF4_PROBLEM_INIT;
  problem.op = info.op;
  problem.n = problem.k = 64;
  int32_t supported = 0;
  char reason[256] = "";
  require_success(nf4_variant_supports(backend.handle(), info.name, &problem, &supported, reason, sizeof reason));
  return std::string(reason).rfind("cuBLASLt cannot be loaded", 0) == 0 ? reason : "";
}

// What a forced call of `problem` needs in its workspace.
inline size_t workspace_needed(const Backend& backend, const nf4_problem_t& problem, nf4_options_t options) {
  options.workspace = nullptr;
  options.workspace_size = SIZE_MAX;
  nf4_selection_t selection{};
  selection.struct_size = sizeof selection;
  require_success(nf4_select(backend.handle(), &problem, &options, &selection));
  return selection.workspace_size;
}

// More than any problem of the tests needs, but for those of large.cpp.
inline constexpr size_t kWorkspaceBytes = size_t{640} << 20;

// Every variant of `op` on the backend with each of its configs: calls test(info, options). Products get a workspace.
template <class Test>
void for_each_config(const Backend& backend, nf4_op_t op, const Test& test) {
  const bool product = op == NF4_OP_GEMM || op == NF4_OP_GEMM_EXPERTS || op == NF4_OP_GEMM_TRANSPOSED;
  const Scratch workspace(product && !backend.on_host() ? kWorkspaceBytes : 0);
  for_each_variant(backend, op, [&](const nf4_variant_info_t& info) {
    if (const std::string missing = missing_library(backend, info); !missing.empty()) {
      WARN("skipped: " << info.name << ": " << missing);
      return;
    }
    for (int32_t c = 0; c < info.configs; ++c) {
      char config[64];
      REQUIRE(nf4_variant_config(backend.handle(), info.name, static_cast<size_t>(c), config, sizeof config) ==
              NF4_SUCCESS);
      nf4_options_t options = NF4_OPTIONS_INIT;
      options.variant = info.name;
      options.config = config;
      options.workspace = workspace.get();
      options.workspace_size = workspace.size();
      INFO("variant " << info.name << " config '" << config << "'");
      test(info, options);
    }
  });
}

// Whether the variant takes a problem whose pointers lie `skew` bytes after a multiple of 16.
inline bool takes(const Backend& backend, const nf4_variant_info_t& info, nf4_problem_t problem, size_t skew) {
  const size_t addresses = 16 | skew;
  problem.alignment = static_cast<int32_t>(addresses & (~addresses + 1));
  int32_t supported = 0;
  require_success(nf4_variant_supports(backend.handle(), info.name, &problem, &supported, nullptr, 0));
  return supported != 0;
}

inline const std::vector<nf4_dtype_t> kDtypes = {NF4_F32, NF4_F16, NF4_BF16};
inline const std::vector<int32_t> kBlocksizes = {32, 64, 128, 256, 512, 1024, 2048, 4096};
inline const std::vector<nf4_dtype_t> kAbsmaxDtypes = {NF4_F32, NF4_F16, NF4_BF16, NF4_U8};

}  // namespace nf4test
