// gemm_transposed.unpack_cublas: y = x W, a slab of columns of W after the other: unpacked into the caller's workspace,
// then multiplied by cuBLASLt (dense_product.hpp), which makes as many columns of y.
//
//     W      | slab 0 | slab 1 | ... |        all rows of `width` columns (slabs.hpp)
//     y      | x * 0  | x * 1  | ... |        no sum goes across slabs
//     workspace     [ a slab, N*width of dtype | cuBLASLt's ]
//
// So a W of any size takes the memory of a slab, which the L2 cache holds most of. A 16-bit weight is what unpack
// makes, rounded once. Where cuBLASLt has no algorithm gemm_transposed.tiled runs instead.
#include <algorithm>
#include <limits>
#include <string>

#include "dispatch.hpp"
#include "families.hpp"
#include "gemm/dense_product.hpp"
#include "gemm/slabs.hpp"
#include "gemm/unpack_slab.hpp"

namespace nf4 {
namespace {

struct Config {
  int mib;  // of a slab, at most

  std::string text() const { return "slab=" + std::to_string(mib); }
};

constexpr Config kConfigs[] = {{64}, {32}, {128}};

Slabs slabs_of(int64_t rows, int64_t cols, Dtype dtype, int config) {
  return Slabs::of(rows, cols, static_cast<int64_t>(element_size(dtype)), int64_t{kConfigs[config].mib} << 20);
}

size_t workspace_size(const Problem& problem, const Device& device, int config) {
  const Slabs slabs = slabs_of(problem.n, problem.k, problem.dtype, config);
  return DenseRoom::of(slabs.width, problem.n, problem.dtype, device).size();
}

int launch_transposed(const GemmTransposedArgs& args, const Device& device, int config, Stream stream) {
  return with_dense_products([&]() -> int {
    const Weight& weight = args.weight;
    const Slabs slabs = slabs_of(weight.rows, weight.cols, args.dtype, config);
    const DenseRoom room = DenseRoom::of(slabs.width, weight.rows, args.dtype, device);
    // Slabs begin at multiples of 16 bytes in y, or are the only one: all are aligned as y is.
    const auto product_of = [&](int64_t width) {
      const DenseProblem problem{
          args.dtype,          true, false, args.m, width, weight.rows, args.ldx, args.ldy, alignment_of(args.x),
          alignment_of(args.y)};
      return DenseProduct(device, problem, room);
    };
    const DenseProduct wide = product_of(slabs.width);
    const DenseProduct last = product_of((weight.cols - 1) % slabs.width + 1);
    if (!wide.has_algorithm() || !last.has_algorithm())
      return gemm_transposed_tiled_variants()[0].launch(&args, device, 0, stream);
    for (int64_t begin = 0; begin < weight.cols; begin += slabs.width) {
      const int64_t width = slabs.width_at(begin);
      if (const int error = launch_unpack_slab(args.workspace, weight, begin, width, args.dtype, stream);
          error != cudaSuccess)
        return error;
      const DenseProduct& product = width == slabs.width ? wide : last;
      product.launch(static_cast<std::byte*>(args.y) + static_cast<size_t>(begin) * element_size(args.dtype), args.x,
                     args.workspace, stream);
    }
    return cudaSuccess;
  });
}

const char* unsupported(const Problem& problem, const Device& device) {
  if (problem.n == 0) return "there is nothing to multiply (N = 0)";
  if (std::max({problem.m, problem.n, problem.k}) > std::numeric_limits<int32_t>::max())
    return "cuBLASLt takes sizes below 2^31";
  if (!can_unpack_slab(problem)) return "k must be a multiple of 8, and the codes aligned to 4 bytes";
  const std::string& why_not = dense_products_unsupported(device);
  return why_not.empty() ? nullptr : why_not.c_str();
}

constexpr Variant kVariants[] = {
    {"gemm_transposed.unpack_cublas", "unpack some columns to the workspace, then cuBLASLt, and so on", "unpacked",
     Op::gemm_transposed, false, std::size(kConfigs), config_text<kConfigs>, unsupported, workspace_size,
     erased<GemmTransposedArgs, launch_transposed>},
};

}  // namespace

std::span<const Variant> gemm_transposed_unpack_cublas_variants() { return kVariants; }

}  // namespace nf4
