// Every kernel on shapes so small that compute-sanitizer gets through them, see tests/gpu.sh.
#include "support/calls.hpp"

namespace nf4test {
namespace {

void check_small(const Backend& backend, nf4_op_t op) {
  for_each_call(backend, op, small_shapes(op),
                [](Call& call, const nf4_variant_info_t& info, const nf4_options_t&) { call.check(info.accuracy); });
}

}  // namespace

TEST_CASE("small: each operation, host") {
  const Backend backend(NF4_HOST_DEVICE);
  for (const nf4_op_t op : kAllOps) check_small(backend, op);
}
// A test for each operation, so that NF4_TEST_VARIANT leaves one and skips the others.
TEST_CASE("small: pack, CUDA", "[gpu][small]") {
  REQUIRE_GPU();
  check_small(Backend(0), NF4_OP_PACK);
}
TEST_CASE("small: unpack, CUDA", "[gpu][small]") {
  REQUIRE_GPU();
  check_small(Backend(0), NF4_OP_UNPACK);
}
TEST_CASE("small: gemm, CUDA", "[gpu][small]") {
  REQUIRE_GPU();
  check_small(Backend(0), NF4_OP_GEMM);
}
TEST_CASE("small: pack_absmax, CUDA", "[gpu][small]") {
  REQUIRE_GPU();
  check_small(Backend(0), NF4_OP_PACK_ABSMAX);
}
TEST_CASE("small: unpack_absmax, CUDA", "[gpu][small]") {
  REQUIRE_GPU();
  check_small(Backend(0), NF4_OP_UNPACK_ABSMAX);
}

}  // namespace nf4test
