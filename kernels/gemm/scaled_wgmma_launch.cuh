// Launching the kernel of scaled_wgmma.cuh, for rows of x.
#pragma once

#include "gemm/scaled_wgmma.cuh"

#include <algorithm>

#include "device/launch.cuh"
#include "device/math.hpp"
#include "device/tensor_map.cuh"
#include "dispatch.hpp"
#include "gemm/launch_number.hpp"
#include "gemm/limits.hpp"
#include "gemm/operand_maps.cuh"

namespace nf4 {

// Multiplies rows m0 to m0 + m of x.
template <class T, class Shape, bool Even, class Args>
int launch_scaled_rows(const Args& args, const T* bias, int64_t m0, int64_t m, const Device& device,
                       const ScaledConfig& config, ScaledLaunch& launch, Stream stream) {
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
                                          weight.cols / 2, weight.cols / 2, Shape::kCodesRows, Shape::kCodesRowBytes);
      error != cudaSuccess) {
    return error;
  }
  CUtensorMap x_map{};
  if (const int error = encode_x_map(&x_map, args, m0, m, Shape::kCols, kPairBlock); error != cudaSuccess) {
    return error;
  }

  const Blocks blocks{count, Shape::kThreads, launch.shared_bytes, plan.cluster, true};
  return nf4::launch(kKernel, blocks, stream, static_cast<T*>(args.y) + m0 * args.ldy, args.ldy, static_cast<int>(m),
                     weight, bias, plan, codes_map, x_map);
}

// Multiplies all rows of x.
template <bool Transposed, class Args>
int launch_scaled(const Args& args, const void* bias, const Device& device, const ScaledConfig& config, Stream stream) {
  return with_scaled_shape<Transposed>(config, 1 << args.weight.log2_blocksize, [&](auto shape) {
    using Shape = decltype(shape);
    ScaledLaunch launch = lay_out_scaled<Shape>(args.y_cols(), args.x_cols(), device, config);
    return in_passes(args.m, [&](int64_t m0, int64_t& rows) {
      rows = std::min(rows, launch.most_rows);
      return with_16bit(args.dtype, [&](auto type) {
        using T = decltype(type);
        const auto* const add = static_cast<const T*>(bias);
        if constexpr (Shape::kRows == 128) {  // as configs have it
          if (config.cluster == kScaledEven)
            return launch_scaled_rows<T, Shape, true>(args, add, m0, rows, device, config, launch, stream);
        }
        return launch_scaled_rows<T, Shape, false>(args, add, m0, rows, device, config, launch, stream);
      });
    });
  });
}

inline size_t scaled_workspace_size(const ScaledConfig& config, const Device& device) {
  return static_cast<size_t>(scaled_workspace(config, std::max(1, device.clusters(1))));
}

// Why the product with W, or with its transpose, cannot be made, or null.
inline const char* scaled_unsupported(const Problem& problem, const Device& device) {
  if (device.architecture != kScaledArchitecture) return "it needs code for compute capability 9.0a, on such a device";
  if (const char* reason = tensor_core_unsupported(problem); reason != nullptr) return reason;
  if (device.shared_memory < kScaledLeastBytes) return "shared memory must hold the pair table and two stages";
  return nullptr;
}

}  // namespace nf4
