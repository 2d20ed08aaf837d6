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
NF4_ON_CUDA("small: pack", "[small]", check_small(backend, NF4_OP_PACK))
NF4_ON_CUDA("small: unpack", "[small]", check_small(backend, NF4_OP_UNPACK))
NF4_ON_CUDA("small: gemm", "[small]", check_small(backend, NF4_OP_GEMM))
NF4_ON_CUDA("small: pack_absmax", "[small]", check_small(backend, NF4_OP_PACK_ABSMAX))
NF4_ON_CUDA("small: unpack_absmax", "[small]", check_small(backend, NF4_OP_UNPACK_ABSMAX))
NF4_ON_CUDA("small: gemm_experts", "[small]", check_small(backend, NF4_OP_GEMM_EXPERTS))
NF4_ON_CUDA("small: sort_experts", "[small]", check_small(backend, NF4_OP_SORT_EXPERTS))
NF4_ON_CUDA("small: gemm_transposed", "[small]", check_small(backend, NF4_OP_GEMM_TRANSPOSED))

}  // namespace nf4test
