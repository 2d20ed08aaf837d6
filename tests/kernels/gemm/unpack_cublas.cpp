// gemm.unpack_cublas beside what every variant is tested for: how cuBLASLt is found, and its workspace.
#include "catch.hpp"

#if NF4_HAVE_CUDA

#include "families.hpp"
#include "gemm/cublaslt.hpp"
#include "support/harness.hpp"
#include "support/operands.hpp"

namespace nf4test {
namespace {

constexpr const char* kVariant = "gemm.unpack_cublas";

const nf4::Device kDevice{0, 90, 132, "a device", 90};

// Whether this machine has cuBLASLt; says so if not.
bool has_cublaslt() {
  const std::string& why_not = nf4::CublasLt::instance().why_not();
  if (!why_not.empty()) WARN("skipped: " << why_not);
  return why_not.empty();
}

nf4_problem_t problem_of(int64_t m, int64_t n, int64_t k) {
  nf4_problem_t problem = NF4_PROBLEM_INIT;
  problem.m = m;
  problem.n = n;
  problem.k = k;
  return problem;
}

}  // namespace

TEST_CASE("cublaslt: a library that is not there is named, with the loader's reason") {
  const nf4::CublasLt missing("/nonexistent/libcublasLt.so.13");
  CAPTURE(missing.why_not());
  CHECK(missing.why_not().rfind("cuBLASLt cannot be loaded: /nonexistent/libcublasLt.so.13: ", 0) == 0);
  CHECK(missing.why_not().find("No such file") != std::string::npos);
  CHECK(missing.create == nullptr);
}

TEST_CASE("cublaslt: a file that is no library is told as such") {
  const Directory directory;
  const std::string path = directory / "libcublasLt.so";
  write_file(path, "not a library");
  const nf4::CublasLt broken(path.c_str());
  CAPTURE(broken.why_not());
  CHECK(broken.why_not().rfind("cuBLASLt cannot be loaded: " + path + ": ", 0) == 0);
}

#ifdef NF4_STUB_CUBLASLT
TEST_CASE("cublaslt: a library without a function is told with the function's name") {
  const nf4::CublasLt partial(NF4_STUB_CUBLASLT);
  CHECK(partial.create != nullptr);
  CHECK(partial.matmul == nullptr);
  CHECK(partial.why_not() == "cuBLASLt lacks a function: " NF4_STUB_CUBLASLT " has no cublasLtMatmul");
}
#endif

// Run by ctest in a process with NF4_CUBLASLT=/nonexistent, since a process loads the library once.
TEST_CASE("without cublaslt: the variant tells why it cannot run", "[.][without_cublaslt]") {
  const nf4::Variant& variant = nf4::gemm_unpack_cublas_variants()[0];
  const nf4::Problem problem{nf4::Op::gemm, nf4::Dtype::bf16, 256, 64, 64, 64, nf4::Dtype::f32, 16, false};
  const char* reason = variant.unsupported(problem, kDevice);
  REQUIRE(reason != nullptr);
  CHECK(std::string(reason).rfind("cuBLASLt cannot be loaded: /nonexistent: ", 0) == 0);
  CHECK(variant.unsupported(problem, kDevice) == reason);  // stays where it is
}

TEST_CASE("cublaslt: problems that it cannot take are declined before it is loaded") {
  const auto reason = [](int64_t m, int64_t n, int64_t k) {
    const nf4::Problem problem{nf4::Op::gemm, nf4::Dtype::bf16, m, n, k, 64, nf4::Dtype::f32, 16, false};
    const char* text = nf4::gemm_unpack_cublas_variants()[0].unsupported(problem, kDevice);
    return std::string(text != nullptr ? text : "");
  };
  constexpr int64_t kTooLarge = int64_t{1} << 31;
  CHECK(reason(256, 64, 0) == "there is nothing to multiply (K = 0)");
  CHECK(reason(kTooLarge, 64, 64) == "cuBLASLt takes sizes below 2^31");
  CHECK(reason(256, kTooLarge, 64) == "cuBLASLt takes sizes below 2^31");
  CHECK(reason(256, 64, kTooLarge) == "cuBLASLt takes sizes below 2^31");
}

TEST_CASE("cublaslt: each config is a way to store that unpack.stream has") {
  const nf4::Variant& variant = nf4::gemm_unpack_cublas_variants()[0];
  const nf4::Variant& stream = nf4::unpack_stream_variants()[0];
  for (int config = 0; config < variant.configs; ++config) {
    const std::string text = variant.config_text(config);
    CAPTURE(text);
    int matches = 0;
    for (int i = 0; i < stream.configs; ++i) matches += stream.config_text(i).ends_with(" " + text);
    CHECK(matches > 0);
  }
}

TEST_CASE("cublaslt: the workspace holds the weights and cuBLASLt's own, each from 256 bytes on") {
  const nf4::Variant& variant = nf4::gemm_unpack_cublas_variants()[0];
  const auto bytes = [&](nf4::Dtype dtype, int64_t n, int64_t k, int capability) {
    const nf4::Problem problem{nf4::Op::gemm, dtype, 256, n, k, 64, nf4::Dtype::f32, 16, false};
    return variant.workspace_size(problem, {0, capability, 1, ""}, 0);
  };
  constexpr size_t kMiB = size_t{1} << 20;
  CHECK(bytes(nf4::Dtype::bf16, 128, 64, 90) == 128 * 64 * 2 + 32 * kMiB);
  CHECK(bytes(nf4::Dtype::f16, 3, 5, 80) == 256 + 4 * kMiB);
  CHECK(bytes(nf4::Dtype::f32, 65536, 65536, 90) == (size_t{1} << 34) + 32 * kMiB);
}

TEST_CASE("cublaslt: a table picks it for many rows, if there is room", "[gpu]") {
  REQUIRE_GPU();
  if (!has_cublaslt()) return;
  const Backend backend(0);
  const Directory directory;
  const std::string path = directory / "table";
  write_file(path,
             "nf4-tuning 1\n"
             "*,gemm,*,129-9223372036854775807,*,*,*,gemm.unpack_cublas,stores=cached,\n"
             "*,gemm,*,*,*,*,*,gemm.tiled,tile_m=64,\n");
  require_success(nf4_tuning_load(backend.handle(), path.c_str()));
  const auto selected = [&](int64_t m, size_t workspace_size) {
    const nf4_problem_t problem = problem_of(m, 4096, 4096);
    nf4_options_t options = NF4_OPTIONS_INIT;
    options.workspace_size = workspace_size;
    nf4_selection_t selection{};
    selection.struct_size = sizeof selection;
    require_success(nf4_select(backend.handle(), &problem, &options, &selection));
    CHECK(selection.workspace_size <= workspace_size);
    return std::string(selection.variant);
  };
  nf4_options_t forced = NF4_OPTIONS_INIT;
  forced.variant = kVariant;
  const size_t needed = workspace_needed(backend, problem_of(300, 4096, 4096), forced);
  CHECK(selected(300, needed) == kVariant);
  CHECK(selected(100000, needed) == kVariant);
  CHECK(selected(300, needed - 1) == "gemm.tiled");
  CHECK(selected(300, 0) == "gemm.tiled");
  CHECK(selected(16, needed) == "gemm.tiled");
}

TEST_CASE("cublaslt: a call writes no byte beyond the workspace that it asked for", "[gpu]") {
  REQUIRE_GPU();
  if (!has_cublaslt()) return;
  const Backend backend(0);
  constexpr size_t kGuard = 4096;
  for (const int64_t n : {1, 65, 4096}) {
    for (const int64_t k : {63, 4096}) {
      for (const size_t bias_skew : {size_t{0}, size_t{2}}) {
        constexpr int64_t kM = 200;
        CAPTURE(n, k, bias_skew);
        std::mt19937 random(29);
        Arena arena(false);
        const WeightData data = random_weight(random, n, k, 64, NF4_F32);
        const ArenaWeight weight(arena, data);
        const auto values = [&](int64_t count) {
          return raw(uniform(random, static_cast<size_t>(count), -1.0f, 1.0f), NF4_BF16);
        };
        const Arena::Slot x = arena.add(values(kM * k));
        const Arena::Slot bias = arena.add(values(n), bias_skew);
        const Arena::Slot y = arena.add_output(static_cast<size_t>(kM * n) * sizeof(uint16_t));
        arena.upload();
        nf4_options_t options = NF4_OPTIONS_INIT;
        options.variant = kVariant;
        const size_t needed = workspace_needed(backend, problem_of(kM, n, k), options);
        const Scratch workspace(needed + kGuard);
        options.workspace = workspace.get();
        options.workspace_size = needed;
        const nf4_weight_t view = weight.view();
        require_success(nf4_gemm(backend.handle(), arena.at(y), n, arena.at(x), k, kM, NF4_BF16, &view, arena.at(bias),
                                 &options, nullptr));
        arena.download();
        CHECK(arena.trespass({y}) == "");
        CHECK(workspace.untouched_from(needed));
        nf4ref::Verdict verdict(NF4_BF16, nf4ref::accuracy_g("unpacked", NF4_BF16, k));
        verdict.add_all(
            arena.after(y), n,
            nf4ref::references(nf4ref::Product{data.view(), arena.before(x), k, kM, NF4_BF16, arena.before(bias)}), kM,
            n);
        INFO(verdict.first_violation());
        CHECK(verdict.violations() == 0);
      }
    }
  }
}

}  // namespace nf4test

#endif
