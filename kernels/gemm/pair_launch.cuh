// Launching the kernel of pair.cuh, by either means to copy codes and x (`Copy`).
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <span>
#include <string>

#include "device/launch.cuh"
#include "device/math.hpp"
#include "dispatch.hpp"
#include "gemm/group.hpp"
#include "gemm/limits.hpp"
#include "gemm/pair.cuh"
#include "gemm/tiles.hpp"
#include "variant.hpp"

namespace nf4 {

template <class T, int Cols, class Copy, class Scales, int Products>
int launch_pair_pass(std::span<const GemmArgs> group, int64_t m0, int m, const Device& device, PairLaunch& launch,
                     Stream stream) {
  constexpr auto kKernel = gemm_pair<T, Cols, Copy, Scales, Products>;
  if (const int error = allow_shared_memory<kKernel>(device.ordinal, device.shared_memory); error != cudaSuccess)
    return error;
  typename Copy::template Source<Products> source{};
  if (const int error = Copy::template make_source<PairShape<Cols>>(group, source); error != cudaSuccess) return error;
  PairPlan& plan = launch.plan;
  plan.constant_weights = constant_weights(group);
  plan.quads = quad_scales(group);
  plan.codebook = pair_codebook<T>();

  const Blocks blocks{int64_t{plan.tiles.count} * plan.cluster, launch.threads, launch.shared_bytes, plan.cluster,
                      Copy::kDependentLaunch};
  const GemmArgs& args = group.front();
  return nf4::launch(kKernel, blocks, stream, static_cast<const T*>(args.x) + m0 * args.ldx, args.ldx, m,
                     Group<Products>::of(group, m0, sizeof(T), PairShape<Cols>::kRows), plan, source);
}

// Passes of as many rows of x as are left, Copy::kMostCols at most, fewer where x has no room in shared memory.
template <class Copy>
int launch_gemm_pair(std::span<const GemmArgs> group, const Device& device, int config_index, Stream stream) {
  const PairConfig config = Copy::kConfigs[config_index];
  const GemmArgs& args = group.front();  // for what all have in common
  const Weight& weight = args.weight;
  const int maps = weight.absmax.dtype == Dtype::u8 ? static_cast<int>(group.size()) : 1;
  // Launches a pass of up to `cols` rows if there is room; false if there is none.
  const auto try_pass = [&](auto cols, int64_t m0, int64_t& rows, int& error) {
    constexpr int kCols = decltype(cols)::value;
    PairLaunch launch;
    const int64_t tiles = count_tiles(GroupRows(group), PairShape<kCols>::kRows);
    if (!lay_out_pair<kCols>(tiles, weight.cols, maps, device, Copy::kMostCluster, config, launch)) return false;
    rows = std::min<int64_t>(rows, kCols);
    const auto run = [&](auto type, auto scales, auto products) {
      return launch_pair_pass<decltype(type), kCols, Copy, decltype(scales), decltype(products)::value>(
          group, m0, static_cast<int>(rows), device, launch, stream);
    };
    const auto with_products = [&](auto type, auto scales) {
      return group.size() == 1 ? run(type, scales, Constant<1>{}) : run(type, scales, Constant<kMostProducts>{});
    };
    error = with_16bit(args.dtype, [&](auto type) {
      return weight.absmax.dtype == Dtype::f32 ? with_products(type, F32Scales{}) : with_products(type, PackedScales{});
    });
    return true;
  };
  return in_passes(args.m, [&](int64_t m0, int64_t& rows) {
    int error = cudaSuccess;
    const int64_t left = rows;
    const auto pass = [&](auto cols) {
      constexpr int kCols = decltype(cols)::value;
      if constexpr (kCols > Copy::kMostCols)
        return false;
      else
        return left > kCols / 2 && try_pass(cols, m0, rows, error);
    };
    const bool launched = pass(Constant<4>{}) || pass(Constant<2>{}) || pass(Constant<1>{});
    return launched ? error : static_cast<int>(cudaErrorInvalidConfiguration);
  });
}

template <class Copy>
const char* pair_unsupported(const Problem& problem, const Device& device) {
  if (device.architecture < Copy::kArchitecture) return Copy::kNeedsArchitecture;
  if (const char* reason = pair_scales_unsupported(problem); reason != nullptr) return reason;
  PairLaunch launch;
  const int64_t tiles = ceil_div(problem.n, PairShape<1>::kRows);
  if (!lay_out_pair<1>(tiles, problem.k, kMostProducts, device, Copy::kMostCluster, {kPairProducers, 2, 1}, launch))
    return "a row of x must fit into the shared memory that the pair table leaves";
  return nullptr;
}

template <class Copy>
std::string pair_config_text(int config) {
  return Copy::kConfigs[config].text();
}

template <class Copy>
constexpr Variant pair_variant(const char* name, const char* description) {
  return {name,
          description,
          "codebook16",
          Op::gemm,
          false,
          static_cast<int>(std::size(Copy::kConfigs)),
          pair_config_text<Copy>,
          pair_unsupported<Copy>,
          nullptr,
          launch_one<launch_gemm_pair<Copy>>,
          launch_gemm_pair<Copy>};
}

}  // namespace nf4
