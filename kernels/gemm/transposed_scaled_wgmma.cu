// gemm_transposed.scaled_wgmma: launching the kernel of scaled_wgmma.cuh for the product with W itself.
#include <iterator>

#include "dispatch.hpp"
#include "families.hpp"
#include "gemm/scaled_wgmma_cost.hpp"
#include "gemm/scaled_wgmma_launch.cuh"

namespace nf4 {
namespace {

int launch_transposed(const GemmTransposedArgs& args, const Device& device, int config, Stream stream) {
  return launch_scaled<true>(args, nullptr, device, kScaledTransposedConfigs[config], stream);
}

const char* unsupported(const Problem& problem, const Device& device) {
  if (problem.n == 0) return "there is nothing to multiply (N = 0)";
  return scaled_unsupported(problem, device);
}

size_t workspace_size(const Problem&, const Device& device, int config) {
  return scaled_workspace_size(kScaledTransposedConfigs[config], device);
}

constexpr Variant kVariants[] = {
    {"gemm_transposed.scaled_wgmma", "weights scaled in registers and warpgroup tensor cores, for many rows of x",
     "scaled16", Op::gemm_transposed, false, static_cast<int>(std::size(kScaledTransposedConfigs)),
     config_text<kScaledTransposedConfigs>, unsupported, workspace_size, erased<GemmTransposedArgs, launch_transposed>,
     nullptr, plan_scaled_transposed},
};

}  // namespace

std::span<const Variant> gemm_transposed_scaled_wgmma_variants() { return kVariants; }

}  // namespace nf4
