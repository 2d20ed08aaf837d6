#include <algorithm>
#include <array>
#include <memory>
#include <span>
#include <vector>

#include "host/host.hpp"
#include "overlap.hpp"
#include "select.hpp"
#include "text/formatted.hpp"

using namespace nf4;

namespace {

std::array<Extent, 1> x_extent(const GemmArgs& args) {
  return {
      matrix_extent("x", args.x, args.weight.rows > 0 ? args.m : 0, args.weight.cols, args.ldx, size_of(args.dtype))};
}

Extent y_extent(const GemmArgs& args) {
  return matrix_extent("y", args.y, args.m, args.weight.rows, args.ldy, size_of(args.dtype));
}

// What a product reads but for x.
std::array<Extent, 6> factor_extents(const GemmArgs& args) {
  const bool reads_bias = args.bias != nullptr && args.m > 0;
  const int64_t bias_bytes = reads_bias ? args.weight.rows * static_cast<int64_t>(size_of(args.dtype)) : 0;
  const auto [codes, absmax, map, absmax2, offset] = weight_extents(args.weight);
  return {codes, absmax, map, absmax2, offset, array_extent("bias", args.bias, bias_bytes)};
}

GemmArgs check_gemm(void* y, int64_t ldy, const void* x, int64_t ldx, int64_t m, nf4_dtype_t dtype,
                    const nf4_weight_t* weight, const void* bias) {
  const Dtype type = check_dtype("dtype", dtype);
  const Weight view = check_weight(weight, Reads::codes_and_scales);
  const int64_t inputs = check_matrix("m", m, "weight->cols", view.cols);
  const int64_t outputs = check_matrix("m", m, "weight->rows", view.rows);
  check_leading("ldy", ldy, "weight->rows", view.rows, m);
  check_leading("ldx", ldx, "weight->cols", view.cols, m);
  const size_t size = size_of(type);
  check_data("y", y, size, outputs);
  check_data("x", x, size, outputs > 0 ? inputs : 0);
  check_data("bias", bias, size, 0);
  const GemmArgs args{y, ldy, x, ldx, m, type, view, bias, nullptr};
  check_apart(y_extent(args), x_extent(args));
  check_apart(y_extent(args), factor_extents(args));
  return args;
}

// What a call with this W would be given if x and y were as nf4_gemm likes them best: aligned, and without gaps.
GemmArgs imagine_gemm(int64_t m, nf4_dtype_t dtype, const nf4_weight_t* weight) {
  const Dtype type = check_dtype("dtype", dtype);
  const Weight view = check_weight(weight, Reads::nothing);
  check_matrix("m", m, "weight->cols", view.cols);
  check_matrix("m", m, "weight->rows", view.rows);
  return {nullptr, view.rows, nullptr, view.cols, m, type, view, nullptr, nullptr};
}

Problem problem_of(const GemmArgs& args) {
  const Weight& weight = args.weight;
  Alignment alignment;
  alignment.add(args.x).add(weight.codes);
  if (args.m > 1) alignment.add_bytes(args.ldx * static_cast<int64_t>(size_of(args.dtype)));
  const bool strided = args.m > 1 && (args.ldy != weight.rows || args.ldx != weight.cols);
  return {
      Op::gemm,          args.dtype, args.m, weight.rows, weight.cols, 1 << weight.log2_blocksize, weight.absmax.dtype,
      alignment.value(), strided};
}

using Scratch = std::unique_ptr<double[]>;

// Scratch memory for the products on the host, which have it one after the other; none is needed on a CUDA device.
Scratch take_scratch(const nf4_handle& handle, std::span<GemmArgs> products) {
  if (!handle.on_host()) return nullptr;
  int64_t count = 0;
  for (const GemmArgs& args : products) count = std::max(count, host_gemm_scratch(args, handle.device));
  Scratch scratch = std::make_unique_for_overwrite<double[]>(static_cast<size_t>(count));
  for (GemmArgs& args : products) args.workspace = scratch.get();
  return scratch;
}

void gemm(nf4_handle_t handle, void* y, int64_t ldy, const void* x, int64_t ldx, int64_t m, nf4_dtype_t dtype,
          const nf4_weight_t* weight, const void* bias, const nf4_options_t* options, nf4_stream_t stream) {
  check_handle(handle);
  GemmArgs args = check_gemm(y, ldy, x, ldx, m, dtype, weight, bias);
  const Options checked = check_options(options, false);
  check_stream(*handle, stream);
  if (m == 0 || args.weight.rows == 0) return;
  args.workspace = checked.workspace;
  const Problem problem = problem_of(args);
  const Choice choice = select(*handle, problem, checked);
  const Scratch scratch = take_scratch(*handle, {&args, 1});
  start(*handle, problem, choice,
        [&](const Variant& variant) { return variant.launch(&args, handle->device, choice.config, stream); });
}

// The arguments of all products, as check(product) gives them. What is said of a wrong one names it.
template <class Check>
std::vector<GemmArgs> check_products(const nf4_product_t* products, size_t count, const Check& check) {
  if (count > 0) check_not_null("products", products);
  std::vector<GemmArgs> all;
  for (size_t i = 0; i < count; ++i) {
    try {
      const GemmArgs args = check(read_element("product", products, i));
      if (i > 0 && args.weight.cols != all[0].weight.cols) {
        fail(NF4_ERROR_INVALID_ARGUMENT, "weight->cols is {}; expected that of products[0], {}, since x is the same",
             args.weight.cols, all[0].weight.cols);
      }
      all.push_back(args);
    } catch (Error& error) {
      error.message = formatted("products[{}]: {}", i, error.message);
      throw;
    }
  }
  return all;
}

// No product writes what another one reads or writes.
void check_products_apart(std::span<const GemmArgs> products) {
  std::vector<std::array<Extent, 7>> operands;
  for (const GemmArgs& args : products) {
    const auto [codes, absmax, map, absmax2, offset, bias] = factor_extents(args);
    operands.push_back({y_extent(args), codes, absmax, map, absmax2, offset, bias});
  }
  for (size_t i = 0; i < operands.size(); ++i) {
    for (size_t j = 0; j < operands.size(); ++j) {
      try {
        if (i != j) check_apart(operands[i].front(), operands[j]);
      } catch (Error& error) {
        error.message = formatted("products[{}] and products[{}]: {}", i, j, error.message);
        throw;
      }
    }
  }
}

void drop_those_without_outputs(std::vector<GemmArgs>& products) {
  std::erase_if(products, [](const GemmArgs& args) { return args.m == 0 || args.weight.rows == 0; });
}

// Makes `problem` that of one more product, if a launch may take it with those that it is of.
bool join(Problem& problem, const Problem& other) {
  const bool alike = other.blocksize == problem.blocksize && other.absmax_dtype == problem.absmax_dtype;
  if (!alike || other.n > kMaxElements / std::max(problem.m, problem.k) - problem.n) return false;
  problem.n += other.n;
  problem.products += other.products;
  problem.alignment = std::min(problem.alignment, other.alignment);
  problem.strided = problem.strided || other.strided;
  return true;
}

struct Launch {
  Problem problem;  // of all its products as one
  Choice choice;
  std::span<const GemmArgs> products;
};

// How products are launched: as many at a time as may be, where the variant that is chosen for them takes several.
std::vector<Launch> plan(const nf4_handle& handle, std::span<const GemmArgs> products, const Options& options) {
  const Variant* const forced = forced_variant(handle, Op::gemm, options);
  const bool may_group = forced == nullptr || forced->launch_group != nullptr;
  std::vector<Launch> launches;
  while (!products.empty()) {
    Problem problem = problem_of(products[0]);
    size_t count = 1;
    while (may_group && count < std::min<size_t>(products.size(), kMostProducts) &&
           join(problem, problem_of(products[count]))) {
      ++count;
    }
    Choice choice = select(handle, problem, options);
    if (count > 1 && choice.variant->launch_group == nullptr) {
      count = 1;
      problem = problem_of(products[0]);
      choice = select(handle, problem, options);
    }
    launches.push_back({problem, choice, products.first(count)});
    products = products.subspan(count);
  }
  return launches;
}

void gemm_group(nf4_handle_t handle, const nf4_product_t* products, size_t count, const void* x, int64_t ldx, int64_t m,
                nf4_dtype_t dtype, const nf4_options_t* options, nf4_stream_t stream) {
  check_handle(handle);
  const Options checked = check_options(options, false);
  check_stream(*handle, stream);
  std::vector<GemmArgs> all = check_products(products, count, [&](const nf4_product_t& product) {
    return check_gemm(product.y, product.ldy, x, ldx, m, dtype, product.weight, product.bias);
  });
  check_products_apart(all);
  drop_those_without_outputs(all);
  for (GemmArgs& args : all) args.workspace = checked.workspace;
  const std::vector<Launch> launches = plan(*handle, all, checked);
  const Scratch scratch = take_scratch(*handle, all);
  for (const Launch& launch : launches) {
    const bool group = launch.products.size() > 1;
    start(*handle, launch.problem, launch.choice, [&](const Variant& variant) {
      return group ? variant.launch_group(launch.products, handle->device, launch.choice.config, stream)
                   : variant.launch(launch.products.data(), handle->device, launch.choice.config, stream);
    });
  }
}

// What the products would take for workspace if there were enough.
size_t workspace_of(const nf4_handle& handle, std::span<const GemmArgs> products) {
  Options ample;
  ample.workspace_size = SIZE_MAX;
  size_t size = 0;
  for (const Launch& launch : plan(handle, products, ample)) {
    size = std::max(size, launch.choice.workspace_size(launch.problem, handle.device));
  }
  return size;
}

}  // namespace

nf4_status_t nf4_gemm(nf4_handle_t handle, void* y, int64_t ldy, const void* x, int64_t ldx, int64_t m,
                      nf4_dtype_t dtype, const nf4_weight_t* weight, const void* bias, const nf4_options_t* options,
                      nf4_stream_t stream) {
  return guarded([&] { gemm(handle, y, ldy, x, ldx, m, dtype, weight, bias, options, stream); });
}

nf4_status_t nf4_gemv(nf4_handle_t handle, void* y, const void* x, nf4_dtype_t dtype, const nf4_weight_t* weight,
                      const void* bias, const nf4_options_t* options, nf4_stream_t stream) {
  return guarded([&] {
    check_handle(handle);
    check_struct("weight", weight);
    gemm(handle, y, weight->rows, x, weight->cols, 1, dtype, weight, bias, options, stream);
  });
}

nf4_status_t nf4_gemm_group(nf4_handle_t handle, const nf4_product_t* products, size_t count, const void* x,
                            int64_t ldx, int64_t m, nf4_dtype_t dtype, const nf4_options_t* options,
                            nf4_stream_t stream) {
  return guarded([&] { gemm_group(handle, products, count, x, ldx, m, dtype, options, stream); });
}

nf4_status_t nf4_gemm_workspace(nf4_handle_t handle, int64_t m, nf4_dtype_t dtype, const nf4_weight_t* weight,
                                size_t* bytes) {
  return guarded([&] {
    check_handle(handle);
    std::vector<GemmArgs> all = {imagine_gemm(m, dtype, weight)};
    check_not_null("bytes", bytes);
    drop_those_without_outputs(all);
    *bytes = workspace_of(*handle, all);
  });
}

nf4_status_t nf4_gemm_group_workspace(nf4_handle_t handle, const nf4_product_t* products, size_t count, int64_t m,
                                      nf4_dtype_t dtype, size_t* bytes) {
  return guarded([&] {
    check_handle(handle);
    std::vector<GemmArgs> all = check_products(
        products, count, [&](const nf4_product_t& product) { return imagine_gemm(m, dtype, product.weight); });
    check_not_null("bytes", bytes);
    drop_those_without_outputs(all);
    *bytes = workspace_of(*handle, all);
  });
}
