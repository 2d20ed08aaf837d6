// gemm_experts.slots: its launch.
#include "gemm/experts_slots.cuh"

#include "device/launch.cuh"
#include "dispatch.hpp"
#include "families.hpp"

namespace nf4 {
namespace {

bool aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

template <class T>
bool takes_spans(const GemmExpertsArgs& args) {
  const bool one_row = args.routing.slots == args.routing.top_k;
  const bool rows = one_row || args.ldx * static_cast<int64_t>(sizeof(T)) % 16 == 0;
  return args.weight.cols % kExpertsSpan == 0 && aligned(args.weight.codes) && aligned(args.x) && rows;
}

int launch_experts_slots(const GemmExpertsArgs& args, const Device& device, int config, Stream stream) {
  Routing routing = args.routing;
  if (sorts_slots(kExpertsSlotsConfigs[config], routing.ends != nullptr)) {
    if (const int error = sort_into(args.workspace, device, stream, routing); error != cudaSuccess) return error;
  }
  return with_dtype(args.dtype, [&](auto type) {
    return with_config<kExpertsSlotsConfigs>(config, [&](auto index) {
      using T = decltype(type);
      constexpr ExpertsSlotsConfig kConfig = kExpertsSlotsConfigs[decltype(index)::value];
      constexpr int kSlots = kConfig.slots;
      const auto kernel =
          takes_spans<T>(args) ? gemm_experts_slots<T, kSlots, true> : gemm_experts_slots<T, kSlots, false>;
      const ExpertsSlotsPlan plan = ExpertsSlotsPlan::of(routing.slots, args.n, kConfig);
      return launch(kernel, grid_for(plan.blocks()), kExpertsSlotsWarps * kWarpSize, stream, static_cast<T*>(args.y),
                    args.ldy, static_cast<const T*>(args.x), args.ldx, args.n, args.weight,
                    static_cast<const T*>(args.bias), routing, plan);
    });
  });
}

size_t workspace_size(const Problem& problem, const Device&, int config) {
  return sorts_slots(kExpertsSlotsConfigs[config], problem.sorted) ? SortedSlots::of(problem.m, problem.experts).bytes
                                                                   : 0;
}

constexpr Variant kVariants[] = {
    {"gemm_experts.slots", "a warp per row of W and a few slots, in fp32 on the CUDA cores, any K and alignment",
     "fp32", Op::gemm_experts, false, std::size(kExpertsSlotsConfigs), config_text<kExpertsSlotsConfigs>,
     always_supported, workspace_size, erased<GemmExpertsArgs, launch_experts_slots>},
};

}  // namespace

std::span<const Variant> gemm_experts_slots_variants() { return kVariants; }

}  // namespace nf4
