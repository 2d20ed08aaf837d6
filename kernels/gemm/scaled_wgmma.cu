// gemm.scaled_wgmma: launching the kernel of scaled_wgmma.cuh.
#include "gemm/scaled_wgmma.cuh"

#include <algorithm>
#include <iterator>

#include "device/launch.cuh"
#include "device/math.hpp"
#include "device/tensor_map.cuh"
#include "dispatch.hpp"
#include "families.hpp"
#include "gemm/launch_number.hpp"
#include "gemm/limits.hpp"
#include "gemm/operand_maps.cuh"
#include "gemm/scaled_wgmma_cost.hpp"

namespace nf4 {
namespace {

// Multiplies rows m0 to m0 + m of x.
template <class T, class Shape, bool Even>
int launch_rows(const GemmArgs& args, int64_t m0, int64_t m, const Device& device, const ScaledConfig& config,
                ScaledLaunch& launch, Stream stream) {
  constexpr auto kKernel = gemm_scaled_wgmma<T, Shape, Even>;
  if (const int error = allow_shared_memory<kKernel>(device.ordinal, device.shared_memory); error != cudaSuccess)
    return error;
  ScaledPlan& plan = launch.plan;
  plan.col_tiles = static_cast<int>(ceil_div(m, Shape::kCols));
  const int64_t tiles = launch.row_tiles * plan.col_tiles;
  int64_t count = tiles * plan.cluster;
  if constexpr (Even) {
    share_evenly<Shape>(plan, tiles, std::max(1, device.clusters(1)));
    count = plan.shares.count;
    plan.launch = launch_number();
    plan.counters = static_cast<uint64_t*>(args.workspace);
    plan.parts = reinterpret_cast<float*>(static_cast<uint8_t*>(args.workspace) +
                                          scaled_counter_bytes(config, plan.shares.count));
  }
  plan.constant_weights = args.weight.constant;
  plan.codebook = pair_codebook<f16>(kScaledTableFactor);

  const Weight& weight = args.weight;
  CUtensorMap codes_map{};
  if (const int error = encode_tensor_map(&codes_map, CU_TENSOR_MAP_DATA_TYPE_UINT8, weight.codes, weight.rows,
                                          weight.cols / 2, weight.cols / 2, Shape::kRows, Shape::kCodesRowBytes);
      error != cudaSuccess) {
    return error;
  }
  CUtensorMap x_map{};
  if (const int error = encode_x_map(&x_map, args, m0, m, Shape::kCols, kPairBlock); error != cudaSuccess) {
    return error;
  }

  const Blocks blocks{count, Shape::kThreads, launch.shared_bytes, plan.cluster, true};
  return nf4::launch(kKernel, blocks, stream, static_cast<T*>(args.y) + m0 * args.ldy, args.ldy, static_cast<int>(m),
                     weight, static_cast<const T*>(args.bias), plan, codes_map, x_map);
}

int launch_gemm_scaled_wgmma(const GemmArgs& args, const Device& device, int config_index, Stream stream) {
  const ScaledConfig& config = kScaledConfigs[config_index];
  const Weight& weight = args.weight;
  return with_scaled_shape(config, 1 << weight.log2_blocksize, [&](auto shape) {
    using Shape = decltype(shape);
    ScaledLaunch launch = lay_out_scaled<Shape>(weight.rows, weight.cols, device, config);
    return in_passes(args.m, [&](int64_t m0, int64_t& rows) {
      rows = std::min(rows, launch.most_rows);
      return with_16bit(args.dtype, [&](auto type) {
        using T = decltype(type);
        if constexpr (Shape::kRows == 128) {  // as configs have it
          if (config.cluster == kScaledEven)
            return launch_rows<T, Shape, true>(args, m0, rows, device, config, launch, stream);
        }
        return launch_rows<T, Shape, false>(args, m0, rows, device, config, launch, stream);
      });
    });
  });
}

const char* unsupported(const Problem& problem, const Device& device) {
  if (device.architecture != kScaledArchitecture) return "it needs code for compute capability 9.0a, on such a device";
  if (const char* reason = tensor_core_unsupported(problem); reason != nullptr) return reason;
  if (device.shared_memory < kScaledLeastBytes) return "shared memory must hold the pair table and two stages";
  return nullptr;
}

size_t workspace_size(const Problem&, const Device& device, int config) {
  return static_cast<size_t>(scaled_workspace(kScaledConfigs[config], std::max(1, device.clusters(1))));
}

constexpr Variant kVariants[] = {
    {"gemm.scaled_wgmma", "weights scaled in registers and warpgroup tensor cores, for many rows of x", "scaled16",
     Op::gemm, false, static_cast<int>(std::size(kScaledConfigs)), config_text<kScaledConfigs>, unsupported,
     workspace_size, erased<GemmArgs, launch_gemm_scaled_wgmma>, nullptr, plan_scaled},
};

}  // namespace

std::span<const Variant> gemm_scaled_wgmma_variants() { return kVariants; }

}  // namespace nf4
