// gemm.scaled_mma: launching the kernel of scaled_mma.cuh.
#include "gemm/scaled_mma.cuh"

#include <algorithm>
#include <iterator>

#include "device/launch.cuh"
#include "dispatch.hpp"
#include "families.hpp"
#include "gemm/launch_number.hpp"
#include "gemm/limits.hpp"

namespace nf4 {
namespace {

template <class T, class Sizes>
int launch_rows(std::span<const GemmArgs> group, int64_t m0, int64_t& m, const Device& device,
                const ScaledMmaConfig& config, Stream stream) {
  constexpr auto kKernel = gemm_scaled_mma<T, Sizes::kColTiles>;
  const GemmArgs& args = group.front();  // for what all have in common
  ScaledMmaPlan plan{};
  const int maps = args.weight.absmax.dtype == Dtype::u8 ? static_cast<int>(group.size()) : 0;
  if (!lay_out_scaled_mma<Sizes>(GroupRows(group), args.weight.cols, m, maps, device, config, plan))
    return cudaErrorInvalidConfiguration;
  if (const int error = allow_shared_memory<kKernel>(device.ordinal, device.shared_memory); error != cudaSuccess)
    return error;
  plan.quads = quad_scales(group);
  plan.codebook = pair_codebook<f16>(kScaledTableFactor);
  if (config.split == MultistageSplit::even) {
    plan.launch = launch_number();
    plan.counters = static_cast<uint64_t*>(args.workspace);
    plan.parts = reinterpret_cast<float*>(static_cast<uint8_t*>(args.workspace) +
                                          scaled_mma_counter_bytes(plan.shares.count, plan.groups));
  }
  const MultistageX<T> x{static_cast<const T*>(args.x) + m0 * args.ldx, args.ldx, static_cast<int>(m)};
  const Blocks blocks{plan.shares.count, plan.threads, plan.shared_bytes, 1, false};
  return nf4::launch(kKernel, blocks, stream, x, Group<kMostProducts>::of(group, m0, sizeof(T), plan.rows), plan);
}

int launch_gemm_scaled_mma(std::span<const GemmArgs> group, const Device& device, int config_index, Stream stream) {
  const ScaledMmaConfig& config = kScaledMmaConfigs[config_index];
  const GemmArgs& args = group.front();
  return with_scaled_mma_sizes(config, [&](auto sizes) {
    return with_16bit(args.dtype, [&](auto type) {
      return in_passes(args.m, [&](int64_t m0, int64_t& rows) {
        return launch_rows<decltype(type), decltype(sizes)>(group, m0, rows, device, config, stream);
      });
    });
  });
}

const char* unsupported(const Problem& problem, const Device& device) {
  if (device.architecture < kMultistageArchitecture)
    return "it needs code for compute capability 8.0 or newer, on such a device";
  if (const char* reason = pair_scales_unsupported(problem); reason != nullptr) return reason;
  ScaledMmaPlan plan;
  int64_t m = problem.m;
  for (const ScaledMmaConfig& config : kScaledMmaConfigs) {
    const bool room = with_scaled_mma_sizes(config, [&](auto sizes) {
      return lay_out_scaled_mma<decltype(sizes)>({&problem.n, 1}, problem.k, m, kMostProducts, device, config, plan);
    });
    if (!room) return "shared memory must hold the pair table and two blocks of x";
  }
  return nullptr;
}

size_t workspace_size(const Problem&, const Device& device, int config) {
  return with_scaled_mma_sizes(kScaledMmaConfigs[config], [&](auto sizes) {
    return static_cast<size_t>(
        scaled_mma_workspace<decltype(sizes)>(std::max(1, device.clusters(1)), kScaledMmaConfigs[config]));
  });
}

constexpr Variant kVariants[] = {
    {"gemm.scaled_mma", "weights scaled in registers and tensor cores, for many rows of x, streamed by cp.async",
     "scaled16", Op::gemm, false, static_cast<int>(std::size(kScaledMmaConfigs)), config_text<kScaledMmaConfigs>,
     unsupported, workspace_size, launch_one<launch_gemm_scaled_mma>, launch_gemm_scaled_mma},
};

}  // namespace

std::span<const Variant> gemm_scaled_mma_variants() { return kVariants; }

}  // namespace nf4
