#include "checkpoint/safetensors.hpp"

#include <stdexcept>

#include "formatted.hpp"
#include "support/harness.hpp"

namespace nf4test {
namespace {

using namespace nf4bench;

std::string tensor(const char* dtype, const char* shape, const char* offsets) {
  return nf4::formatted(R"({{"w":{{"dtype":"{}","shape":[{}],"data_offsets":[{}]}}}})", dtype, shape, offsets);
}

// What the reader says of such a header before 24 bytes of data; "" if it takes it.
std::string refusal(const std::string& header) {
  try {
    parse_safetensors_header(header, 24);
    return "";
  } catch (const std::runtime_error& error) {
    return error.what();
  }
}

}  // namespace

TEST_CASE("safetensors: names, dtypes, shapes and places of tensors") {
  const std::vector<Tensor> tensors = parse_safetensors_header(
      R"( {"__metadata__": {"format": "pt"},
           "a\u00e9\n": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]},
           "b": {"data_offsets": [12, 16], "shape": [], "dtype": "F32"},
           "c": {"dtype": "F4", "shape": [16], "data_offsets": [16, 24]}} )",
      24);
  REQUIRE(tensors.size() == 3);
  CHECK(tensors[0].name == "a\xc3\xa9\n");
  CHECK(tensors[0].dtype == "BF16");
  CHECK(tensors[0].shape == std::vector<int64_t>{2, 3});
  CHECK(tensors[0].elements == 6);
  CHECK(tensors[1].begin == 12);
  CHECK(tensors[1].end == 16);
  CHECK(tensors[1].elements == 1);
  CHECK(tensors[2].elements == 16);  // of an unknown dtype: as its shape says, whatever its bytes
}

TEST_CASE("safetensors: a tensor lies within the data and has the size that its shape says") {
  CHECK(refusal(tensor("F32", "2,3", "0,24")).empty());
  CHECK(holds(refusal(tensor("F32", "2,3", "4,28")),
              "tensor w: data_offsets 4 to 28 are not within the file's 24 bytes"));
  CHECK(holds(refusal(tensor("F32", "2,3", "24,0")), "data_offsets 24 to 0"));
  for (const char* shape : {"2,2", "5", "7", "2305843009213693958"}) {  // the last is 24 bytes in 64 bits
    CAPTURE(shape);
    CHECK(holds(refusal(tensor("F32", shape, "0,24")), "of 4 bytes, but its data_offsets span 24 bytes"));
  }
  CHECK(holds(refusal(tensor("F32", "5", "0,22")), "has 5 elements of 4 bytes, but its data_offsets span 22 bytes"));
}

TEST_CASE("safetensors: a shape whose elements cannot be counted is refused") {
  const std::string said = "tensor w: the sizes of its shape come to 2^63 or more";
  for (const char* dtype : {"F32", "F4"}) {
    CAPTURE(dtype);
    CHECK(holds(refusal(tensor(dtype, "4294967296,2147483648", "0,0")), said));
    CHECK(holds(refusal(tensor(dtype, "4294967296,4294967296", "0,0")), said));     // 0 in 64 bits
    CHECK(holds(refusal(tensor(dtype, "4611593,92,36939593951,0", "0,0")), said));  // 2^63 to 2^64 on the way to 0
  }
  CHECK(refusal(tensor("F32", "0,4294967296,2147483648", "0,0")).empty());
}

TEST_CASE("safetensors: what is no header is refused with its place") {
  CHECK(holds(refusal(""), "byte 1: syntax error"));
  CHECK(holds(refusal("{} x"), "byte 4: syntax error"));
  CHECK(holds(refusal(std::string("{}\0{}", 5)), "byte 2: NUL"));
  CHECK(holds(refusal("[]"), "expected an object"));
  CHECK(holds(refusal(R"({"w":[]})"), "tensor w: unexpected array"));
  CHECK(holds(refusal(R"({"w":{"shape":[1],"data_offsets":[0,4]}})"), "tensor w: no dtype"));
  CHECK(holds(refusal(R"({"w":{"dtype":"F32","shape":[[1]],"data_offsets":[0,4]}})"), "tensor w: unexpected array"));
  CHECK(holds(refusal(R"({"w":{"dtype":4,"shape":[1],"data_offsets":[0,4]}})"), "tensor w: unexpected number"));
  CHECK(holds(refusal(R"({"w":{"dtype":"F32","shape":"1","data_offsets":[0,4]}})"), "tensor w: unexpected string"));
  CHECK(holds(refusal(R"({"w":{"dtype":"F32","extra":1}})"), "tensor w: unexpected key extra"));
  CHECK(holds(refusal(R"({"__metadata__":{"a":null}})"), "__metadata__: unexpected null"));
  CHECK(holds(refusal(tensor("F32", "1", "0")), "tensor w: expected two data_offsets"));
  CHECK(holds(refusal(tensor("F32", "1", "0,4,4")), "tensor w: expected two data_offsets"));
  for (const char* size : {"-1", "9223372036854775808", "18446744073709551616", "1.0", "1e0"}) {
    CAPTURE(size);
    CHECK(holds(refusal(tensor("F32", size, "0,4")), "tensor w: expected whole numbers of 0 or more, below 2^63"));
  }
}

TEST_CASE("safetensors: what is there twice is refused") {
  const std::string one = R"("w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  CHECK(refusal("{" + one + "}").empty());
  CHECK(holds(refusal("{" + one + "," + one + "}"), "there are two tensors w"));
  CHECK(holds(refusal(R"({"w":{"dtype":"F32","dtype":"F16","shape":[1],"data_offsets":[0,4]}})"),
              "tensor w has two dtype"));
  CHECK(holds(refusal(R"({"__metadata__":{"a":"1","a":"2"}})"), "__metadata__ has two a"));
}

TEST_CASE("safetensors: a header as deep as it is long is refused at its second level") {
  constexpr size_t kLong = 10'000'000;
  CHECK(holds(refusal(R"({"w":{"shape":)" + std::string(kLong, '[')), "tensor w: unexpected array"));
  CHECK(holds(refusal(std::string(kLong, '[')), "expected an object"));
}

TEST_CASE("safetensors: names reach the terminal without their control characters") {
  CHECK(printable("a\x1b[31m\xc3\xa9\xc2\x9b\n") == "a\\x1b[31m\xc3\xa9\\u009b\\x0a");
  CHECK(holds(refusal("{\"\\u001b[2J\":5}"), "tensor \\x1b[2J: unexpected number"));
}

}  // namespace nf4test
