// gemm.unpack_cublas: unpacks W into the caller's workspace, then lets cuBLASLt multiply (dense_product.hpp). For so
// many rows of x that the product is bound by arithmetic, and writing and reading W in 16 bits costs little beside it.
//
//     workspace     [ W, N*K of dtype | cuBLASLt's ]
//
// A 16-bit weight is what unpack makes, rounded once. Where cuBLASLt has no algorithm, for an alignment or a type that
// the device lacks, gemm.tiled runs instead.
#include <algorithm>
#include <array>
#include <limits>

#include "dispatch.hpp"
#include "families.hpp"
#include "gemm/dense_product.hpp"

namespace nf4 {
namespace {

struct Config {
  const char* stores;  // unpack.stream's: whether the weights may stay in the L2 cache for cuBLASLt to find

  std::string text() const { return std::string("stores=") + stores; }
};

constexpr Config kConfigs[] = {{"cached"}, {"streaming"}};

size_t workspace_size(const Problem& problem, const Device& device, int) {
  return DenseRoom::of(problem.n, problem.k, problem.dtype, device).size();
}

// For each of our configs the first of unpack.stream's that stores in the same way.
std::array<int, std::size(kConfigs)> stream_configs(const Variant& stream) {
  std::array<int, std::size(kConfigs)> indices{};
  for (size_t ours = 0; ours < indices.size(); ++ours) {
    int& index = indices[ours];
    while (index + 1 < stream.configs && !stream.config_text(index).ends_with(kConfigs[ours].text())) ++index;
  }
  return indices;
}

int launch_unpack(void* w, const GemmArgs& args, const Device& device, int config, Stream stream) {
  const Weight& weight = args.weight;
  const UnpackArgs unpack{w, weight.cols, args.dtype, weight};
  const auto alignment = static_cast<int>(std::min(alignment_of(weight.codes), alignment_of(weight.absmax.values)));
  const Problem problem{Op::unpack,          args.dtype, 1,    weight.rows, weight.cols, 1 << weight.log2_blocksize,
                        weight.absmax.dtype, alignment,  false};
  static const Variant& fast = unpack_stream_variants()[0];
  static const auto fast_configs = stream_configs(fast);
  if (fast.unsupported(problem, device) == nullptr)
    return fast.launch(&unpack, device, fast_configs[static_cast<size_t>(config)], stream);
  return unpack_lut_variants()[0].launch(&unpack, device, 0, stream);
}

// Writes the bias to every row of y, for the product to be added to: a bias fused into the product gave inexact
// results in bf16, as if it were added after the sum had been rounded. The rows written are copied to as many more,
// until all are there.
int spread_bias(const GemmArgs& args, Stream stream) {
  const size_t size = element_size(args.dtype);
  const size_t width = static_cast<size_t>(args.weight.rows) * size;
  const size_t pitch = static_cast<size_t>(args.ldy) * size;
  auto* const y = static_cast<std::byte*>(args.y);
  cudaError_t error = cudaMemcpyAsync(y, args.bias, width, cudaMemcpyDeviceToDevice, stream);
  for (int64_t done = 1; done < args.m && error == cudaSuccess; done *= 2) {
    error = cudaMemcpy2DAsync(y + static_cast<size_t>(done) * pitch, pitch, y, pitch, width,
                              static_cast<size_t>(std::min(done, args.m - done)), cudaMemcpyDeviceToDevice, stream);
  }
  return error;
}

int launch_unpack_cublas(const GemmArgs& args, const Device& device, int config, Stream stream) {
  return with_dense_products([&]() -> int {
    const Weight& weight = args.weight;
    const bool biased = args.bias != nullptr;
    const DenseProblem problem{
        args.dtype,          false, biased, args.m, weight.rows, weight.cols, args.ldx, args.ldy, alignment_of(args.x),
        alignment_of(args.y)};
    const DenseProduct product(device, problem, DenseRoom::of(weight.rows, weight.cols, args.dtype, device));
    if (!product.has_algorithm()) return gemm_tiled_variants()[0].launch(&args, device, 0, stream);
    if (const int error = launch_unpack(args.workspace, args, device, config, stream); error != cudaSuccess)
      return error;
    if (biased) {
      if (const int error = spread_bias(args, stream); error != cudaSuccess) return error;
    }
    product.launch(args.y, args.x, args.workspace, stream);
    return cudaSuccess;
  });
}

const char* unsupported(const Problem& problem, const Device& device) {
  if (problem.k == 0) return "there is nothing to multiply (K = 0)";
  if (std::max({problem.m, problem.n, problem.k}) > std::numeric_limits<int32_t>::max())
    return "cuBLASLt takes sizes below 2^31";
  const std::string& why_not = dense_products_unsupported(device);
  return why_not.empty() ? nullptr : why_not.c_str();
}

constexpr Variant kVariants[] = {
    {"gemm.unpack_cublas", "unpack to the workspace, then cuBLASLt, loaded at run time: for many rows of x", "unpacked",
     Op::gemm, false, std::size(kConfigs), config_text<kConfigs>, unsupported, workspace_size,
     erased<GemmArgs, launch_unpack_cublas>},
};

}  // namespace

std::span<const Variant> gemm_unpack_cublas_variants() { return kVariants; }

}  // namespace nf4
