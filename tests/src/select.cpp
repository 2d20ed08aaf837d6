#include "select.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <set>
#include <string>

#include "registry.hpp"
#include "support/harness.hpp"
#include "support/operands.hpp"

namespace nf4test {
namespace {

constexpr nf4_op_t kAllOps[] = {NF4_OP_PACK,          NF4_OP_UNPACK,       NF4_OP_GEMM,         NF4_OP_PACK_ABSMAX,
                                NF4_OP_UNPACK_ABSMAX, NF4_OP_GEMM_EXPERTS, NF4_OP_SORT_EXPERTS, NF4_OP_GEMM_TRANSPOSED};

nf4_problem_t problem_of(nf4_op_t op) {
  nf4_problem_t problem = NF4_PROBLEM_INIT;
  problem.op = op;
  problem.n = op == NF4_OP_PACK_ABSMAX ? 1 : 64;
  problem.k = 4096;
  problem.experts = 4;
  return problem;
}

nf4_selection_t empty_selection() {
  nf4_selection_t selection{};
  selection.struct_size = sizeof selection;
  return selection;
}

nf4_options_t forcing(const char* variant, const char* config) {
  nf4_options_t options = NF4_OPTIONS_INIT;
  options.variant = variant;
  options.config = config;
  return options;
}

void check_listing(const Backend& backend) {
  if (std::getenv("NF4_TEST_VARIANT") != nullptr) return skip("NF4_TEST_VARIANT leaves one, and this is about all");
  std::set<std::string> names;
  for (const nf4_op_t op : kAllOps) {
    CAPTURE(op);
    for_each_variant(backend, op, [&](const nf4_variant_info_t& info) {
      names.insert(info.name);
      CHECK(info.struct_size == sizeof info);
      CHECK(info.op == op);
      CHECK(std::strlen(info.description) > 0);
      CHECK(std::strchr(info.description, '\n') == nullptr);
      CHECK_FALSE(std::isnan(nf4ref::accuracy_g(info.accuracy, NF4_BF16, 4096)));
    });
  }
  size_t variants = 0;
  for (const nf4_op_t op : kAllOps) {
    size_t count = 0;
    REQUIRE(nf4_variant_count(backend.handle(), op, &count) == NF4_SUCCESS);
    variants += count;
    nf4_variant_info_t info{};
    info.struct_size = sizeof info;
    check_failed(nf4_variant_info(backend.handle(), op, count, &info), NF4_ERROR_INVALID_ARGUMENT, "index is ");
  }
  CHECK(names.size() == variants);  // each has a name of its own
}

// A config's text names it, and it alone.
void check_configs(const Backend& backend) {
  for (const nf4_op_t op : kAllOps) {
    std::set<std::string> texts;
    for_each_config(backend, op, [&](const nf4_variant_info_t& info, const nf4_options_t& options) {
      CHECK(texts.insert(std::string(info.name) + " " + options.config).second);
      const nf4_problem_t problem = problem_of(op);
      nf4_selection_t selection = empty_selection();
      require_success(nf4_select(backend.handle(), &problem, &options, &selection));
      CHECK(std::string(selection.variant) == info.name);
      CHECK(std::string(selection.config) == options.config);
      CHECK(std::string(selection.reason) == "forced by options->variant");
    });
  }
}

// Without a table row or force, the first variant listed that can run the problem runs it, with its first config.
// Without a workspace that is one that needs none.
void check_default(const Backend& backend) {
  if (std::getenv("NF4_TEST_VARIANT") != nullptr) return skip("NF4_TEST_VARIANT leaves one, and this is about all");
  for (const nf4_op_t op : kAllOps) {
    CAPTURE(op);
    const nf4_problem_t problem = problem_of(op);
    std::string expected;
    for_each_config(backend, op, [&](const nf4_variant_info_t& info, const nf4_options_t& options) {
      int32_t supported = -1;
      REQUIRE(nf4_variant_supports(backend.handle(), info.name, &problem, &supported, nullptr, 0) == NF4_SUCCESS);
      nf4_options_t without = options;
      without.workspace = nullptr;
      without.workspace_size = 0;
      nf4_selection_t forced = empty_selection();
      const bool fits = nf4_select(backend.handle(), &problem, &without, &forced) == NF4_SUCCESS;
      if (supported == 1 && fits && expected.empty()) expected = std::string(info.name) + " " + options.config;
    });
    nf4_selection_t selection = empty_selection();
    require_success(nf4_select(backend.handle(), &problem, nullptr, &selection));
    CHECK(std::string(selection.variant) + " " + selection.config == expected);
    CHECK(std::string(selection.reason) == "default: the first variant that can run this");
  }
}

// Variants that no build has: one that needs a workspace of 512 bytes per config, and one that declines every problem.
size_t needs_workspace(const nf4::Problem&, const nf4::Device&, int config) {
  return 512 * static_cast<size_t>(config + 1);
}
const char* declines(const nf4::Problem&, const nf4::Device&) { return "it is for Sundays"; }
std::string numbered(int config) { return "number=" + std::to_string(config); }
int launched(const void*, const nf4::Device&, int, nf4::Stream) { return 0; }

constexpr nf4::Variant kHungry{
    "gemm.hungry", "", "fp32", nf4::Op::gemm, true, 2, numbered, nf4::always_supported, needs_workspace, launched};
constexpr nf4::Variant kIdle{"gemm.idle",    "",       "fp32",  nf4::Op::gemm, true, 1,
                             nf4::no_config, declines, nullptr, launched};
// One that counts how often it is asked.
int asked = 0;
const char* counts(const nf4::Problem&, const nf4::Device&) {
  ++asked;
  return nullptr;
}
constexpr nf4::Variant kCounting{"gemm.counting", "",     "fp32",          nf4::Op::gemm, true, 1,
                                 nf4::no_config,  counts, needs_workspace, launched};
// One that plans its config: the last that there is room for. It takes no more than 8 rows of x, and does not know how
// long it takes for 5.
int planned = 0;
const char* declines_many(const nf4::Problem& problem, const nf4::Device&) {
  return problem.m > 8 ? "it is for few" : nullptr;
}
nf4::Planned plans(const nf4::Problem& problem, const nf4::Device&, size_t workspace_size) {
  ++planned;
  CHECK(problem.m <= 8);
  if (problem.m == 5) return {};
  return {workspace_size >= 1024 ? 1 : 0, 1000.0};
}
constexpr nf4::Variant kPlanning{"gemm.planning", "",       "fp32",  nf4::Op::gemm, true, 2, numbered, declines_many,
                                 needs_workspace, launched, nullptr, plans};
constexpr nf4::Problem kGemm{nf4::Op::gemm, nf4::Dtype::f32, 1, 1, 1, 64, nf4::Dtype::f32, 16, false};

nf4::TuningRow row_of(const nf4::Variant& variant, std::optional<int> config, int line) {
  nf4::TuningRow row{};
  row.device = "*";
  row.op = nf4::Op::gemm;
  row.variant = &variant;
  row.config = config;
  row.line = line;
  return row;
}

}  // namespace

TEST_CASE("select: the listing, host") { check_listing(Backend(NF4_HOST_DEVICE)); }
TEST_CASE("select: every config can be forced by its text, host") { check_configs(Backend(NF4_HOST_DEVICE)); }
TEST_CASE("select: the default, host") { check_default(Backend(NF4_HOST_DEVICE)); }

#if NF4_HAVE_CUDA
TEST_CASE("select: the listing, CUDA", "[gpu]") {
  REQUIRE_GPU();
  check_listing(Backend(0));
}

TEST_CASE("select: every config can be forced by its text, CUDA", "[gpu]") {
  REQUIRE_GPU();
  check_configs(Backend(0));
}

TEST_CASE("select: the default, CUDA", "[gpu]") {
  REQUIRE_GPU();
  const Directory directory;
  const std::string path = directory / "empty";
  write_file(path, "nf4-tuning 1\n");
  const Backend backend(0);
  REQUIRE(nf4_tuning_load(backend.handle(), path.c_str()) == NF4_SUCCESS);
  check_default(backend);
}
#endif

TEST_CASE("select: what does not support a problem tells why") {
  const Backend backend(NF4_HOST_DEVICE);
  struct Case {
    const char* variant;
    nf4_op_t op;
    const char* reason;  // "" if it does
  };
  const Case cases[] = {
    {"gemm.host", NF4_OP_GEMM, ""},
    {"gemm.host", NF4_OP_UNPACK, "it is a variant of gemm"},
    {"pack.host", NF4_OP_PACK_ABSMAX, "it is a variant of pack"},
#if NF4_HAVE_CUDA
    {"gemm.tiled", NF4_OP_GEMM, "it runs on CUDA devices, and the handle is for host"},
#endif
  };
  for (const Case& c : cases) {
    CAPTURE(c.variant, c.op);
    const bool expected = *c.reason == '\0';
    const nf4_problem_t problem = problem_of(c.op);
    int32_t supported = -1;
    char reason[64] = "left over";
    REQUIRE(nf4_variant_supports(backend.handle(), c.variant, &problem, &supported, reason, sizeof reason) ==
            NF4_SUCCESS);
    CHECK(supported == (expected ? 1 : 0));
    CHECK(std::string(reason) == c.reason);

    // Forced, it fails with that very reason, and the selection stays as it was.
    const nf4_options_t options = forcing(c.variant, nullptr);
    nf4_selection_t selection = empty_selection();
    const nf4_status_t status = nf4_select(backend.handle(), &problem, &options, &selection);
    CHECK(status == (expected ? NF4_SUCCESS : NF4_ERROR_UNSUPPORTED));
    if (!expected) {
      check_failed(status, NF4_ERROR_UNSUPPORTED, std::string(c.variant) + " cannot run this: " + c.reason);
      CHECK(selection.variant == nullptr);
    }
  }
}

TEST_CASE("select: a reason is cut to fit") {
  const Backend backend(NF4_HOST_DEVICE);
  const nf4_problem_t problem = problem_of(NF4_OP_PACK);
  int32_t supported = -1;
  char reason[] = "################";
  REQUIRE(nf4_variant_supports(backend.handle(), "gemm.host", &problem, &supported, reason, 6) == NF4_SUCCESS);
  CHECK(std::string(reason, sizeof reason - 1) == std::string("it is\0##########", 16));
}

TEST_CASE("select: a config's text fits, with its end, or is refused") {
  const Backend backend(NF4_HOST_DEVICE);
  char config[] = "##";
  REQUIRE(nf4_variant_config(backend.handle(), "gemm.host", 0, config, 1) == NF4_SUCCESS);
  CHECK(std::string(config, 2) == std::string("\0#", 2));
#if NF4_HAVE_CUDA
  char text[] = "############";
  const size_t length = std::strlen("tile_m=64");
  check_failed(nf4_variant_config(backend.handle(), "gemm.tiled", 0, text, length), NF4_ERROR_INVALID_ARGUMENT,
               "size is 9; the config takes 10 bytes");
  CHECK(std::string(text) == "############");
  REQUIRE(nf4_variant_config(backend.handle(), "gemm.tiled", 0, text, length + 1) == NF4_SUCCESS);
  CHECK(std::string(text, sizeof text - 1) == std::string("tile_m=64\0##", 12));
#endif
}

TEST_CASE("select: an unknown name is told with those that are known") {
  const Backend backend(NF4_HOST_DEVICE);
  const nf4_problem_t problem = problem_of(NF4_OP_GEMM);
  nf4_selection_t selection = empty_selection();
  const nf4_options_t options = forcing("gemm.nonsense", nullptr);
  for (const nf4_op_t op : kAllOps) {
    for_each_variant(backend, op, [&](const nf4_variant_info_t& info) {
      check_failed(nf4_select(backend.handle(), &problem, &options, &selection), NF4_ERROR_UNKNOWN_VARIANT, info.name);
    });
  }
}

TEST_CASE("select: force beats table beats default") {
  nf4_handle handle{};
  handle.device = {NF4_HOST_DEVICE, 0, 1, "host"};
  auto table = std::make_unique<nf4::TuningTable>();
  table->rows = {row_of(kHungry, 0, 7)};
  handle.set_tuning(std::move(table));
  nf4::Options options;
  const auto reason = [&] { return nf4::select(handle, kGemm, options).reason(); };

  CHECK(reason() == "default: the first variant that can run this");  // no workspace
  options.workspace_size = 512;
  CHECK(reason() == "line 7 of the tuning table");
  handle.forced[static_cast<size_t>(nf4::Op::gemm)] = nf4::find_variant("gemm.host");
  CHECK(reason() == "forced by NF4_FORCE_VARIANT");
  CHECK(nf4::select(handle, kGemm, options).variant == nf4::find_variant("gemm.host"));
  options.variant = &kHungry;
  CHECK(reason() == "forced by options->variant");
  CHECK(nf4::select(handle, kGemm, options).variant == &kHungry);
}

TEST_CASE("select: rows that cannot run are passed over, forced ones are not") {
  nf4_handle handle{};
  handle.device = {NF4_HOST_DEVICE, 0, 1, "host"};
  auto table = std::make_unique<nf4::TuningTable>();
  table->rows = {row_of(kIdle, 0, 2), row_of(kHungry, 1, 3), row_of(kHungry, 0, 4)};
  handle.set_tuning(std::move(table));
  nf4::Options options;
  const auto chosen = [&] { return nf4::select(handle, kGemm, options); };
  const auto fails = [&](nf4_status_t status, const char* part) {
    check_failed(nf4::guarded([&] { chosen(); }), status, part);
  };

  options.workspace_size = 1024;
  CHECK(chosen().line == 3);
  CHECK(chosen().config == 1);
  CHECK(chosen().workspace_size(kGemm, handle.device) == 1024);
  options.workspace_size = 1023;
  CHECK(chosen().line == 4);
  options.workspace_size = 511;
  CHECK(chosen().why == nf4::Choice::Why::fallback);

  options.variant = &kHungry;
  fails(NF4_ERROR_WORKSPACE, "options->workspace_size is 511; forced variant gemm.hungry needs 512 bytes");
  options.config = 1;
  options.workspace_size = 512;
  fails(NF4_ERROR_WORKSPACE, "needs 1024 bytes");
  options.variant = &kIdle;
  fails(NF4_ERROR_UNSUPPORTED, "forced variant gemm.idle cannot run this: it is for Sundays");
  options.variant = nullptr;
  handle.forced[static_cast<size_t>(nf4::Op::gemm)] = &kIdle;
  fails(NF4_ERROR_UNSUPPORTED, "forced variant gemm.idle cannot run this: it is for Sundays");
}

TEST_CASE("select: a row may leave the config to its variant's plan") {
  nf4_handle handle{};
  handle.device = {NF4_HOST_DEVICE, 0, 1, "host"};
  auto table = std::make_unique<nf4::TuningTable>();
  table->rows = {row_of(kPlanning, std::nullopt, 2)};
  handle.set_tuning(std::move(table));
  nf4::Options options;
  nf4::Problem problem = kGemm;
  const auto chosen = [&] { return nf4::select(handle, problem, options); };

  options.workspace_size = 1024;
  CHECK(chosen().reason() == "line 2 of the tuning table");
  CHECK(chosen().config == 1);
  CHECK(chosen().workspace_size(problem, handle.device) == 1024);
  options.workspace_size = 1023;
  CHECK(chosen().variant == &kPlanning);
  CHECK(chosen().config == 0);
  problem.products = 2;  // a row that names it is meant, also where it takes them one by one
  CHECK(chosen().variant == &kPlanning);
  problem.products = 1;
  options.workspace_size = 511;  // none fits
  CHECK(chosen().why == nf4::Choice::Why::fallback);

  // It plans only what it is for, and what it knows.
  options.workspace_size = 1024;
  problem.m = 5;
  CHECK(chosen().why == nf4::Choice::Why::fallback);
  planned = 0;
  problem.m = 9;
  CHECK(chosen().why == nf4::Choice::Why::fallback);
  problem.m = 8;
  handle.device.ordinal = 0;
  nf4::guarded([&] { chosen(); });  // there may be none for the device
  handle.device.ordinal = NF4_HOST_DEVICE;
  CHECK(planned == 0);

  // Forced, it runs with its first config unless one is named.
  options.variant = &kPlanning;
  CHECK(chosen().config == 0);
  CHECK(planned == 0);
}

#if NF4_HAVE_CUDA
TEST_CASE("select: a row for all variants takes the one that plans the least") {
  nf4_handle handle{};
  handle.device = {0, 90, 132, "NVIDIA H200"};
  handle.device.architecture = 90;
  handle.device.shared_memory = 227 << 10;
  handle.device.resident_clusters = {132, 66, 30, 15};
  auto table = std::make_unique<nf4::TuningTable>();
  nf4::TuningRow all = row_of(kPlanning, std::nullopt, 2);
  all.variant = nullptr;
  table->rows = {all};
  handle.set_tuning(std::move(table));
  nf4::Options options;
  options.workspace_size = 0;
  nf4::Problem problem = kGemm;
  problem.dtype = nf4::Dtype::bf16;
  const auto chosen = [&](int64_t m, int64_t n, int64_t k) {
    problem.m = m;
    problem.n = n;
    problem.k = k;
    const nf4::Choice choice = nf4::select(handle, problem, options);
    return choice.reason() + ": " + choice.variant->name + " " + choice.variant->config_text(choice.config);
  };
  CHECK(chosen(48, 13824, 5120) == "line 2 of the tuning table: gemm.pair_stream teams=2 cluster=2");
  CHECK(chosen(48, 32768, 5120) == "line 2 of the tuning table: gemm.pair_wgmma tiles=4 teams=1 cluster=1");
  CHECK(chosen(65, 32768, 5120).starts_with("line 2 of the tuning table: gemm.scaled_wgmma "));
  CHECK(
      chosen(1, 32768, 5120).starts_with("line 2 of the tuning table: gemm.scaled_wgmma "));  // the others do not know
  problem.products = 2;  // which gemm.pair_wgmma does not take at once
  CHECK(chosen(48, 32768, 5120).starts_with("line 2 of the tuning table: gemm.pair_stream "));
  problem.products = 1;
  problem.alignment = 1;  // none of them can
  CHECK(chosen(48, 13824, 5120).starts_with("default: "));
}
#endif

// Of any workspace that some config fits into, a plan takes one that does.
TEST_CASE("select: plans of all variants name one of their configs, that fits if any does; none is called plan") {
  for (const nf4_op_t op : kAllOps) {
    for (const bool host : {true, false}) {
      for (const nf4::Variant* variant : nf4::variants(static_cast<nf4::Op>(op), host)) {
        CAPTURE(variant->name);
        for (int config = 0; config < variant->configs; ++config) CHECK(variant->config_text(config) != "plan");
        if (variant->plan == nullptr) continue;
        nf4::Device device{0, 90, 132, "NVIDIA H200"};
        device.architecture = 90;
        device.shared_memory = 227 << 10;
        device.resident_clusters = {132, 66, 32, 16};
        for (const int64_t m : {1, 48, 256, 1024}) {
          nf4::Problem problem = kGemm;
          problem.dtype = nf4::Dtype::bf16;
          problem.m = m;
          problem.n = 21504;
          problem.k = 5376;
          REQUIRE(variant->unsupported(problem, device) == nullptr);
          const auto needs = [&](int config) {
            return variant->workspace_size == nullptr ? 0 : variant->workspace_size(problem, device, config);
          };
          size_t least = SIZE_MAX;
          for (int config = 0; config < variant->configs; ++config) least = std::min(least, needs(config));
          for (const size_t workspace : {least, least + 1, least + (size_t{1} << 20), SIZE_MAX}) {
            const auto [config, nanoseconds] = variant->plan(problem, device, workspace);
            REQUIRE((config >= 0 && config < variant->configs));
            CHECK(nanoseconds > 0);
            CHECK(needs(config) <= workspace);
          }
        }
      }
    }
  }
}

TEST_CASE("select: a variant without room is not asked whether it can run, which may load a library") {
  nf4_handle handle{};
  handle.device = {NF4_HOST_DEVICE, 0, 1, "host"};
  auto table = std::make_unique<nf4::TuningTable>();
  table->rows = {row_of(kCounting, 0, 2)};
  handle.set_tuning(std::move(table));
  nf4::Options options;
  options.workspace_size = 511;
  asked = 0;
  CHECK(nf4::select(handle, kGemm, options).variant != &kCounting);
  CHECK(asked == 0);
  options.workspace_size = 512;
  CHECK(nf4::select(handle, kGemm, options).variant == &kCounting);
  CHECK(asked == 1);
}

TEST_CASE("select: only a question may have a workspace without memory") {
  const Backend backend(NF4_HOST_DEVICE);
  nf4_options_t options = NF4_OPTIONS_INIT;
  options.workspace_size = SIZE_MAX;
  const nf4_problem_t problem = problem_of(NF4_OP_GEMM);
  nf4_selection_t selection = empty_selection();
  require_success(nf4_select(backend.handle(), &problem, &options, &selection));
  CHECK(selection.workspace_size == 0);
  CHECK(std::string(selection.variant) == "gemm.host");
}

// nf4_problem_t as releases 1.0 and 1.1 had it, and what happens to lie behind.
TEST_CASE("select: a problem of an older release has no experts") {
  const Backend backend(NF4_HOST_DEVICE);
  struct {
    nf4_problem_t problem = NF4_PROBLEM_INIT;
  } older;
  older.problem.struct_size = offsetof(nf4_problem_t, experts);
  std::memset(&older.problem.experts, 0xa5, sizeof older.problem - older.problem.struct_size);
  nf4_selection_t selection = empty_selection();
  for (const nf4_op_t op : kAllOps) {
    CAPTURE(op);
    older.problem.op = op;
    const nf4_status_t status = nf4_select(backend.handle(), &older.problem, nullptr, &selection);
    if (op != NF4_OP_GEMM_EXPERTS) {
      require_success(status);
    } else {
      check_failed(status, NF4_ERROR_INVALID_ARGUMENT, "problem->top_k is 0; expected 1 or more");
    }
  }
}

TEST_CASE("select: a problem of experts is one of its slots, rows of an expert, experts and top_k") {
  nf4_problem_t posed = NF4_PROBLEM_INIT;
  posed.op = NF4_OP_GEMM_EXPERTS;
  posed.m = 64;
  posed.n = 96;
  posed.k = 128;
  posed.experts = 5;
  posed.top_k = 8;
  posed.sorted = 7;
  const nf4::Problem problem = nf4::check_problem(&posed);
  CHECK((problem.op == nf4::Op::gemm_experts && problem.m == 64 && problem.n == 96 && problem.k == 128));
  CHECK((problem.experts == 5 && problem.top_k == 8 && problem.sorted && !problem.strided));
  posed.op = NF4_OP_SORT_EXPERTS;
  posed.n = posed.k = posed.blocksize = posed.dtype = -1;  // not asked about
  const nf4::Problem sort = nf4::check_problem(&posed);
  CHECK((sort.m == 64 && sort.experts == 5 && sort.n == 0 && sort.k == 0 && sort.alignment == 16));
  posed = NF4_PROBLEM_INIT;
  posed.experts = posed.top_k = posed.sorted = -1;  // nor here
  const nf4::Problem gemm = nf4::check_problem(&posed);
  CHECK((gemm.experts == 0 && gemm.top_k == 0 && !gemm.sorted));
}

TEST_CASE("select: a problem is strided if it says so, by whatever number") {
  for (const nf4_op_t op : {NF4_OP_PACK, NF4_OP_UNPACK, NF4_OP_GEMM}) {
    CAPTURE(op);
    nf4_problem_t posed = NF4_PROBLEM_INIT;
    posed.op = op;
    for (const int32_t strided : {0, 1, -1, 7}) {
      posed.strided = strided;
      CHECK(nf4::check_problem(&posed).strided == (strided != 0));
    }
  }
}

TEST_CASE("select: the log tells of experts") {
  const Environment log("NF4_LOG", "1");
  const Backend backend(NF4_HOST_DEVICE);
  const std::vector<uint8_t> codes(2 * 64 / 2, 0x77);
  const std::vector<float> absmax(2, 1.0f), x(64, 1.0f);
  float y[2];
  const int32_t ids[2] = {1, 0};
  nf4_weight_t weight = NF4_WEIGHT_INIT;
  weight.rows = 2;
  weight.cols = 64;
  weight.codes = codes.data();
  weight.absmax = absmax.data();
  nf4_routing_t routing = NF4_ROUTING_INIT;
  routing.experts = routing.slots = routing.top_k = 2;
  routing.ids = ids;
  routing.ids_dtype = NF4_I32;
  const std::string line = stderr_of([&] {
    require_success(
        nf4_gemm_experts(backend.handle(), y, 1, x.data(), 64, NF4_F32, &weight, nullptr, &routing, nullptr, nullptr));
  });
  CHECK(line ==
        "nf4: host: gemm_experts f32 m=2 n=1 k=64 blocksize=64 absmax=f32 experts=2 top_k=2 sorted=false: "
        "gemm_experts.host (default: the first variant that can run this)\n");
  int32_t order[2], ends[2];
  const std::string sorting =
      stderr_of([&] { require_success(nf4_sort_experts(backend.handle(), order, ends, &routing, nullptr, nullptr)); });
  CHECK(holds(sorting, " experts=2 "));
}

TEST_CASE("select: the log tells what ran and why") {
  const Environment log("NF4_LOG", "1");
  const Backend backend(NF4_HOST_DEVICE);
  const uint8_t codes[3] = {};
  const float absmax = 1.0f;
  const float x[6] = {};
  float y[4];
  nf4_weight_t weight = NF4_WEIGHT_INIT;
  weight.rows = 2;
  weight.cols = 3;
  weight.codes = codes;
  weight.absmax = &absmax;
  const nf4_options_t options = forcing("gemm.host", "");
  const auto gemm = [&](const nf4_options_t* how) {
    return stderr_of(
        [&] { require_success(nf4_gemm(backend.handle(), y, 2, x, 3, 2, NF4_F32, &weight, nullptr, how, nullptr)); });
  };
  const std::string what = "nf4: host: gemm f32 m=2 n=2 k=3 blocksize=64 absmax=f32: gemm.host";
  CHECK(gemm(nullptr) == what + " (default: the first variant that can run this)\n");
  CHECK(gemm(&options) == what + " (forced by options->variant)\n");
  weight.rows = -1;
  CHECK(stderr_of([&] { nf4_gemv(backend.handle(), y, x, NF4_F32, &weight, nullptr, nullptr, nullptr); }).empty());
}

}  // namespace nf4test
