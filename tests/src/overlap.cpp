// Operands that overlap: found where a byte belongs to both, and nowhere else.
#include "overlap.hpp"

#include <random>
#include <set>
#include <vector>

#include "support/harness.hpp"
#include "support/operands.hpp"

namespace nf4test {
namespace {

const void* at(int64_t address) { return reinterpret_cast<const void*>(address); }

// All bytes of an extent, one by one.
std::set<int64_t> bytes_of(const nf4::Extent& extent) {
  std::set<int64_t> bytes;
  for (int64_t run = 0; run < extent.runs; ++run) {
    for (int64_t i = 0; i < extent.bytes; ++i) {
      bytes.insert(static_cast<int64_t>(reinterpret_cast<uintptr_t>(extent.begin)) + run * extent.pitch + i);
    }
  }
  return bytes;
}

bool share_a_byte(const nf4::Extent& a, const nf4::Extent& b) {
  const std::set<int64_t> of_a = bytes_of(a);
  for (const int64_t byte : bytes_of(b)) {
    if (of_a.count(byte) == 1) return true;
  }
  return false;
}

}  // namespace

TEST_CASE("overlap: of arrays and matrices whose rows are equally far apart, as their bytes do") {
  std::mt19937 random(3);
  const auto below = [&](int64_t limit) { return std::uniform_int_distribution<int64_t>(0, limit - 1)(random); };
  int found = 0;
  constexpr int kRounds = 20000;
  for (int round = 0; round < kRounds; ++round) {
    const int64_t ld = 1 + below(12);
    const auto extent = [&] {
      const int64_t cols = below(ld + 1);
      return below(3) == 0 ? nf4::array_extent("array", at(1000 + below(60)), below(20))
                           : nf4::matrix_extent("matrix", at(1000 + below(60)), below(5), cols, ld, 2);
    };
    const nf4::Extent a = extent();
    const nf4::Extent b = extent();
    const bool expected = share_a_byte(a, b);
    if (nf4::overlap(a, b) != expected || nf4::overlap(b, a) != expected) {
      FAIL("from " << a.begin << " " << a.runs << " of " << a.bytes << " bytes, " << a.pitch << " apart; from "
                   << b.begin << " " << b.runs << " of " << b.bytes << ", " << b.pitch << " apart: " << expected);
    }
    found += expected;
  }
  CHECK(found > kRounds / 10);
  CHECK(found < kRounds * 9 / 10);
}

TEST_CASE("overlap: of matrices whose rows are not equally far apart none is found, however they lie") {
  for (const int64_t ld : {3, 4, 5}) {
    for (const int64_t rows : {2, 3, 4}) {
      const nf4::Extent a = nf4::matrix_extent("a", at(1000), rows, 2, ld, 2);
      for (const int64_t other : {3, 4, 5}) {
        for (const int64_t other_rows : {2, 3, 4}) {
          const nf4::Extent b = nf4::matrix_extent("b", at(1000), other_rows, 2, other, 2);
          CHECK(nf4::overlap(a, b) == (ld == other));
        }
      }
    }
  }
}

TEST_CASE("overlap: the largest operands") {
  const int64_t most = int64_t{1} << 60;
  const nf4::Extent x = nf4::matrix_extent("x", at(4096), 1, most, most, 4);
  const nf4::Extent y = nf4::matrix_extent("y", at(4096 + (int64_t{1} << 62)), most, 1, 1, 4);
  CHECK_FALSE(nf4::overlap(x, y));
  CHECK_FALSE(nf4::overlap(y, x));
  const nf4::Extent last = nf4::array_extent("last", at(4096 + (int64_t{1} << 62) - 1), 1);
  CHECK(nf4::overlap(x, last));
  CHECK_FALSE(nf4::overlap(y, last));
}

TEST_CASE("overlap: of what has no elements nothing does, however many rows it has, host") {
  const Backend backend(NF4_HOST_DEVICE);
  float memory = 0;
  nf4_weight_t weight = NF4_WEIGHT_INIT;
  weight.rows = INT64_MAX;
  require_success(
      nf4_gemm(backend.handle(), &memory, INT64_MAX, &memory, 0, 0, NF4_F32, &weight, &memory, nullptr, nullptr));
}

TEST_CASE("overlap: an output that overlaps anything is refused, and nothing is written, host") {
  const Backend backend(NF4_HOST_DEVICE);
  alignas(256) std::vector<unsigned char> memory(4096, 0x3c);
  const auto before = memory;
  float* const at_0 = reinterpret_cast<float*>(memory.data());
  const auto floats = [&](int64_t index) { return at_0 + index; };
  uint8_t* const bytes = memory.data();
  nf4_weight_t weight = NF4_WEIGHT_INIT;  // [2, 64]: 64 bytes of codes, 2 scales
  weight.rows = 2;
  weight.cols = 64;
  weight.codes = bytes + 2048;
  weight.absmax = floats(600);
  weight.absmax_map = floats(700);
  weight.absmax2 = floats(960);
  weight.absmax_offset = floats(961);
  nf4_handle_t const handle = backend.handle();
  const auto gemm = [&](float* y, int64_t ldy, float* x, int64_t ldx, const float* bias) {
    return nf4_gemm(handle, y, ldy, x, ldx, 2, NF4_F32, &weight, bias, nullptr, nullptr);
  };
  const auto refused = [&](nf4_status_t status, const std::string& output, const std::string& other) {
    check_failed(status, NF4_ERROR_INVALID_ARGUMENT, output + " (from 0x");
    CHECK(holds(nf4_last_error_message(), ") overlaps " + other + " (from 0x"));
    CHECK((memory == before));
  };
  SECTION("gemm") {
    refused(gemm(floats(0), 2, floats(0), 64, nullptr), "y", "x");
    refused(gemm(floats(127), 2, floats(0), 64, nullptr), "y", "x");
    refused(gemm(floats(0), 2, floats(3), 64, nullptr), "y", "x");
    refused(gemm(floats(63), 66, floats(0), 66, nullptr), "y", "x");
    refused(gemm(floats(0), 2, floats(8), 64, floats(3)), "y", "bias");
    refused(gemm(floats(511), 2, floats(8), 64, nullptr), "y", "weight->codes");
    refused(gemm(floats(601), 2, floats(8), 64, nullptr), "y", "weight->absmax");
    require_success(gemm(floats(128), 2, floats(0), 64, nullptr));
    memory = before;
    require_success(gemm(floats(64), 66, floats(0), 66, nullptr));  // beside x, row by row
  }
  SECTION("gemv") {
    refused(nf4_gemv(handle, floats(63), floats(0), NF4_F32, &weight, nullptr, nullptr, nullptr), "y", "x");
  }
  SECTION("transposed") {
    const auto call = [&](float* y, int64_t ldy, float* x, int64_t ldx) {
      return nf4_gemm_transposed(handle, y, ldy, x, ldx, 2, NF4_F32, &weight, nullptr, nullptr);
    };
    refused(call(floats(0), 64, floats(127), 2), "y", "x");
    refused(call(floats(0), 66, floats(63), 66), "y", "x");
    refused(call(floats(400), 64, floats(0), 2), "y", "weight->codes");
    refused(call(floats(601), 64, floats(0), 2), "y", "weight->absmax");
    require_success(call(floats(0), 64, floats(128), 2));
    memory = before;
    require_success(call(floats(0), 66, floats(64), 66));  // beside x, row by row
  }
  SECTION("nested scales") {
    weight.absmax_dtype = NF4_U8;
    refused(gemm(floats(598), 2, floats(8), 64, nullptr), "y", "weight->absmax");  // two bytes there
    refused(gemm(floats(955), 2, floats(8), 64, nullptr), "y", "weight->absmax_map");
    refused(gemm(floats(957), 2, floats(8), 64, nullptr), "y", "weight->absmax2");
    weight.absmax2 = floats(970);
    refused(gemm(floats(960), 2, floats(8), 64, nullptr), "y", "weight->absmax_offset");
  }
  SECTION("a group") {
    nf4_product_t products[2] = {NF4_PRODUCT_INIT, NF4_PRODUCT_INIT};
    nf4_weight_t other = weight;
    other.codes = bytes + 3000;
    for (nf4_product_t& product : products) product.ldy = 4;
    products[0].weight = &weight;
    products[1].weight = &other;
    const auto call = [&](float* first, float* second) {
      products[0].y = first;
      products[1].y = second;
      return nf4_gemm_group(handle, products, 2, floats(0), 64, 2, NF4_F32, nullptr, nullptr);
    };
    refused(call(floats(200), floats(127)), "products[1]: y", "x");
    refused(call(floats(200), floats(201)), "products[0] and products[1]: y", "y");
    refused(call(floats(200), floats(512)), "products[1] and products[0]: y", "weight->codes");
    require_success(call(floats(200), floats(202)));  // columns of one matrix
  }
  SECTION("experts") {
    std::vector<int32_t> numbers(64);
    nf4_routing_t routing = NF4_ROUTING_INIT;
    routing.experts = 2;
    routing.slots = 2;
    routing.ids_dtype = NF4_I32;
    const auto call = [&](float* y, float* x, const float* bias) {
      return nf4_gemm_experts(handle, y, 1, x, 64, NF4_F32, &weight, bias, &routing, nullptr, nullptr);
    };
    const auto ints = [&](int64_t i) { return reinterpret_cast<const int32_t*>(floats(i)); };
    routing.ids = numbers.data();
    refused(call(floats(127), floats(0), nullptr), "y", "x");
    const auto beside = [&](float* y) {
      return nf4_gemm_experts(handle, y, 66, floats(0), 66, NF4_F32, &weight, nullptr, &routing, nullptr, nullptr);
    };
    refused(beside(floats(63)), "y", "x");
    require_success(beside(floats(64)));
    memory = before;
    refused(call(floats(200), floats(0), floats(199)), "y", "bias");
    refused(call(floats(511), floats(0), nullptr), "y", "weight->codes");
    refused(call(floats(601), floats(0), nullptr), "y", "weight->absmax");
    routing.scale = floats(201);
    refused(call(floats(200), floats(0), nullptr), "y", "routing->scale");
    routing.scale = nullptr;
    routing.ids = ints(201);
    refused(call(floats(200), floats(0), nullptr), "y", "routing->ids");
    routing.ids_dtype = NF4_I64;
    routing.ids = ints(196);
    refused(call(floats(199), floats(0), nullptr), "y", "routing->ids");
    routing.ids = nullptr;
    routing.ends = ints(201);
    refused(call(floats(200), floats(0), nullptr), "y", "routing->ends");
    routing.ends = numbers.data();
    routing.order = ints(199);
    refused(call(floats(200), floats(0), nullptr), "y", "routing->order");
    require_success(call(floats(201), floats(0), nullptr));
    memory = before;
    routing = NF4_ROUTING_INIT;
    routing.experts = 2;
    routing.slots = 4;
    routing.ids = ints(200);  // 64 bits each
    const auto sort = [&](int64_t order, int64_t ends) {
      return nf4_sort_experts(handle, reinterpret_cast<int32_t*>(floats(order)),
                              reinterpret_cast<int32_t*>(floats(ends)), &routing, nullptr, nullptr);
    };
    refused(sort(100, 103), "order", "ends");
    refused(sort(197, 100), "order", "routing->ids");
    refused(sort(100, 207), "ends", "routing->ids");
  }
  SECTION("pack") {
    const auto pack = [&](uint8_t* codes, float* absmax, float* w) {
      return nf4_pack(handle, codes, absmax, w, 64, NF4_F32, 2, 64, 64, nullptr, nullptr);
    };
    refused(pack(bytes, floats(15), floats(200)), "codes", "absmax");
    refused(pack(bytes + 799, floats(100), floats(200)), "codes", "w");
    refused(pack(bytes, floats(199), floats(200)), "absmax", "w");
  }
  SECTION("unpack") {
    refused(nf4_unpack(handle, floats(500), 64, NF4_F32, &weight, nullptr, nullptr), "w", "weight->codes");
    refused(nf4_unpack(handle, floats(530), 64, NF4_F32, &weight, nullptr, nullptr), "w", "weight->absmax");
  }
  SECTION("absmax") {
    const auto pack = [&](uint8_t* codes, float* absmax2, float* offset, float* absmax, float* map) {
      return nf4_pack_absmax(handle, codes, absmax2, offset, absmax, 4, map, 32, nullptr, nullptr);
    };
    refused(pack(bytes + 3, floats(0), floats(10), floats(20), floats(100)), "absmax_codes", "absmax2");
    refused(pack(bytes, floats(10), floats(10), floats(20), floats(100)), "absmax2", "offset");
    refused(pack(bytes, floats(4), floats(23), floats(20), floats(100)), "offset", "absmax");
    refused(pack(bytes, floats(4), floats(355), floats(20), floats(100)), "offset", "map");
    refused(nf4_unpack_absmax(handle, floats(600), &weight, nullptr, nullptr), "absmax", "weight->absmax");
    require_success(nf4_unpack_absmax(handle, floats(512), &weight, nullptr, nullptr));  // where the codes are not read
  }
}

}  // namespace nf4test
