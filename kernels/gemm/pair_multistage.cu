// gemm.pair_multistage: launching the kernel of pair_multistage.cuh.
#include "gemm/pair_multistage.cuh"

#include <algorithm>
#include <iterator>

#include "device/launch.cuh"
#include "dispatch.hpp"
#include "families.hpp"
#include "gemm/launch_number.hpp"
#include "gemm/limits.hpp"

namespace nf4 {
namespace {

template <class T, class Sizes, class Scales>
int launch_multistage(std::span<const GemmArgs> group, int64_t m0, int m, const Device& device, MultistagePlan& plan,
                      MultistageSplit split, Stream stream) {
  constexpr auto kKernel = gemm_pair_multistage<T, Sizes::kColTiles, Scales>;
  if (const int error = allow_shared_memory<kKernel>(device.ordinal, device.shared_memory); error != cudaSuccess)
    return error;
  const GemmArgs& args = group.front();
  plan.quads = quad_scales(group);
  plan.codebook = pair_codebook<T>();
  if (split == MultistageSplit::even) {
    plan.launch = launch_number();
    plan.counters = static_cast<uint64_t*>(args.workspace);
    plan.parts = reinterpret_cast<float*>(static_cast<uint8_t*>(args.workspace) +
                                          multistage_counter_bytes(std::max(1, device.clusters(1))));
  }
  const MultistageX<T> x{static_cast<const T*>(args.x) + m0 * args.ldx, args.ldx, m};
  const Blocks blocks{plan.shares.count, plan.threads, plan.shared_bytes, 1, false};
  return nf4::launch(kKernel, blocks, stream, x, Group<kMostProducts>::of(group, m0, sizeof(T), plan.rows), plan);
}

// Calls f(sizes) for the fewest rows of x a pass that are enough for m, or the most.
template <class F>
auto with_multistage_sizes(int64_t m, const F& f) {
  if (m > 16) return f(MultistageSizes<4>{});
  if (m > 8) return f(MultistageSizes<2>{});
  return f(MultistageSizes<1>{});
}

// Launches one pass, of as many rows of x as `m` says when it returns.
template <class T, class Scales>
int launch_multistage_pass(std::span<const GemmArgs> group, int64_t m0, int64_t& m, const Device& device,
                           const MultistageConfig& config, Stream stream) {
  return with_multistage_sizes(m, [&](auto sizes) -> int {
    using Sizes = decltype(sizes);
    m = std::min<int64_t>(m, Sizes::kCols);
    MultistagePlan plan{};
    const GemmArgs& args = group.front();
    const int maps = args.weight.absmax.dtype == Dtype::u8 ? static_cast<int>(group.size()) : 0;
    if (!lay_out_multistage<Sizes>(GroupRows(group), args.weight.cols, maps, device, config, plan))
      return cudaErrorInvalidConfiguration;
    return launch_multistage<T, Sizes, Scales>(group, m0, static_cast<int>(m), device, plan, config.split, stream);
  });
}

int launch_gemm_pair_multistage(std::span<const GemmArgs> group, const Device& device, int config_index,
                                Stream stream) {
  const GemmArgs& args = group.front();  // for what all have in common
  const bool f32 = args.weight.absmax.dtype == Dtype::f32;
  const auto launch = [&](auto type) {
    using T = decltype(type);
    return f32 ? launch_multistage_pass<T, F32Scales> : launch_multistage_pass<T, PackedScales>;
  };
  const auto pass = with_16bit(args.dtype, launch);
  return in_passes(args.m, [&](int64_t m0, int64_t& rows) {
    return pass(group, m0, rows, device, kMultistageConfigs[config_index], stream);
  });
}

const char* unsupported(const Problem& problem, const Device& device) {
  if (device.architecture < kMultistageArchitecture)
    return "it needs code for compute capability 8.0 or newer, on such a device";
  if (const char* reason = pair_scales_unsupported(problem); reason != nullptr) return reason;
  MultistagePlan plan;
  if (!lay_out_multistage<MultistageSizes<4>>({&problem.n, 1}, problem.k, kMostProducts, device,
                                              {kMultistageWarpRows, 1, MultistageSplit::tiles}, plan))
    return "shared memory must hold the pair table and two stages";
  return nullptr;
}

size_t workspace_size(const Problem& problem, const Device& device, int config) {
  return with_multistage_sizes(problem.m, [&](auto sizes) {
    return static_cast<size_t>(multistage_workspace(std::max(1, device.clusters(1)), decltype(sizes)::kCols,
                                                    kMultistageConfigs[config].split));
  });
}

constexpr Variant kVariants[] = {
    {"gemm.pair_multistage", "pair table and tensor cores, codes, scales and x streamed along K by cp.async",
     "codebook16", Op::gemm, false, static_cast<int>(std::size(kMultistageConfigs)), config_text<kMultistageConfigs>,
     unsupported, workspace_size, launch_one<launch_gemm_pair_multistage>, launch_gemm_pair_multistage},
};

}  // namespace

std::span<const Variant> gemm_pair_multistage_variants() { return kVariants; }

}  // namespace nf4
