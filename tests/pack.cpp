// nf4_pack: codes and absmax as the format defines them, by every variant.
#include "support/operands.hpp"
#include "support/pairwise.hpp"

namespace nf4test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// The code by definition: the nearest codebook value, which fp32 midpoints decide; ties and NaN as nf4.h says.
// Compares in fp32, against midpoints that are the fp32 neighbours of the exact ones.
int expected_code(float ratio) {
  if (std::isnan(ratio)) return 7;
  constexpr float kMidpoints[15] = {-0.84809643f, -0.6106329f,   -0.45999527f, -0.33967942f, -0.2346074f,
                                    -0.13791174f, -0.045525018f, 0.03979015f,  0.120255254f, 0.20352125f,
                                    0.29201376f,  0.38931254f,   0.5016634f,   0.6427869f,   0.8614784f};
  int code = 0;
  while (code < 15 && ratio > kMidpoints[code]) ++code;
  return code;
}

struct Packed {
  std::vector<uint8_t> codes;
  std::vector<float> absmax;
};

// By the definition, from values as stored.
Packed expected_pack(const void* w, int64_t ldw, nf4_dtype_t dtype, int64_t rows, int64_t cols, int64_t blocksize) {
  const int64_t elements = rows * cols;
  const auto value = [&](int64_t i) { return nf4ref::load(w, dtype, i / cols * ldw + i % cols); };
  Packed packed;
  packed.codes.assign(static_cast<size_t>((elements + 1) / 2), 0x07);
  for (int64_t begin = 0; begin < elements; begin += blocksize) {
    const int64_t end = std::min(begin + blocksize, elements);
    float absmax = 0;
    for (int64_t i = begin; i < end; ++i) {
      const float magnitude = std::fabs(value(i));
      absmax = std::isnan(magnitude) || std::isnan(absmax) ? kNan : std::max(absmax, magnitude);
    }
    packed.absmax.push_back(absmax);
    for (int64_t i = begin; i < end; ++i) {
      const int code = expected_code(value(i) / absmax);
      uint8_t& byte = packed.codes[static_cast<size_t>(i / 2)];
      byte = static_cast<uint8_t>(i % 2 == 0 ? (byte & 15) | code << 4 : (byte & 0xf0) | code);
    }
  }
  return packed;
}

int64_t mismatches(const Arena& arena, const Arena::Slot& codes, const Arena::Slot& absmax, const Packed& expected) {
  int64_t wrong = 0;
  for (size_t i = 0; i < expected.codes.size(); ++i) wrong += arena.after<uint8_t>(codes)[i] != expected.codes[i];
  for (size_t i = 0; i < expected.absmax.size(); ++i) {
    const float found = arena.after<float>(absmax)[i];
    wrong += !(found == expected.absmax[i] || (std::isnan(found) && std::isnan(expected.absmax[i])));
  }
  return wrong;
}

const std::vector<int64_t> kRows = {1, 2, 3, 17, 64};
const std::vector<int64_t> kCols = {1, 2, 7, 8, 31, 33, 63, 64, 65, 3420, 8192};

void check_pack(const Backend& backend) {
  const auto rows = pairwise({kDtypes.size(), kBlocksizes.size(), kRows.size(), kCols.size(), 2, 2, 2, 2}, 3);
  for_each_config(backend, NF4_OP_PACK, [&](const nf4_variant_info_t& info, const nf4_options_t& options) {
    std::mt19937 random(5);
    std::normal_distribution<float> normal(0.0f, 0.02f);
    for (const auto& row : rows) {
      const nf4_dtype_t dtype = kDtypes[row[0]];
      const int32_t blocksize = kBlocksizes[row[1]];
      const int64_t n = kRows[row[2]];
      const int64_t k = kCols[row[3]];
      int64_t ldw = k + (row[4] != 0 ? 5 : 0);
      const auto size = static_cast<size_t>(nf4ref::size_of(dtype));
      size_t w_skew = row[5] * size;
      size_t codes_skew = row[6];
      nf4_problem_t problem = NF4_PROBLEM_INIT;
      problem.op = NF4_OP_PACK;
      problem.dtype = dtype;
      problem.n = n;
      problem.k = k;
      problem.blocksize = blocksize;
      problem.strided = n > 1 && ldw != k;
      if (!takes(backend, info, problem, w_skew | codes_skew)) {  // a variant may decline gaps and skews, nothing else
        ldw = k;
        problem.strided = 0;
        w_skew = codes_skew = 0;
      }
      INFO("dtype " << dtype << " blocksize " << blocksize << " " << n << "x" << k << " ldw " << ldw << " skew "
                    << w_skew << "/" << codes_skew << " special " << row[7]);
      REQUIRE(takes(backend, info, problem, w_skew | codes_skew));
      std::vector<float> values(static_cast<size_t>(n * ldw));
      for (float& value : values) value = normal(random);
      if (row[7] != 0) {  // poisoned, empty, tiny and huge blocks
        constexpr float kSpecial[] = {kNan, kInf, -kInf, 1e-40f, 3e38f, 1e-45f};
        for (int i = 0; i < 8; ++i) values[random() % values.size()] = kSpecial[random() % 6];
        for (size_t i = values.size() / 2;
             i < std::min(values.size(), values.size() / 2 + 3 * static_cast<size_t>(blocksize)); ++i) {
          values[i] = (i % 2 != 0) ? 0.0f : -0.0f;
        }
      }
      Arena arena(backend.on_host());
      const Arena::Slot w = arena.add(raw(values, dtype), w_skew);
      int64_t codes_bytes = 0;
      int64_t absmax_count = 0;
      require_success(nf4_packed_size(&codes_bytes, &absmax_count, n, k, blocksize));
      const Arena::Slot codes = arena.add_output(static_cast<size_t>(codes_bytes), codes_skew);
      const Arena::Slot absmax = arena.add_output(static_cast<size_t>(absmax_count) * sizeof(float));
      arena.upload();
      require_success(nf4_pack(backend.handle(), arena.at<uint8_t>(codes), arena.at<float>(absmax), arena.at(w), ldw,
                               dtype, n, k, blocksize, &options, nullptr));
      arena.download();
      CHECK(arena.trespass({codes, absmax}) == "");
      CHECK(mismatches(arena, codes, absmax, expected_pack(arena.before(w), ldw, dtype, n, k, blocksize)) == 0);
    }
  });
}

// Elements at and next to every midpoint, where a wrong rounding of the division or a >= for a > shows.
void check_midpoints(const Backend& backend) {
  for_each_config(backend, NF4_OP_PACK, [&](const nf4_variant_info_t&, const nf4_options_t& options) {
    for (const float scale : {1.0f, 0.3f, 7e-39f, 1.7e38f}) {
      std::vector<float> values = {scale};
      for (int code = 0; code < 15; ++code) {
        float value = scale * (nf4ref::codebook(code) + nf4ref::codebook(code + 1)) / 2;
        for (int i = 0; i < 4; ++i) value = std::nextafter(value, -1e38f);
        for (int i = 0; i < 8; ++i, value = std::nextafter(value, 1e38f)) values.push_back(value);
      }
      Arena arena(backend.on_host());
      const Arena::Slot w = arena.add(raw(values, NF4_F32));
      const Arena::Slot codes = arena.add_output((values.size() + 1) / 2);
      const Arena::Slot absmax = arena.add_output(sizeof(float));
      arena.upload();
      const auto count = static_cast<int64_t>(values.size());
      require_success(nf4_pack(backend.handle(), arena.at<uint8_t>(codes), arena.at<float>(absmax), arena.at(w), count,
                               NF4_F32, 1, count, 128, &options, nullptr));
      arena.download();
      CHECK(mismatches(arena, codes, absmax, expected_pack(arena.before(w), count, NF4_F32, 1, count, 128)) == 0);
    }
  });
}

// Unpacking to fp32 and packing again gives the same codes and scales, if each block holds a code 0 or 15.
void check_round_trip(const Backend& backend) {
  std::mt19937 random(9);
  for (const int32_t blocksize : kBlocksizes) {
    WeightData data = random_weight(random, 5, 3 * blocksize + 40, blocksize, NF4_F32);
    for (int64_t block = 0; block < data.blocks(); ++block)
      data.codes[static_cast<size_t>(block * blocksize / 2)] |= 0xf0;
    const int64_t elements = data.rows * data.cols;
    Arena arena(backend.on_host());
    const ArenaWeight weight(arena, data);
    const Arena::Slot w = arena.add_output(static_cast<size_t>(elements) * sizeof(float));
    const Arena::Slot codes = arena.add_output(data.codes.size());
    const Arena::Slot absmax = arena.add_output(data.absmax.size());
    arena.upload();
    const nf4_weight_t view = weight.view();
    require_success(nf4_unpack(backend.handle(), arena.at(w), data.cols, NF4_F32, &view, nullptr, nullptr));
    require_success(nf4_pack(backend.handle(), arena.at<uint8_t>(codes), arena.at<float>(absmax), arena.at(w),
                             data.cols, NF4_F32, data.rows, data.cols, blocksize, nullptr, nullptr));
    arena.download();
    INFO("blocksize " << blocksize);
    CHECK(std::equal(data.codes.begin(), data.codes.end(), arena.after<uint8_t>(codes)));
    CHECK(std::equal(data.absmax.begin(), data.absmax.end(), arena.after<uint8_t>(absmax)));
  }
}

// Matrices over which every block of threads walks several times: what the host backend writes. Among the weights
// are poisoned, empty, tiny and huge blocks.
void check_long(const Backend& backend) {
  const Backend host(NF4_HOST_DEVICE);
  constexpr int64_t kN = 7;
  constexpr int64_t kK = 4'000'001;
  std::mt19937 random(43);
  std::normal_distribution<float> normal(0.0f, 0.02f);
  std::vector<float> values(static_cast<size_t>(kN * kK));
  for (float& value : values) value = normal(random);
  constexpr float kSpecial[] = {kNan, kInf, -kInf, 1e-40f, 3e38f, 1e-45f, 0.0f, 1e-30f};
  for (size_t i = 0; i + 4096 < values.size(); i += 4096 + random() % 8192) {
    const float scale = kSpecial[random() % 8];
    for (size_t j = i; j < i + 96; ++j) {
      const float ratio =
          random() % 2 != 0 ? normal(random) * 20.0f : nf4ref::codebook(static_cast<int>(random() % 16));
      values[j] = std::isfinite(scale) ? scale * ratio : values[j];
    }
    values[i + random() % 96] = scale;
  }
  for (const nf4_dtype_t dtype : kDtypes) {
    const std::vector<uint8_t> stored = raw(values, dtype);
    for (const int32_t blocksize : kBlocksizes) {
      int64_t codes_bytes = 0;
      int64_t absmax_count = 0;
      require_success(nf4_packed_size(&codes_bytes, &absmax_count, kN, kK, blocksize));
      Packed expected{std::vector<uint8_t>(static_cast<size_t>(codes_bytes)),
                      std::vector<float>(static_cast<size_t>(absmax_count))};
      require_success(nf4_pack(host.handle(), expected.codes.data(), expected.absmax.data(), stored.data(), kK, dtype,
                               kN, kK, blocksize, nullptr, nullptr));
      Arena arena(false);
      const Arena::Slot w = arena.add(stored);
      const Arena::Slot codes = arena.add_output(expected.codes.size());
      const Arena::Slot absmax = arena.add_output(expected.absmax.size() * sizeof(float));
      for_each_config(backend, NF4_OP_PACK, [&](const nf4_variant_info_t&, const nf4_options_t& options) {
        arena.upload();
        require_success(nf4_pack(backend.handle(), arena.at<uint8_t>(codes), arena.at<float>(absmax), arena.at(w), kK,
                                 dtype, kN, kK, blocksize, &options, nullptr));
        arena.download();
        INFO("dtype " << dtype << " blocksize " << blocksize);
        CHECK(mismatches(arena, codes, absmax, expected) == 0);
      });
    }
  }
}

}  // namespace

NF4_ON_BOTH("pack: codes and absmax by definition", "", check_pack(backend))
NF4_ON_CUDA("pack: long matrices", "", check_long(backend))
NF4_ON_BOTH("pack: around every midpoint", "", check_midpoints(backend))
NF4_ON_BOTH("pack: undoes unpack", "", check_round_trip(backend))

}  // namespace nf4test
