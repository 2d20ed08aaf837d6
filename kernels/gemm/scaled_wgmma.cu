// gemm.scaled_wgmma: launching the kernel of scaled_wgmma.cuh.
#include <iterator>

#include "dispatch.hpp"
#include "families.hpp"
#include "gemm/scaled_wgmma_cost.hpp"
#include "gemm/scaled_wgmma_launch.cuh"

namespace nf4 {
namespace {

int launch_gemm_scaled_wgmma(const GemmArgs& args, const Device& device, int config, Stream stream) {
  return launch_scaled<false>(args, args.bias, device, kScaledConfigs[config], stream);
}

size_t workspace_size(const Problem&, const Device& device, int config) {
  return scaled_workspace_size(kScaledConfigs[config], device);
}

constexpr Variant kVariants[] = {
    {"gemm.scaled_wgmma", "weights scaled in registers and warpgroup tensor cores, for many rows of x", "scaled16",
     Op::gemm, false, static_cast<int>(std::size(kScaledConfigs)), config_text<kScaledConfigs>, scaled_unsupported,
     workspace_size, erased<GemmArgs, launch_gemm_scaled_wgmma>, nullptr, plan_scaled},
};

}  // namespace

std::span<const Variant> gemm_scaled_wgmma_variants() { return kVariants; }

}  // namespace nf4
