// gemm_experts.pair and gemm_experts.pair_tma: products with routed experts, on the tensor cores: rows of x that the
// routing gathers, by the W of the experts that it hits, each read once for up to 8, 16 or 32 slots. Codes and x stream
// through rings of stages (a multistage pipeline), which producer warps fill and consumer warps multiply (warp
// specialization); codes are decoded by the pair table. The two differ in how codes and x are copied: `Copy`.
//
// Product. As in pair_stream.cuh: W is the A operand of mma.m16n8k16 in its native layout, x is B with K permuted alike
// inside a block of 64, a block's products meet in fresh accumulators that its absmax multiplies in fp32. Column c of
// an operand is a slot of the item's chunk. In columns that no slot has there is whatever was in shared memory: what
// comes of them is never written.
//
// Routing. The launch knows how many slots and experts there are, no more. Each CTA counts the slots of every expert
// (by ids, or between ends), finds which chunks it has a part of, and lists their slots: see experts_pair_layout.hpp.
// All CTAs find the same, so they need not meet. No CTA has more than one group of rows more than another.
//
// Work. A CTA goes through its items without a stop: the stages of the next one come while one is multiplied. A stage
// is 256 columns of an item's rows of W, and of the rows of x of its slots. Teams of warps take the stages of an item
// in turn. Each team has a ring of its own, and a producer warp that fills it, so a barrier never changes hands. A warp
// has 32 rows for all slots of the chunk; where a team has several for them, these take the blocks of a stage in turn.
// At the end of an item the warps of the same rows add up their sums, one after the other, always in the same order;
// the last one writes y, while the others are at the next item. An item is all of K, so sums meet nowhere else, and a
// slot's result depends on no other slot.
//
// Stage. Codes [rows of the item][128 bytes], piece c of row r at place c ^ (r % 8) (swizzle): the rows of all experts
// are one matrix [E N, K]. Rows of x are gathered, up to 512 bytes each, 528 bytes apart. The scales of a stage, 4
// floats to a row of W, lie in the holes of the pair table, 8 rows to a hole.
//
//     read       lanes that are served at once   what they read                         places
//     codes      16: 4 rows, all t               8 bytes each of two pieces of a row    as in pair.cuh
//     x          8: rows 2i, 2i + 1, all t       16 bytes, 32 apart; rows 528 apart     even ones, odd ones
//     a scale    32: 8 rows, all t the same      4 bytes                                4 apart
//
// so nothing meets in a bank.
#pragma once

#include <algorithm>
#include <cstdint>

#include "device/launch.cuh"
#include "device/ptx.cuh"
#include "device/ring.cuh"
#include "device/scan.cuh"
#include "device/warp.hpp"
#include "dispatch.hpp"
#include "format/number.hpp"
#include "gemm/experts.hpp"
#include "gemm/experts_pair_layout.hpp"
#include "gemm/fragment_sums.cuh"
#include "gemm/pair_block.cuh"
#include "gemm/pair_fragment.cuh"
#include "gemm/pair_scales.cuh"
#include "gemm/pair_table.cuh"
#include "problem.hpp"

namespace nf4 {

// Where a CTA keeps things. What is read and written in a stage has 32-bit addresses.
struct ExpertsPairShared {
  const ExpertsPairPlan& plan;
  uint8_t* shared;
  uint32_t base;  // its address

  __device__ ExpertsPairShared(const ExpertsPairPlan& the_plan, uint8_t* the_shared)
      : plan(the_plan), shared(the_shared) {
    base = keep(shared_address(shared));
  }

  // The places of a team's ring.
  __device__ int place(int team, int slot) const { return team * plan.ring + slot; }
  __device__ uint32_t codes(int place) const {
    return base + PairTable::kBytes + place * plan.groups * kExpertsPairGroupBytes;
  }
  __device__ uint32_t x(int place) const { return base + plan.x + place * plan.cols * kExpertsPairXPitch; }
  __device__ uint32_t scales(int place, int row) const {
    return base + place * plan.scales_bytes() + row / kExpertsPairHoleRows * PairTable::kEntryBytes +
           PairTable::kUsedBytes + row % kExpertsPairHoleRows * (kExpertsPairBlocks * 4);
  }
  __device__ StageBarriers stages() const { return {base + plan.barriers}; }
  // The sums of a group's rows, of all parts of K up to this one, are where the next one's warp reads them.
  __device__ uint32_t handed_on(int group, int part) const {
    return stages().full(plan.ring * plan.teams) + (group * plan.parts() + part) * 8;
  }
  // 4 sums of a lane.
  __device__ uint32_t sum(int group, int fragment, int lane) const {
    return base + plan.sums + group * kExpertsPairRows * plan.cols * 4 + fragment * (kWarpSize * 16) + lane * 16;
  }
  __device__ uint32_t map() const { return base + plan.map; }

  __device__ ExpertsPairSegment& segment(int segment) const {
    return reinterpret_cast<ExpertsPairSegment*>(shared + plan.segments)[segment];
  }
  // The slots of a segment: their numbers, or -1 where the routing names none, and the factors of their results.
  __device__ int32_t* slots(int segment) const {
    return reinterpret_cast<int32_t*>(&this->segment(plan.most_segments)) + segment * plan.cols;
  }
  __device__ float* factors(int segment) const {
    return reinterpret_cast<float*>(slots(plan.most_segments)) + segment * plan.cols;
  }

  // While the routing is read, where codes will be: the slots of each expert, behind them the number of chunks, and the
  // expert of each slot, or kNoExpert.
  __device__ int* counts() const { return reinterpret_cast<int*>(shared + PairTable::kBytes); }
  __device__ int16_t* ids(int64_t experts) const { return reinterpret_cast<int16_t*>(counts() + experts + 1); }
};

// Counts the slots of each expert; all threads. Counts are zeros before.
__device__ inline void experts_count(const ExpertsPairShared& share, const Routing& routing) {
  const auto threads = static_cast<int>(blockDim.x);
  if (routing.ends != nullptr) {
    for (int e = static_cast<int>(threadIdx.x); e < routing.experts; e += threads)
      share.counts()[e] = max(0, expert_end(routing, e) - expert_end(routing, e - 1));
    return;
  }
  int16_t* const ids = share.ids(routing.experts);
  for (int slot = static_cast<int>(threadIdx.x); slot < routing.slots; slot += threads) {
    const auto expert = static_cast<int16_t>(routed_expert(routing, slot));
    ids[slot] = expert;
    if (expert != kNoExpert) atomicAdd(&share.counts()[expert], 1);
  }
}

// Finds how many chunks there are, and the CTA's segments, by one warp, whose lanes have an equal part of the experts.
__device__ inline void experts_segments(const ExpertsPairShared& share, int experts, int lane) {
  const ExpertsPairPlan& plan = share.plan;
  int* const counts = share.counts();
  const int per_lane = (experts + kWarpSize - 1) / kWarpSize;
  const int begin = min(lane * per_lane, experts), end = min(begin + per_lane, experts);
  int chunks = 0;  // of the lane's experts, then of those before too
  for (int e = begin; e < end; ++e) chunks += (counts[e] + plan.cols - 1) / plan.cols;
  int chunk = -chunks;
  chunks = sum_up_to(chunks, lane);
  chunk += chunks;  // the lane's first
  // More than there can be are only where ends do not ascend.
  const int all = static_cast<int>(min(int64_t{__shfl_sync(~0u, chunks, kWarpSize - 1)}, plan.most_chunks));
  const ExpertsPairItems items(plan, all, static_cast<int>(blockIdx.x));
  for (int e = begin; e < end; ++e) {
    const int of_expert = (counts[e] + plan.cols - 1) / plan.cols;
    const int first = max(0, items.first_chunk() - chunk);
    const int last = min(of_expert, items.first_chunk() + items.segments() - chunk);
    for (int i = first; i < last; ++i)
      share.segment(chunk + i - items.first_chunk()) = {e, min(plan.cols, counts[e] - i * plan.cols), i * plan.cols};
    chunk += of_expert;
  }
  if (lane == 0) counts[experts] = all;
}

// Lists the slots of a segment, by one warp: in ascending order, or in that of the routing.
__device__ inline void experts_list(const ExpertsPairShared& share, const Routing& routing, int segment, int lane) {
  const ExpertsPairSegment of = share.segment(segment);
  const auto put = [&](int i, int64_t slot) {
    share.slots(segment)[i] = static_cast<int32_t>(slot);
    share.factors(segment)[i] = routing.scale != nullptr && slot >= 0 ? routing.scale[slot] : 1.0f;
  };
  if (routing.ends != nullptr) {
    if (lane < of.slots) put(lane, slot_at(routing, expert_end(routing, of.expert - 1) + of.first + lane));
    return;
  }
  const int16_t* const ids = share.ids(routing.experts);
  const auto slots = static_cast<int>(routing.slots);
  int before = 0;  // of the expert's slots
  for (int slot = lane; before < of.first + of.slots; slot += kWarpSize) {
    const bool match = slot < slots && ids[slot] == of.expert;
    const unsigned matches = __ballot_sync(~0u, match);
    const int i = before + __popc(matches & ((1u << lane) - 1)) - of.first;
    if (match && i >= 0 && i < of.slots) put(i, slot);
    before += __popc(matches);
  }
}

// Writes zeros for every slot of no expert that falls to this warp of all warps of the grid.
template <class T>
__device__ void experts_clear(const ExpertsPairShared& share, const GemmExpertsArgs& args, int warp, int lane) {
  const Routing& routing = args.routing;
  const bool sorted = routing.ends != nullptr;
  const int step = static_cast<int>(gridDim.x) * (static_cast<int>(blockDim.x) / kWarpSize);
  int position = warp * static_cast<int>(gridDim.x) + static_cast<int>(blockIdx.x);
  if (sorted) position += expert_end(routing, routing.experts - 1);
  for (; position < routing.slots; position += step) {
    if (!sorted && share.ids(routing.experts)[position] != kNoExpert) continue;
    const int64_t slot = slot_at(routing, position);
    if (slot < 0) continue;
    T* const y = static_cast<T*>(args.y) + slot * args.ldy;
    for (int64_t n = lane; n < args.n; n += kWarpSize) y[n] = from_float<T>(0.0f);
  }
}

// Reads the routing, by all threads, and says what this CTA has to do. What it needs of shared memory beside the
// segments is free again then, for copies too.
template <class T, class Copy>
__device__ ExpertsPairItems experts_route(const ExpertsPairShared& share, const GemmExpertsArgs& args, int warp,
                                          int lane) {
  const Routing& routing = args.routing;
  experts_count(share, routing);
  __syncthreads();
  if (warp == 0) experts_segments(share, static_cast<int>(routing.experts), lane);
  __syncthreads();
  const ExpertsPairItems items(share.plan, share.counts()[routing.experts], static_cast<int>(blockIdx.x));
  const int warps = static_cast<int>(blockDim.x) / kWarpSize;
  for (int segment = warp; segment < items.segments(); segment += warps) experts_list(share, routing, segment, lane);
  experts_clear<T>(share, args, warp, lane);
  Copy::shared_memory_is_free();
  __syncthreads();
  return items;
}

// The scales of one expert: `weight` holds them from the last group of the second level on that begins no later, and
// `first_block` is the block of 64 of that weight where the expert's begin.
struct ExpertScales {
  Weight weight;
  int first_block;

  __device__ ExpertScales(const Weight& all, int64_t expert, int64_t rows) : weight(all), first_block(0) {
    Absmax& absmax = weight.absmax;
    int64_t scale = expert * rows * all.cols >> all.log2_blocksize;
    if (absmax.dtype == Dtype::u8) {
      const int64_t group = scale >> absmax.log2_blocksize;
      absmax.absmax2 += group;
      const auto inside = static_cast<int>(scale - (group << absmax.log2_blocksize));
      first_block = inside << (all.log2_blocksize - std::countr_zero(static_cast<unsigned>(kPairBlock)));
      scale -= inside;
    }
    const int bytes = absmax.dtype == Dtype::u8 ? 1 : absmax.dtype == Dtype::f32 ? 4 : 2;
    absmax.values = static_cast<const uint8_t*>(absmax.values) + scale * bytes;
  }
};

// Fills a team's ring. How scales lie is known when compiling, see pair_scales.cuh.
template <class Copy, class Scales, class Format>
__device__ void experts_produce(Format format, const ExpertsPairShared& share, const GemmExpertsArgs& args,
                                const typename Copy::Source& source, ExpertsPairItems items, int team) {
  const ExpertsPairPlan& plan = share.plan;
  const int lane = static_cast<int>(keep(threadIdx.x % kWarpSize));
  const float offset = Format::kNested ? __ldg(args.weight.absmax.offset) : 0.0f;
  RingPlace place{0, 1};
  for (; items.more(); items.next()) {
    const ExpertsPairSegment of = share.segment(items.segment());
    const ExpertScales scales_of(args.weight, of.expert, args.n);
    const Weight& weight = scales_of.weight;
    const int row = items.group() * kExpertsPairRows;  // of the expert's W, the item's first
    const int rows = static_cast<int>(min(int64_t{items.groups()} * kExpertsPairRows, args.n - row));
    const int64_t codes_row = of.expert * args.n + row;  // of all experts' rows
    const uint8_t* x = nullptr;                          // of the lane's slot
    if (lane < of.slots) {
      const int slot = max(share.slots(items.segment())[lane], 0);
      x = static_cast<const uint8_t*>(args.x) + slot / static_cast<int>(args.routing.top_k) * args.ldx * 2;
    }
    for (int stage = team; stage < plan.stages; stage += plan.teams) {
      const int here = share.place(team, place.slot);
      const uint32_t full = share.stages().full(here);
      const int column = stage * kExpertsPairBlocks;  // block of the row
      const int inside = plan.blocks - column;
      const int first_block = scales_of.first_block + row * plan.blocks + column;  // of the item
      // Calls f(i, block, to) for the rows of the item that the lane brings scales of.
      const auto each_row = [&](const auto& f) {
#pragma unroll
        for (int i = 0; i < kExpertsPairMostGroups; ++i) {
          const int item_row = i * kWarpSize + lane;
          if (item_row < rows) f(i, first_block + item_row * plan.blocks, share.scales(here, item_row));
        }
      };
      // Read the scales, unless they are copied: they come while it waits.
      Scales scales[Scales::kAsync ? 1 : kExpertsPairMostGroups];
      if constexpr (!Scales::kAsync)
        each_row([&](int i, int block, uint32_t) { scales[i].read(format, weight, block, inside); });
      // Wait until the place is empty, and issue the copies of codes and of x.
      barrier_wait(share.stages().empty(here), place.parity);
      const int x_bytes = min(kExpertsPairBlocks, inside) * kPairBlockXBytes;
      Copy::expect(full, items.groups() * kExpertsPairGroupBytes + of.slots * x_bytes);
      Copy::bring_codes(source, args.weight, column * kPairBlockBytes, codes_row, items.groups(), share.codes(here),
                        full);
      Copy::bring_x(x + int64_t{column} * kPairBlockXBytes, of.slots, x_bytes, share.x(here), full);
      // Copy or store the scales.
      if constexpr (!Scales::kAsync) {
        each_row([&](int i, int, uint32_t to) { scales[i].store(format, weight, share.map(), offset, to); });
      } else if constexpr (Format::kQuads) {
        each_row([&](int, int block, uint32_t to) { Scales::copy(format, weight, block, inside, to); });
      } else {
        // 4 lanes have those of a row, so that a copy touches few lines.
        const int word = lane % kExpertsPairBlocks;
        for (int item_row = lane / kExpertsPairBlocks; item_row < rows; item_row += kWarpSize / kExpertsPairBlocks) {
          const int block = first_block + item_row * plan.blocks + word;
          const bool valid = word < inside;
          copy_async_word(share.scales(here, item_row) + word * 4,
                          static_cast<const float*>(weight.absmax.values) + (valid ? scale_of(weight, block) : 0),
                          valid);
        }
      }
      // Arrive: the stage is full once its copies have come.
      if (Copy::kAsync || Scales::kAsync) barrier_arrive_copies(full);
      barrier_arrive_warp(full, lane);
      place.advance(plan.ring);
    }
  }
  if (Copy::kAsync || Scales::kAsync) wait_all_copies();
}

// A consumer warp: its rows of items, and its part of their K.
struct ExpertsPairConsumer {
  int lane, group, team, split;
  RingPlace place;      // in the team's ring
  uint32_t handed = 0;  // parity of what the group hands on in this item

  __device__ ExpertsPairConsumer(const ExpertsPairPlan& plan, int warp)
      : lane(static_cast<int>(keep(threadIdx.x % kWarpSize))),
        group(warp % plan.groups),
        team(warp / plan.groups / plan.splits),
        split(warp / plan.groups % plan.splits) {}
};

// Multiplies an item, whose chunk has up to 8 ColTiles slots, by the warp's rows if there are any (`active`).
template <class T, class Table, int ColTiles>
__device__ __forceinline__ void experts_multiply(const ExpertsPairShared& share, const Table& table, bool active,
                                                 ExpertsPairConsumer& warp, PairSums<ColTiles>& sums) {
  const ExpertsPairPlan& plan = share.plan;
  const int warp_row = warp.group * kExpertsPairRows;
  const int code_offset = pair_codes_offset(warp_row, warp.lane);
  const int x_offset = warp.lane / 4 * kExpertsPairXPitch + warp.lane % 4 * 32 + warp.split * kPairBlockXBytes;
  const int scale_offset = warp.split * static_cast<int>(sizeof(float));
  const int scale_row = warp_row + operand_row(warp.lane / 4);
  for (int stage = warp.team; stage < plan.stages; stage += plan.teams) {
    const int here = share.place(warp.team, warp.place.slot);
    // Wait for the stage.
    barrier_wait(share.stages().full(here), warp.place.parity);
    if (active) {
      const uint32_t codes = share.codes(here) + code_offset;
      uint32_t x = share.x(here) + x_offset;
      uint32_t scales = share.scales(here, scale_row) + scale_offset;
      const int blocks = min(kExpertsPairBlocks, plan.blocks - stage * kExpertsPairBlocks);
#pragma unroll 1
      for (int block = warp.split; block < blocks; block += plan.splits) {
        const auto load_b = [&](int c, int half) {
          return load_shared_quad(x + half * 16 + c * 8 * kExpertsPairXPitch);
        };
        multiply_pair_block<T>(table, load_pair_operand(codes ^ block * kPairBlockBytes, scales), load_b, sums);
        x += plan.splits * kPairBlockXBytes;
        scales += plan.splits * static_cast<int>(sizeof(float));
      }
    }
    // Release the stage.
    barrier_arrive_warp(share.stages().empty(here), warp.lane);
    warp.place.advance(plan.ring);
  }
}

// Adds up the sums of all parts of K, in order; true for the warp of the last one, which has them then.
template <int ColTiles>
__device__ __forceinline__ bool experts_meet(const ExpertsPairShared& share, ExpertsPairConsumer& warp,
                                             PairSums<ColTiles>& sums) {
  const int part = warp.team * share.plan.splits + warp.split, last_part = share.plan.parts() - 1;
  const bool first = part == 0, last = part == last_part;
  if (last_part > 0) {
    // The first one waits until what the last one read in the item before need not stay.
    barrier_wait(share.handed_on(warp.group, first ? last_part : part - 1), first ? warp.handed ^ 1 : warp.handed);
    each_fragment(sums, [&](int fragment, float(&sum)[4]) {
      hand_on(share.sum(warp.group, fragment, warp.lane), sum, first, last);
    });
    barrier_arrive_warp(share.handed_on(warp.group, part), warp.lane);
  }
  warp.handed ^= 1;
  return last;
}

// Writes the sums of 32 rows of an expert's W from `row` on by the slots of a segment.
template <class T, int ColTiles>
__device__ __forceinline__ void experts_write(const ExpertsPairShared& share, const GemmExpertsArgs& args, int segment,
                                              int row, int lane, PairSums<ColTiles>& sums) {
  const ExpertsPairSegment of = share.segment(segment);
  const auto* const bias =
      args.bias != nullptr ? static_cast<const T*>(args.bias) + of.expert * args.n : static_cast<const T*>(nullptr);
  row += operand_row(lane / 4);
  const auto rows = static_cast<int>(args.n) - row;  // that are there
  float add[kExpertsPairRows / 8];
#pragma unroll
  for (int eighth = 0; eighth < kExpertsPairRows / 8; ++eighth)
    add[eighth] = bias != nullptr && eighth * 8 < rows ? to_float(bias[row + eighth * 8]) : 0.0f;
#pragma unroll
  for (int c = 0; c < ColTiles; ++c) {
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int col = c * 8 + lane % 4 * 2 + e;
      const int slot = col < of.slots ? share.slots(segment)[col] : -1;
      if (slot < 0) continue;
      const float factor = share.factors(segment)[col];
      T* const y = static_cast<T*>(args.y) + slot * args.ldy + row;
#pragma unroll
      for (int eighth = 0; eighth < kExpertsPairRows / 8; ++eighth) {
        // Rounded before the bias is added, see kCodebookInverse.
        float total = __fmul_rn(sums[eighth / 2][c][eighth % 2 * 2 + e], kCodebookInverse<T>);
        if (bias != nullptr) total += add[eighth];
        if (eighth * 8 < rows) y[eighth * 8] = from_float<T>(total * factor);
      }
    }
  }
}

// Multiplies the warp's part of every item, and writes what falls to it.
template <class T, class Sizes, class Table>
__device__ void experts_consume(const ExpertsPairShared& share, const GemmExpertsArgs& args, ExpertsPairItems items,
                                int warp) {
  const Table table(share.shared);
  ExpertsPairConsumer self(share.plan, warp);
  for (; items.more(); items.next()) {
    const bool active = self.group < items.groups();
    const auto multiply = [&](auto col_tiles) {
      constexpr int kColTiles = decltype(col_tiles)::value;
      PairSums<kColTiles> sums = {};
      experts_multiply<T>(share, table, active, self, sums);
      if (active && experts_meet(share, self, sums))
        experts_write<T>(share, args, items.segment(), (items.group() + self.group) * kExpertsPairRows, self.lane,
                         sums);
    };
    const int slots = share.segment(items.segment()).slots;
    if constexpr (Sizes::kColTiles > 2) {
      if (slots > 16) {
        multiply(Constant<4>{});
        continue;
      }
    }
    slots > 8 ? multiply(Constant<2>{}) : multiply(Constant<1>{});
  }
}

template <class T, class Sizes, class Copy, class Scales>
__global__ void __launch_bounds__(Sizes::kThreads, 1)
    gemm_experts_pair(const __grid_constant__ GemmExpertsArgs args, const __grid_constant__ ExpertsPairPlan plan,
                      const __grid_constant__ typename Copy::Source source) {
  if constexpr (kCompiledArchitecture >= Copy::kArchitecture) {
    extern __shared__ __align__(1024) uint8_t shared[];
    const ExpertsPairShared share(plan, shared);
    const int warp = uniform(static_cast<int>(threadIdx.x / kWarpSize));
    const int lane = static_cast<int>(threadIdx.x % kWarpSize);
    const auto thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);

    // Prologue: nothing of it depends on what the kernels before wrote.
    init_stages(plan.ring * plan.teams, [&](int stage) {
      barrier_init(share.stages().full(stage), kWarpArrivals + (Copy::kAsync || Scales::kAsync ? kWarpSize : 0));
      barrier_init(share.stages().empty(stage), plan.groups * plan.splits * kWarpArrivals);
    });
    init_stages(plan.consumers(), [&](int link) { barrier_init(share.handed_on(0, link), kWarpArrivals); });
    Copy::barriers_are_ready();
    PairTable::fill(shared, plan.codebook, threads / kWarpSize);
    for (int e = thread; e < args.routing.experts; e += threads) share.counts()[e] = 0;
    __syncthreads();

    // PDL: wait for the kernels before, and let the next one start.
    Copy::wait_for_kernels_before();
    Copy::start_kernel_after();
    if (args.weight.absmax.dtype == Dtype::u8) {
      for (int i = thread; i < kMapSize; i += threads)
        store_shared(share.map() + i * 4, float_to_bits(__ldg(args.weight.absmax.map + i)));
    }
    const ExpertsPairItems items = experts_route<T, Copy>(share, args, warp, lane);

    if (warp >= plan.consumers()) {
      Scales::dispatch(plan.quads, args.weight, [&](auto format) {
        experts_produce<Copy, Scales>(format, share, args, source, items, warp - plan.consumers());
      });
    } else {
      experts_consume<T, Sizes, typename Copy::Table>(share, args, items, warp);
    }
  }
}

}  // namespace nf4
