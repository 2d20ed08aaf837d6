// What each kind of GPU runs, by the built-in table: the table in README.md, and a product on tensor cores wherever the
// GPU has them for 16-bit values.
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "runtime.hpp"
#include "support/harness.hpp"
#include "support/operands.hpp"

namespace nf4test {
namespace {

struct Gpu {
  const char* name;
  fake_cuda::Device device;
};

// GPUs that run the same. Their architecture is that of the code which the build has for them.
struct Row {
  const char* head;  // the first cells of the row in README.md, null if that has none
  std::vector<nf4_dtype_t> dtypes;
  std::vector<Gpu> gpus;
  bool tensor_cores;  // whether there are variants that use them
};

const Gpu kT4 = {"T4", {75, 75, 64 << 10, 40}};
const std::vector<nf4_dtype_t> kBoth = {NF4_F16, NF4_BF16};

const std::vector<Row> kRows = {
    {"7.5, f16 | T4, RTX 2080", {NF4_F16}, {kT4}, true},
    {nullptr, {NF4_BF16}, {kT4}, false},
    {"8.0 | A100", kBoth, {{"A100", {80, 80, 163 << 10, 108}}}, true},
    {"8.6, 8.9 | RTX 3090, A10, RTX 4090, L4, L40S",
     kBoth,
     {{"RTX 3090", {86, 80, 99 << 10, 82}},
      {"A10", {86, 80, 99 << 10, 72}},
      {"RTX 4090", {89, 80, 99 << 10, 128}},
      {"L4", {89, 80, 99 << 10, 58}},
      {"L40S", {89, 80, 99 << 10, 142}}},
     true},
    {"9.0 | H100, H200", kBoth, {{"H100, H200", fake_cuda::kH200}}, true},
    {"10.0 | B200", kBoth, {{"B200", {100, 80, 227 << 10, 148}}}, true},
    {"12.0 | RTX 5090", kBoth, {{"RTX 5090", {120, 80, 99 << 10, 170}}}, true},
    {nullptr, kBoth, {{"B200, all architectures", {100, 100, 227 << 10, 148}}}, true},
    {nullptr, kBoth, {{"RTX 5090, all architectures", {120, 120, 99 << 10, 170}}}, true},
};

// The variant of a product of m rows by W [8192, 8192], with all the workspace that it asks for.
std::string selected(nf4_handle_t handle, int64_t m, nf4_dtype_t dtype) {
  nf4_problem_t problem = NF4_PROBLEM_INIT;
  problem.m = m;
  problem.n = problem.k = 8192;
  problem.dtype = dtype;
  nf4_options_t options = NF4_OPTIONS_INIT;
  options.workspace_size = SIZE_MAX;
  nf4_selection_t selection{};
  selection.struct_size = sizeof selection;
  require_success(nf4_select(handle, &problem, &options, &selection));
  return selection.variant;
}

bool uses_tensor_cores(std::string_view variant) {
  return variant.starts_with("gemm.pair") || variant.starts_with("gemm.scaled") || variant == "gemm.unpack_cublas";
}

// The variants for 1, 8 and 16, 64 and 256 rows of x as cells, without the operation's name, which is the same in all.
std::string cells_of(const Row& row, const Gpu& gpu) {
  fake_cuda::reset({gpu.device});
  const Backend backend(0);
  std::string cells;
  for (const int64_t m : {1, 8, 16, 64, 256}) {
    INFO(gpu.name << ", " << m << " rows");
    const std::string variant = selected(backend.handle(), m, row.dtypes.front());
    for (const nf4_dtype_t dtype : row.dtypes) CHECK(selected(backend.handle(), m, dtype) == variant);
    // Up to four rows of x the CUDA cores of 7.5 are as fast as memory.
    CHECK((uses_tensor_cores(variant) || !row.tensor_cores || (gpu.device.capability == 75 && m == 1)));
    const std::string cell = " | " + variant.substr(variant.find('.') + 1);
    if (m == 16) {
      CHECK(cells.ends_with(cell));
    } else {
      cells += cell;
    }
  }
  return cells;
}

}  // namespace

TEST_CASE("every GPU: runs what README.md says", "[.][cublaslt]") {
  std::ifstream file(NF4_README);
  const std::string readme{std::istreambuf_iterator<char>(file), {}};
  REQUIRE(!readme.empty());
  for (const Row& row : kRows) {
    for (const Gpu& gpu : row.gpus) {
      const std::string cells = cells_of(row, gpu);
      if (row.head == nullptr) continue;
      const std::string text = std::string("| ") + row.head + cells + " |\n";
      INFO(gpu.name << "; README.md lacks the row\n" << text);
      CHECK(readme.find(text) != std::string::npos);
    }
  }
}

}  // namespace nf4test
