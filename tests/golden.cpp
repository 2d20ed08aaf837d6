// What bitsandbytes makes of the same weights: golden/golden.bin, written by golden/make_golden.py on a CUDA device.
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <string>

#include "support/operands.hpp"

namespace nf4test {
namespace {

struct Record {
  nf4_dtype_t dtype;
  int64_t count;
  std::vector<uint8_t> bytes;

  float value(int64_t i) const { return nf4ref::load(bytes.data(), dtype, i); }
  std::vector<float> floats() const {
    std::vector<float> values(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) values[static_cast<size_t>(i)] = value(i);
    return values;
  }
};

// The build's directory of test data, or where the tests were carried to.
std::string golden_path() {
  const char* directory = std::getenv("NF4_TEST_DATA");
  return std::string(directory != nullptr ? directory : NF4_TEST_DATA) + "/golden.bin";
}

std::map<std::string, Record> read_golden() {
  const std::map<std::string, nf4_dtype_t> dtypes = {
      {"f32", NF4_F32}, {"f16", NF4_F16}, {"bf16", NF4_BF16}, {"u8", NF4_U8}};
  std::ifstream file(golden_path(), std::ios::binary);
  std::map<std::string, Record> records;
  std::string name;
  std::string dtype;
  int64_t count = 0;
  while (file >> name >> dtype >> count) {
    file.get();  // the newline
    Record record{dtypes.at(dtype), count, {}};
    record.bytes.resize(static_cast<size_t>(count * nf4ref::size_of(record.dtype)));
    file.read(reinterpret_cast<char*>(record.bytes.data()), static_cast<std::streamsize>(record.bytes.size()));
    REQUIRE(file.good());
    records.emplace(name, std::move(record));
  }
  REQUIRE(records.size() == 1 + 3 * 8 * 4 + 7);
  return records;
}

// How far w / absmax is from the nearest midpoint of the codebook, in units of the midpoint's last place.
double ulps_from_midpoint(double ratio) {
  double nearest = 1e30;
  for (int code = 0; code < 15; ++code) {
    const double midpoint = (double{nf4ref::codebook(code)} + double{nf4ref::codebook(code + 1)}) / 2;
    const double ulp = std::ldexp(1.0, std::ilogb(midpoint) - 23);
    nearest = std::min(nearest, std::fabs(ratio - midpoint) / ulp);
  }
  return nearest;
}

void check_golden(const Backend& backend) {
  const std::map<std::string, Record> golden = read_golden();
  int64_t codes_compared = 0;
  int64_t codes_differing = 0;
  for (const char* dtype : {"f32", "f16", "bf16"}) {
    for (const int32_t blocksize : kBlocksizes) {
      const std::string key = std::string(dtype) + "/" + std::to_string(blocksize);
      INFO(key);
      const Record& w = golden.at(key + "/w");
      const Record& codes = golden.at(key + "/codes");
      const Record& absmax = golden.at(key + "/absmax");
      const Record& unpacked = golden.at(key + "/unpacked");
      Arena arena(backend.on_host());
      const Arena::Slot in = arena.add(w.bytes);
      const Arena::Slot in_codes = arena.add(codes.bytes);
      const Arena::Slot in_absmax = arena.add(absmax.bytes);
      const Arena::Slot out_codes = arena.add_output(codes.bytes.size());
      const Arena::Slot out_absmax = arena.add_output(absmax.bytes.size());
      const Arena::Slot out_w = arena.add_output(w.bytes.size());
      arena.upload();
      require_success(nf4_pack(backend.handle(), arena.at<uint8_t>(out_codes), arena.at<float>(out_absmax),
                               arena.at(in), w.count, w.dtype, 1, w.count, blocksize, nullptr, nullptr));
      nf4_weight_t weight = NF4_WEIGHT_INIT;
      weight.rows = 1;
      weight.cols = w.count;
      weight.blocksize = blocksize;
      weight.codes = arena.at<uint8_t>(in_codes);
      weight.absmax = arena.at(in_absmax);
      require_success(nf4_unpack(backend.handle(), arena.at(out_w), w.count, w.dtype, &weight, nullptr, nullptr));
      arena.download();
      CHECK(std::memcmp(arena.after(out_absmax), absmax.bytes.data(), absmax.bytes.size()) == 0);
      CHECK(std::memcmp(arena.after(out_w), unpacked.bytes.data(), unpacked.bytes.size()) == 0);
      double farthest = 0;
      for (int64_t i = 0; i < w.count; ++i) {
        ++codes_compared;
        if (nf4ref::code_at(arena.after<uint8_t>(out_codes), i) == nf4ref::code_at(codes.bytes.data(), i)) continue;
        ++codes_differing;
        farthest = std::max(farthest, ulps_from_midpoint(static_cast<double>(w.value(i)) /
                                                         static_cast<double>(absmax.value(i / blocksize))));
      }
      CHECK(farthest <= 4.0);
    }
  }
  WARN(codes_compared << " codes compared with bitsandbytes', " << codes_differing << " differ");
}

void check_golden_nested(const Backend& backend) {
  const std::map<std::string, Record> golden = read_golden();
  const Record& absmax = golden.at("nested/absmax");
  const Record& map = golden.at("nested/map");
  const Record& codes = golden.at("nested/codes");
  const Record& absmax_codes = golden.at("nested/absmax_codes");
  const Record& absmax2 = golden.at("nested/absmax2");
  const Record& unpacked = golden.at("nested/unpacked");
  const Record& offset = golden.at("nested/offset");
  Arena arena(backend.on_host());
  const Arena::Slot in = arena.add(absmax.bytes);
  const Arena::Slot in_map = arena.add(map.bytes);
  const Arena::Slot in_codes = arena.add(codes.bytes);
  const Arena::Slot in_absmax_codes = arena.add(absmax_codes.bytes);
  const Arena::Slot in_absmax2 = arena.add(absmax2.bytes);
  const Arena::Slot in_offset = arena.add(offset.bytes);
  const Arena::Slot out_codes = arena.add_output(absmax_codes.bytes.size());
  const Arena::Slot out_absmax2 = arena.add_output(absmax2.bytes.size());
  const Arena::Slot out_offset = arena.add_output(sizeof(float));
  const Arena::Slot out_w = arena.add_output(unpacked.bytes.size());
  arena.upload();

  nf4_weight_t weight = NF4_WEIGHT_INIT;
  weight.rows = 1;
  weight.cols = unpacked.count;
  weight.absmax_dtype = NF4_U8;
  weight.codes = arena.at<uint8_t>(in_codes);
  weight.absmax = arena.at(in_absmax_codes);
  weight.absmax_map = arena.at<float>(in_map);
  weight.absmax2 = arena.at<float>(in_absmax2);
  weight.absmax_offset = arena.at<float>(in_offset);
  require_success(
      nf4_unpack(backend.handle(), arena.at(out_w), unpacked.count, unpacked.dtype, &weight, nullptr, nullptr));
  require_success(nf4_pack_absmax(backend.handle(), arena.at<uint8_t>(out_codes), arena.at<float>(out_absmax2),
                                  arena.at<float>(out_offset), arena.at<float>(in), absmax.count,
                                  arena.at<float>(in_map), 256, nullptr, nullptr));
  arena.download();
  CHECK(std::memcmp(arena.after(out_w), unpacked.bytes.data(), unpacked.bytes.size()) == 0);

  // torch sums the mean in fp32 and in another order, so its last bit is another here, and with it those of absmax2;
  // the codes are the same all the same.
  const float shift = std::fabs(*arena.after<float>(out_offset) - offset.value(0));
  CHECK(shift <= 0x1p-23f * std::fabs(offset.value(0)));
  float farthest = 0;
  for (int64_t i = 0; i < absmax2.count; ++i) {
    farthest = std::max(farthest, std::fabs(arena.after<float>(out_absmax2)[i] - absmax2.value(i)));
  }
  CHECK(farthest <= shift + 0x1p-24f * std::fabs(offset.value(0)));  // and one rounding of absmax - offset
  CHECK(std::memcmp(arena.after(out_codes), absmax_codes.bytes.data(), absmax_codes.bytes.size()) == 0);
}

}  // namespace

TEST_CASE("golden: the dynamic map is bitsandbytes'") {
  const std::map<std::string, Record> golden = read_golden();
  CHECK(golden.at("dynamic_map").floats() == dynamic_map());
}
NF4_ON_BOTH("golden: codes, absmax and unpacked weights are bitsandbytes'", "", check_golden(backend))
NF4_ON_BOTH("golden: nested scales are bitsandbytes'", "", check_golden_nested(backend))

}  // namespace nf4test
