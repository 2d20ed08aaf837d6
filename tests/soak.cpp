// The same call gives the same bits on every run: 100 reruns of each variant and config with each dtype.
#include "support/calls.hpp"

namespace nf4test {
namespace {

constexpr int kReruns = 100;

// Enough rows for several blocks of threads on every multiprocessor, and K long enough that all ways to split it split.
const std::vector<Shape> kSoakShapes = {
    {1, 1031, 4096, 64, NF4_F32}, {3, 1031, 4160, 128, NF4_U8},       {8, 517, 4096, 64, NF4_F32},
    {21, 300, 2048, 64, NF4_F16}, {1, 300, 3420, 64, NF4_F32, false},
};

void check_soak(const Backend& backend, nf4_op_t op) {
  int64_t reruns = 0;
  for_each_call(backend, op, kSoakShapes,
                [&](Call& call, const nf4_variant_info_t& info, const nf4_options_t& options) {
                  call.check(info.accuracy);
                  const std::vector<uint8_t> first = call.outputs();
                  int differing = 0;
                  for (int rerun = 0; rerun < kReruns; ++rerun) {
                    call.poison();
                    require_success(call.run(backend, &options));
                    differing += call.outputs() != first;
                  }
                  CHECK(differing == 0);
                  reruns += kReruns;
                });
  if (reruns > 0) WARN(reruns << " reruns");
}

}  // namespace

TEST_CASE("soak: pack, CUDA", "[gpu][soak]") {
  REQUIRE_GPU();
  check_soak(Backend(0), NF4_OP_PACK);
}
TEST_CASE("soak: unpack, CUDA", "[gpu][soak]") {
  REQUIRE_GPU();
  check_soak(Backend(0), NF4_OP_UNPACK);
}
TEST_CASE("soak: gemm, CUDA", "[gpu][soak]") {
  REQUIRE_GPU();
  check_soak(Backend(0), NF4_OP_GEMM);
}
TEST_CASE("soak: pack_absmax, CUDA", "[gpu][soak]") {
  REQUIRE_GPU();
  check_soak(Backend(0), NF4_OP_PACK_ABSMAX);
}
TEST_CASE("soak: unpack_absmax, CUDA", "[gpu][soak]") {
  REQUIRE_GPU();
  check_soak(Backend(0), NF4_OP_UNPACK_ABSMAX);
}

}  // namespace nf4test
