// How much workspace products make use of, where a variant that takes some can run.
#include <algorithm>
#include <deque>
#include <vector>

#include "runtime.hpp"
#include "support/harness.hpp"
#include "support/operands.hpp"

namespace nf4test {
namespace {

nf4_weight_t weight_of(int64_t rows, int64_t cols) {
  nf4_weight_t weight = NF4_WEIGHT_INIT;  // without data
  weight.rows = rows;
  weight.cols = cols;
  return weight;
}

// What nf4_select says for aligned operands without gaps, and workspace enough.
size_t selected(nf4_handle_t handle, int64_t m, nf4_dtype_t dtype, const nf4_weight_t& weight) {
  nf4_problem_t problem = NF4_PROBLEM_INIT;
  problem.m = m;
  problem.n = weight.rows;
  problem.k = weight.cols;
  problem.dtype = dtype;
  nf4_options_t options = NF4_OPTIONS_INIT;
  options.workspace_size = SIZE_MAX;
  nf4_selection_t selection{};
  selection.struct_size = sizeof selection;
  require_success(nf4_select(handle, &problem, &options, &selection));
  return selection.workspace_size;
}

}  // namespace

TEST_CASE("workspace: that of a product is what selection takes, that of a group the most of any", "[.][cublaslt]") {
  fake_cuda::reset({fake_cuda::kH200});
  const Backend backend(0);
  nf4_handle_t const handle = backend.handle();
  size_t some = 0;
  size_t none = 0;
  for (const nf4_dtype_t dtype : kDtypes) {
    for (const int64_t m : {1, 16, 64, 257, 1024, 4096}) {
      std::deque<nf4_weight_t> weights;
      std::vector<nf4_product_t> products;
      size_t most = 0;
      for (const int64_t rows : {1024, 4096, 28672}) {
        INFO("dtype " << dtype << " m " << m << " rows " << rows);
        weights.push_back(weight_of(rows, 4096));
        size_t bytes = 1;
        require_success(nf4_gemm_workspace(handle, m, dtype, &weights.back(), &bytes));
        CHECK(bytes == selected(handle, m, dtype, weights.back()));
        ++(bytes > 0 ? some : none);
        most = std::max(most, bytes);
        weights.back().blocksize = 64 << products.size();  // so that none is launched with another
        require_success(nf4_gemm_workspace(handle, m, dtype, &weights.back(), &bytes));
        most = std::max(most, bytes);
        nf4_product_t product = NF4_PRODUCT_INIT;
        product.weight = &weights.back();
        products.push_back(product);
      }
      size_t bytes = 1;
      require_success(nf4_gemm_group_workspace(handle, products.data(), products.size(), m, dtype, &bytes));
      CHECK(bytes == most);
    }
  }
  CHECK(some > 0);
  CHECK(none > 0);
}

TEST_CASE("workspace: that of experts is what selection takes of such a routing") {
  fake_cuda::reset({fake_cuda::kH200});
  const Backend backend(0);
  size_t some = 0;
  size_t none = 0;
  for (const nf4_dtype_t dtype : kDtypes) {
    for (const int64_t experts : {1, 8, 128, 512}) {
      for (const int64_t slots : {8, 64, 512, 16384}) {
        for (const bool sorted : {false, true}) {
          INFO("dtype " << dtype << " experts " << experts << " slots " << slots << " sorted " << sorted);
          const nf4_weight_t weight = weight_of(experts * 64, 128);
          nf4_routing_t routing = NF4_ROUTING_INIT;
          routing.experts = experts;
          routing.slots = slots;
          routing.top_k = 8;
          const int32_t ends = 0;
          if (sorted) routing.ends = routing.order = &ends;
          size_t bytes = 1;
          require_success(nf4_gemm_experts_workspace(backend.handle(), dtype, &weight, &routing, &bytes));
          nf4_problem_t problem = NF4_PROBLEM_INIT;
          problem.op = NF4_OP_GEMM_EXPERTS;
          problem.dtype = dtype;
          problem.m = slots;
          problem.n = 64;
          problem.k = 128;
          problem.experts = experts;
          problem.top_k = 8;
          problem.sorted = sorted;
          nf4_options_t options = NF4_OPTIONS_INIT;
          options.workspace_size = SIZE_MAX;
          nf4_selection_t selection{};
          selection.struct_size = sizeof selection;
          require_success(nf4_select(backend.handle(), &problem, &options, &selection));
          CHECK(bytes == selection.workspace_size);
          ++(bytes > 0 ? some : none);
        }
      }
    }
  }
  CHECK(some > 0);
  CHECK(none > 0);
  nf4_routing_t nothing = NF4_ROUTING_INIT;
  nothing.experts = 8;
  const nf4_weight_t weight = weight_of(8 * 64, 128);
  size_t bytes = 1;
  require_success(nf4_gemm_experts_workspace(backend.handle(), NF4_BF16, &weight, &nothing, &bytes));
  CHECK(bytes == 0);
}

TEST_CASE("workspace: that of a transposed product is bounded", "[.][cublaslt]") {
  fake_cuda::reset({fake_cuda::kH200});
  const Backend backend(0);
  const auto needed = [&](int64_t m, int64_t rows, int64_t cols, nf4_dtype_t dtype) {
    const nf4_weight_t weight = weight_of(rows, cols);
    nf4_problem_t problem = NF4_PROBLEM_INIT;
    problem.op = NF4_OP_GEMM_TRANSPOSED;
    problem.m = m;
    problem.n = rows;
    problem.k = cols;
    problem.dtype = dtype;
    size_t bytes = 1;
    require_success(nf4_gemm_transposed_workspace(backend.handle(), m, dtype, &weight, &bytes));
    CHECK(bytes == (m == 0 ? 0 : workspace_needed(backend, problem, NF4_OPTIONS_INIT)));
    return bytes;
  };
  constexpr size_t kMiB = size_t{1} << 20;
  CHECK(needed(2048, 1024, 4096, NF4_BF16) == (8 + 32) * kMiB);
  CHECK(needed(2048, 4096, 4096, NF4_BF16) == (32 + 32) * kMiB);
  CHECK(needed(2048, 14336, 4096, NF4_BF16) == (56 + 32) * kMiB);    // two slabs of 2048 columns
  CHECK(needed(2048, 4096, 14336, NF4_F16) == (56 + 32) * kMiB);     // two of 7168
  CHECK(needed(2048, 28672, 8192, NF4_BF16) == (56 + 32) * kMiB);    // eight of 1024
  CHECK(needed(2048, 4096, 14336, NF4_F32) == (56 + 32) * kMiB);     // four of 3584
  CHECK(needed(2048, 262144, 1024, NF4_BF16) == (128 + 32) * kMiB);  // a slab has 256 columns at least
  CHECK(needed(0, 4096, 4096, NF4_BF16) == 0);
  CHECK(needed(2048, 4096, 33, NF4_BF16) == 0);  // which no slab takes
}

TEST_CASE("workspace: nothing to do needs none", "[.][cublaslt]") {
  fake_cuda::reset({fake_cuda::kH200});
  const Backend backend(0);
  size_t bytes = 1;
  const nf4_weight_t empty = weight_of(0, 4096);
  require_success(nf4_gemm_workspace(backend.handle(), 1024, NF4_BF16, &empty, &bytes));
  CHECK(bytes == 0);
  bytes = 1;
  const nf4_weight_t weight = weight_of(4096, 4096);
  require_success(nf4_gemm_workspace(backend.handle(), 0, NF4_BF16, &weight, &bytes));
  CHECK(bytes == 0);
  bytes = 1;
  require_success(nf4_gemm_group_workspace(backend.handle(), nullptr, 0, 1024, NF4_BF16, &bytes));
  CHECK(bytes == 0);
}

}  // namespace nf4test
