// gemm_experts.scaled_wgmma: launching the kernels of experts_scaled.cuh.
#include "gemm/experts_scaled.cuh"

#include <algorithm>
#include <iterator>

#include "device/launch.cuh"
#include "device/math.hpp"
#include "device/tensor_map.cuh"
#include "dispatch.hpp"
#include "families.hpp"
#include "gemm/limits.hpp"

namespace nf4 {
namespace {

// Gives the call a routing with ends, and a row of x for each position, in the workspace where it has them not.
int put_in_order(GemmExpertsArgs& args, const Device& device, Stream stream) {
  constexpr int kElements = 8;  // of 16 bits, in the 16 bytes of a piece
  const Problem problem = problem_of(args);
  auto* const workspace = static_cast<uint8_t*>(args.workspace);
  if (!problem.sorted) {
    if (const int error = sort_into(workspace, device, stream, args.routing); error != cudaSuccess) return error;
  }
  if (!gathers_x(problem.in_order, problem.top_k)) return cudaSuccess;
  uint8_t* const rows = workspace + ExpertsScaledRoom::of(problem).x;
  const Blocks blocks{ceil_div(problem.m, kGatherWarps), kGatherWarps * kWarpSize, 0, 1, true};
  const int error =
      launch(gather_slots, blocks, stream, reinterpret_cast<uint4*>(rows), static_cast<const uint4*>(args.x),
             args.ldx / kElements, static_cast<int>(problem.k / kElements), args.routing);
  args.x = rows;
  args.ldx = problem.k;
  return error;
}

// What tiles of a width need; the most shared memory that any of them takes goes to `shared_bytes`.
template <class Shape>
int lay_out_way(const GemmExpertsArgs& args, const Device& device, ExpertsScaledWay& way, int& shared_bytes) {
  const Weight& weight = args.weight;
  const ScaledLaunch launch =
      lay_out_scaled<Shape>(args.n, weight.cols, device, {Shape::kRows, Shape::kCols, /*cluster=*/1});
  way.plan = launch.plan;
  way.plan.col_tiles = 1;
  way.plan.codebook = pair_codebook<f16>(kScaledTableFactor);
  shared_bytes = std::max(shared_bytes, launch.shared_bytes);
  if (const int error = encode_tensor_map(&way.codes, CU_TENSOR_MAP_DATA_TYPE_UINT8, weight.codes, weight.rows,
                                          weight.cols / 2, weight.cols / 2, Shape::kRows, Shape::kCodesRowBytes);
      error != cudaSuccess) {
    return error;
  }
  return encode_tensor_map(&way.x, CU_TENSOR_MAP_DATA_TYPE_UINT16, args.x, args.routing.slots, weight.cols,
                           (args.routing.slots > 1 ? args.ldx : weight.cols) * 2, Shape::kCols, kPairBlock);
}

template <class T, int FormatCols>
int launch_kernel(const GemmExpertsArgs& args, const Device& device, const ExpertsScaledPlan& plan, Stream stream) {
  constexpr auto kKernel = gemm_experts_scaled<T, FormatCols>;
  using Narrow = ScaledShape<kExpertsScaledRows, 64, FormatCols>;
  using Middle = ScaledShape<kExpertsScaledRows, 128, FormatCols>;
  using Wide = ScaledShape<kExpertsScaledRows, 256, FormatCols>;
  if (const int error = allow_shared_memory<kKernel>(device.ordinal, device.shared_memory); error != cudaSuccess)
    return error;
  ExpertsScaledWay narrow{}, middle{}, wide{};
  int shared_bytes = 0;
  if (const int error = lay_out_way<Narrow>(args, device, narrow, shared_bytes); error != cudaSuccess) return error;
  if (const int error = lay_out_way<Middle>(args, device, middle, shared_bytes); error != cudaSuccess) return error;
  if (const int error = lay_out_way<Wide>(args, device, wide, shared_bytes); error != cudaSuccess) return error;
  const Blocks blocks{plan.tiles, Wide::kThreads, shared_bytes, 1, true};
  return nf4::launch(kKernel, blocks, stream, args, plan, narrow, middle, wide);
}

int launch_experts_scaled(const GemmExpertsArgs& asked, const Device& device, int config, Stream stream) {
  GemmExpertsArgs args = asked;
  const ExpertsScaledPlan plan = ExpertsScaledPlan::of(problem_of(args), kExpertsScaledConfigs[config]);
  if (const int error = put_in_order(args, device, stream); error != cudaSuccess) return error;
  return with_16bit(args.dtype, [&](auto type) {
    using T = decltype(type);
    return args.weight.log2_blocksize == 5 ? launch_kernel<T, 32>(args, device, plan, stream)
                                           : launch_kernel<T, 64>(args, device, plan, stream);
  });
}

size_t workspace_size(const Problem& problem, const Device&, int) { return ExpertsScaledRoom::of(problem).bytes; }

const char* unsupported(const Problem& problem, const Device& device) {
  if (device.architecture != kScaledArchitecture) return "it needs code for compute capability 9.0a, on such a device";
  if (const char* reason = tensor_core_unsupported(problem); reason != nullptr) return reason;
  if (device.shared_memory < kScaledLeastBytes) return "shared memory must hold the pair table and two stages";
  if (problem.experts * problem.n > int64_t{1} << 30) return "all experts must have 2^30 rows of W at most";
  if (problem.experts > kExpertsScaledMostExperts) return "there may be 4096 experts at most";
  if (problem.m > kExpertsScaledMostSlots) return "there may be 2^24 slots at most";
  const bool room = std::all_of(std::begin(kExpertsScaledConfigs), std::end(kExpertsScaledConfigs),
                                [&](const ExpertsScaledConfig& config) {
                                  return ExpertsScaledPlan::of(problem, config).tiles <= kExpertsScaledMostTiles;
                                });
  return room ? nullptr : "there may be 2^30 tiles of W and slots at most";
}

constexpr Variant kVariants[] = {
    {"gemm_experts.scaled_wgmma", "gemm.scaled_wgmma by experts, for many slots each, x gathered into the workspace",
     "scaled16", Op::gemm_experts, false, static_cast<int>(std::size(kExpertsScaledConfigs)),
     config_text<kExpertsScaledConfigs>, unsupported, workspace_size, erased<GemmExpertsArgs, launch_experts_scaled>},
};

}  // namespace

std::span<const Variant> gemm_experts_scaled_variants() { return kVariants; }

}  // namespace nf4
