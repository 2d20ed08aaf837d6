// sort_experts.count: see sort_experts.hpp.
#include "gemm/sort_experts.hpp"

#include <cub/block/block_scan.cuh>

#include "device/launch.cuh"
#include "families.hpp"
#include "gemm/row_pieces.hpp"

namespace nf4 {
namespace {

constexpr int kThreads = 1024;

__global__ void __launch_bounds__(kThreads) sort_experts(int32_t* __restrict__ order,  // [routing.slots]
                                                         int32_t* __restrict__ ends,   // [routing.experts]
                                                         const __grid_constant__ Routing routing) {
  using Scan = cub::BlockScan<int, kThreads>;
  __shared__ typename Scan::TempStorage storage;
  const EqualRuns runs(routing.slots, kThreads);
  const int64_t begin = runs.begin(threadIdx.x);
  const int64_t end = runs.begin(threadIdx.x + 1);
  for (int64_t bin = blockIdx.x; bin <= routing.experts; bin += gridDim.x) {
    const SlotCounts counts = count_slots(routing, bin, begin, end);
    int unused, first, own_before, own;
    Scan(storage).ExclusiveSum(counts.before, unused, first);
    __syncthreads();  // before `storage` is used again
    Scan(storage).ExclusiveSum(counts.own, own_before, own);
    __syncthreads();
    place_slots(routing, bin, begin, end, order + first + own_before);
    if (bin < routing.experts && threadIdx.x == 0) ends[bin] = first + own;
  }
}

constexpr Variant kVariants[] = {
    {"sort_experts.count", "a stable counting sort, a block per expert", "exact", Op::sort_experts, false, 1, no_config,
     always_supported, nullptr, erased<SortExpertsArgs, launch_sort_experts>},
};

}  // namespace

int launch_sort_experts(const SortExpertsArgs& args, const Device&, int, Stream stream) {
  return launch(sort_experts, grid_for(args.routing.experts + 1), kThreads, stream, args.order, args.ends,
                args.routing);
}

std::span<const Variant> sort_experts_variants() { return kVariants; }

}  // namespace nf4
