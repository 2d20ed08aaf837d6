// sort_experts.count: see sort_experts.hpp.
#include "gemm/sort_experts.hpp"

#include <cub/block/block_scan.cuh>

#include "device/launch.cuh"
#include "device/ptx.cuh"
#include "families.hpp"
#include "gemm/row_pieces.hpp"

namespace nf4 {
namespace {

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / kWarpSize;

__global__ void __launch_bounds__(kThreads) sort_experts(int32_t* __restrict__ order,  // [routing.slots]
                                                         int32_t* __restrict__ ends,   // [routing.experts]
                                                         const __grid_constant__ Routing routing) {
  using Scan = cub::BlockScan<int, kThreads>;
  __shared__ typename Scan::TempStorage storage;
  // PDL: the next kernel may start.
  if constexpr (kCompiledArchitecture >= 90) launch_dependents();
  const int lane = static_cast<int>(threadIdx.x % kWarpSize);
  const EqualRuns runs(routing.slots, kWarps);
  const int64_t begin = runs.begin(threadIdx.x / kWarpSize);
  const int64_t end = runs.begin(threadIdx.x / kWarpSize + 1);
  for (int64_t bin = blockIdx.x; bin <= routing.experts; bin += gridDim.x) {
    const SlotCounts counts = count_slots(routing, bin, begin, end, lane);
    int unused, first, own_before, own;
    Scan(storage).ExclusiveSum(counts.before, unused, first);
    __syncthreads();  // before `storage` is used again
    Scan(storage).ExclusiveSum(counts.own, own_before, own);
    __syncthreads();
    const int warps_before = __shfl_sync(~0u, own_before, 0);
    const auto own_of = [&](int64_t from) {
      return __ballot_sync(~0u, from + lane < end && bin_of(routing, from + lane) == bin);
    };
    place_slots(own_of, begin, end, lane, order + first + warps_before);
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

int sort_into(void* workspace, const Device& device, Stream stream, Routing& routing) {
  const SortedSlots sorted = SortedSlots::of(routing.slots, routing.experts);
  auto* const order = static_cast<int32_t*>(workspace);
  auto* const ends = reinterpret_cast<int32_t*>(static_cast<uint8_t*>(workspace) + sorted.ends);
  if (const int error = launch_sort_experts({order, ends, routing}, device, 0, stream); error != cudaSuccess)
    return error;
  routing.ids = nullptr;
  routing.order = order;
  routing.ends = ends;
  return cudaSuccess;
}

std::span<const Variant> sort_experts_variants() { return kVariants; }

}  // namespace nf4
