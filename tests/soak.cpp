// The same call gives the same bits on every run: 100 reruns of each variant and config with each dtype, and a few with
// other things in the workspace before.
#include "support/calls.hpp"

namespace nf4test {
namespace {

constexpr int kReruns = 100;

// Enough rows for several blocks of threads on every multiprocessor, and for products K long enough that all ways to
// split it split.
std::vector<Shape> soak_shapes(nf4_op_t op) {
  std::vector<Shape> shapes = {{1, 1031, 4096, 64, NF4_F32}, {1, 300, 3420, 64, NF4_F32, false}};
  if (op == NF4_OP_GEMM) {
    shapes.push_back({3, 1031, 4160, 128, NF4_U8});
    shapes.push_back({8, 517, 4096, 64, NF4_F32});
    shapes.push_back({21, 300, 2048, 64, NF4_F16});
  }
  if (op == NF4_OP_GEMM_TRANSPOSED) {
    shapes.push_back({21, 1031, 4160, 128, NF4_U8});
    shapes.push_back({300, 517, 2048, 64, NF4_F32});
  }
  if (op == NF4_OP_GEMM_EXPERTS) {
    for (Shape& shape : shapes) shape.m = 9;
    shapes.push_back({33, 65, 2048, 64, NF4_U8, true, 1, 16, 4, Form::sorted});
    shapes.push_back({64, 64, 704, 64, NF4_F32, true, 1, 8, 2, Form::ids32});
    shapes.push_back({300, 130, 256, 64, NF4_F32, true, 1, 3, 1, Form::ids64});
  }
  return shapes;
}

void check_soak(const Backend& backend, nf4_op_t op) {
  int64_t reruns = 0;
  for_each_call(backend, op, soak_shapes(op),
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

// Where CTAs meet they count in the workspace, whatever that held: zeros, floats, and what is greater than a count.
void check_workspace(const Backend& backend) {
  const std::vector<Shape> shapes = {
      {1, 517, 4096, 64, NF4_F32}, {21, 1031, 4160, 64, NF4_F32}, {300, 517, 2048, 64, NF4_U8}};
  for_each_call(backend, NF4_OP_GEMM, shapes,
                [&](Call& call, const nf4_variant_info_t& info, const nf4_options_t& options) {
                  call.check(info.accuracy);
                  const std::vector<uint8_t> first = call.outputs();
                  for (const int byte : {0x00, 0x3f, 0x7f, 0x80, 0xc0, 0xfe, 0xff}) {
                    INFO("workspace of bytes " << byte);
#if NF4_HAVE_CUDA
                    check_cuda(cudaMemset(options.workspace, byte, size_t{64} << 20));
#endif
                    call.poison();
                    require_success(call.run(backend, &options));
                    CHECK(call.outputs() == first);
                  }
                });
}

}  // namespace

NF4_ON_CUDA("workspace: what it held before changes nothing", "", check_workspace(backend))
NF4_ON_CUDA("soak: pack", "[soak]", check_soak(backend, NF4_OP_PACK))
NF4_ON_CUDA("soak: unpack", "[soak]", check_soak(backend, NF4_OP_UNPACK))
NF4_ON_CUDA("soak: gemm", "[soak]", check_soak(backend, NF4_OP_GEMM))
NF4_ON_CUDA("soak: pack_absmax", "[soak]", check_soak(backend, NF4_OP_PACK_ABSMAX))
NF4_ON_CUDA("soak: unpack_absmax", "[soak]", check_soak(backend, NF4_OP_UNPACK_ABSMAX))
NF4_ON_CUDA("soak: gemm_experts", "[soak]", check_soak(backend, NF4_OP_GEMM_EXPERTS))
NF4_ON_CUDA("soak: sort_experts", "[soak]", check_soak(backend, NF4_OP_SORT_EXPERTS))
NF4_ON_CUDA("soak: gemm_transposed", "[soak]", check_soak(backend, NF4_OP_GEMM_TRANSPOSED))

}  // namespace nf4test
