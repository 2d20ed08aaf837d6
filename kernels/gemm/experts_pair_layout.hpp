// How gemm_experts.pair and .pair_tma divide their work among CTAs and warps, and where they keep things in shared
// memory: what the host works out for a launch, and each CTA when it knows the routing, in plain C++, so that it is
// tested for all sizes and many routings without a GPU.
//
// Work. A chunk is up to `cols` slots of one expert. Chunks are numbered by expert; the groups of 32 rows of W_e of all
// chunks are numbered through, chunk after chunk, and each CTA has an equal run of them. What it has of a chunk is a
// segment, which it multiplies in items of a few groups each, for all of K.
//
//     groups     0 1 2 3 | 4 5 6 7 | 8 9 ...       4 of each chunk; 5 of each CTA
//     CTA 0      === =   | =                       segments 0 1 2 3 | 4, of items 0 1 2, 3 | 4
//     CTA 1                === =   | === ...       with 3 groups an item at most
//
// How many chunks there are only the device knows. What the host knows is a bound, for the room that segments take.
//
//     shared memory     pair table, in its holes the scales | codes | x | sums | barriers | map of nested absmax
//                       | segments;  while the routing is read, counts and ids where codes and x are
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <string>

#include "device/math.hpp"
#include "device/ring.hpp"
#include "device/shares.hpp"
#include "device/warp.hpp"
#include "format/absmax.hpp"
#include "format/hd.hpp"
#include "gemm/pair_codebook.hpp"
#include "gemm/pair_sizes.hpp"
#include "problem.hpp"

namespace nf4 {

constexpr int kExpertsPairRows = 32;                // of W, a group: what a warp multiplies, two operands A
constexpr int kExpertsPairBlocks = kPairBoxBlocks;  // of a stage
constexpr int kExpertsPairGroupBytes = kExpertsPairRows * kPairBoxBytes;  // of codes, of a stage
constexpr int kExpertsPairMostGroups = 4;                                 // of an item
constexpr int kExpertsPairMostTeams = 4;
constexpr int kExpertsPairMostRing = 8;  // stages of a team
// Bytes from one row of x to the next: 16 more than a stage has, so that 8 lanes that read 16 bytes each, of 2 rows,
// meet in no bank.
constexpr int kExpertsPairXPitch = kExpertsPairBlocks * kPairBlockXBytes + 16;
constexpr int kExpertsPairHoleRows =
    PairTableSizes::kFreeBytes / PairTableSizes::kEntries / (kExpertsPairBlocks * 4);  // whose scales fill a hole
// Every CTA counts the slots of each expert, and reads all ids if there are no ends.
constexpr int64_t kExpertsPairMostExperts = 4096;
constexpr int64_t kExpertsPairMostIds = 8192;
constexpr int64_t kExpertsPairMostSlots = 1 << 20;

// What a kernel is compiled for: chunks of up to 8 ColTiles slots, and so many warps, consumers and a producer for each
// team. 16 have up to 128 registers a lane, 12 have 168, which 32 slots take.
template <int ColTiles>
struct ExpertsPairSizes {
  static constexpr int kColTiles = ColTiles;
  static constexpr int kMostWarps = ColTiles > 2 ? 12 : 16;
  static constexpr int kThreads = kMostWarps * kWarpSize;
};

// Calls f(sizes) for chunks of so many slots.
template <class F>
constexpr auto with_experts_pair_sizes(int cols, const F& f) {
  return cols > 16 ? f(ExpertsPairSizes<4>{}) : f(ExpertsPairSizes<2>{});
}
constexpr int experts_pair_warps(int cols) {
  return with_experts_pair_sizes(cols, [](auto sizes) { return decltype(sizes)::kMostWarps; });
}

// The most that a launch uses: what finds no room is narrowed, see lay_out_experts_pair().
struct ExpertsPairConfig {
  int cols;   // slots of a chunk
  int rows;   // of W, in an item
  int teams;  // of warps, that take stages in turn

  std::string text() const {
    return "cols=" + std::to_string(cols) + " rows=" + std::to_string(rows) + " teams=" + std::to_string(teams);
  }
};

constexpr ExpertsPairConfig kExpertsPairConfigs[] = {{8, 96, 4},  {8, 64, 4},  {8, 32, 4},   {8, 128, 3}, {8, 128, 2},
                                                     {16, 64, 4}, {16, 96, 3}, {16, 128, 2}, {32, 64, 3}, {32, 128, 2}};

// What the host works out for a launch. Offsets are bytes in shared memory.
struct ExpertsPairPlan {
  int ctas;
  int cols;               // slots of a chunk, at most
  int row_groups;         // groups of rows of an expert's W
  int blocks;             // of a row
  int stages;             // of an item
  int groups;             // of an item, at most: warps of a team
  int teams;              // take stages in turn; no more than there are stages, so each has a part of every item
  int splits;             // warps of a team for each group, which take the blocks of a stage in turn
  int ring;               // stages of a team, which has a ring of its own
  int64_t most_chunks;    // of any routing
  int most_segments;      // of a CTA
  int x;                  // offsets, see above
  int sums;               // the same, [groups][sums of a warp]
  int barriers;           // the same
  int map;                // of nested absmax, the same
  int segments;           // the same
  int threads;            // of a CTA
  int shared_bytes;       // of a CTA
  bool quads;             // see quad_scales()
  PairCodebook codebook;  // in x's type

  constexpr int parts() const { return teams * splits; }        // of K, a warp of each group each
  constexpr int consumers() const { return groups * parts(); }  // warps
  constexpr int stage_rows() const { return groups * kExpertsPairRows; }
  // From the scales of a stage to those of the next, in the holes of the pair table.
  constexpr int scales_bytes() const { return stage_rows() / kExpertsPairHoleRows * PairTableSizes::kEntryBytes; }
};

// Where a CTA keeps its segments: of each one's expert, how many slots it has, and which of that expert's is its first;
// then of each slot (`cols` of each segment) its number, and the factor of its results.
struct ExpertsPairSegment {
  int32_t expert, slots, first;
};
constexpr int experts_segments_bytes(int segments, int cols) {
  return segments * (static_cast<int>(sizeof(ExpertsPairSegment)) + cols * 8);
}

// What a CTA has to do: items, in order. For each segment the fewest, all as high as can be alike.
class ExpertsPairItems {
 public:
  NF4_HD ExpertsPairItems(const ExpertsPairPlan& plan, int chunks, int cta) : plan_(plan), segment_(0) {
    const Shares shares = Shares::of(chunks * plan.row_groups, plan.ctas);
    const int begin = shares.begin(cta);
    left_ = shares.begin(cta + 1) - begin;
    first_chunk_ = begin / plan.row_groups;
    group_ = begin % plan.row_groups;
  }

  // Before the first item is left behind.
  NF4_HD int first_chunk() const { return first_chunk_; }  // whose part is segment 0
  NF4_HD int segments() const { return left_ == 0 ? 0 : (group_ + left_ - 1) / plan_.row_groups + 1; }

  // The item that it is at.
  NF4_HD bool more() const { return left_ > 0; }
  NF4_HD int segment() const { return segment_; }
  NF4_HD int group() const { return group_; }  // its first
  NF4_HD int groups() const {
    const int to_end = plan_.row_groups - group_;
    const int here = left_ < to_end ? left_ : to_end;  // of the segment
    const int items = (here + plan_.groups - 1) / plan_.groups;
    return (here + items - 1) / items;
  }
  NF4_HD void next() {
    const int done = groups();
    left_ -= done;
    group_ += done;
    if (group_ == plan_.row_groups) {
      group_ = 0;
      ++segment_;
    }
  }

 private:
  const ExpertsPairPlan& plan_;
  int first_chunk_;
  int left_;  // groups
  int segment_, group_;
};

// Lays out an item of so many slots and groups, for so many teams; false if it has no room of `bytes`.
inline bool lay_out_experts_pair_item(int64_t bytes, int cols, int groups, int teams, int64_t routing_bytes,
                                      ExpertsPairPlan& plan) {
  constexpr int kHoles = PairTableSizes::kEntries;
  plan.cols = cols;
  plan.groups = groups;
  plan.teams = teams;
  plan.splits = 1;
  while (plan.splits < kExpertsPairBlocks && 2 * plan.consumers() + teams <= experts_pair_warps(cols)) plan.splits *= 2;
  const int codes_bytes = groups * kExpertsPairGroupBytes, x_bytes = cols * kExpertsPairXPitch;
  const int sums_bytes = groups * kExpertsPairRows * cols * static_cast<int>(sizeof(float));
  const int64_t places = std::min<int64_t>((bytes - sums_bytes) / (codes_bytes + x_bytes),
                                           kHoles * kExpertsPairHoleRows / plan.stage_rows());
  plan.ring = static_cast<int>(std::min<int64_t>(kExpertsPairMostRing, places / teams));
  if (plan.ring < 2 || plan.ring * teams * (codes_bytes + x_bytes) < routing_bytes) return false;
  plan.x = PairTableSizes::kBytes + plan.ring * teams * codes_bytes;
  plan.sums = plan.x + plan.ring * teams * x_bytes;
  plan.barriers = plan.sums + sums_bytes;
  return true;
}

// A layout for products by E matrices [n, k], with as much of the config as there is room for: of teams there are fewer
// first, then of groups, then of slots. False if there is none.
inline bool lay_out_experts_pair(const Problem& problem, const Device& device, const ExpertsPairConfig& config,
                                 ExpertsPairPlan& plan) {
  constexpr int kBarrierBytes = 2 * kExpertsPairMostTeams * kExpertsPairMostRing * 8 + experts_pair_warps(1) * 8;
  constexpr int kMapBytes = kMapSize * static_cast<int>(sizeof(float));
  plan.ctas = std::max(1, device.clusters(1));
  plan.row_groups = static_cast<int>(std::max<int64_t>(1, ceil_div(problem.n, kExpertsPairRows)));
  plan.blocks = static_cast<int>(problem.k / kPairBlock);
  plan.stages = static_cast<int>(ceil_div(plan.blocks, kExpertsPairBlocks));
  const int64_t routing_bytes = (problem.experts + 1) * 4 + (problem.sorted ? 0 : problem.m * 2);
  for (int cols = config.cols; cols >= 8; cols /= 2) {
    plan.most_chunks = std::min(problem.m, problem.experts) + problem.m / cols;
    // The row groups of all chunks are counted in 31 bits.
    if (plan.most_chunks * plan.row_groups > 0x7fffffff) return false;
    plan.most_segments = static_cast<int>(ceil_div(plan.most_chunks, plan.ctas)) + 1;
    const int64_t segments_bytes = int64_t{plan.most_segments} * experts_segments_bytes(1, cols);
    const int64_t room = device.shared_memory - PairTableSizes::kBytes - kBarrierBytes - kMapBytes - segments_bytes;
    for (int groups = std::min(config.rows / kExpertsPairRows, plan.row_groups); groups > 0; --groups) {
      for (int teams = std::min({config.teams, experts_pair_warps(cols) / (groups + 1), plan.stages}); teams > 0;
           --teams) {
        if (!lay_out_experts_pair_item(room, cols, groups, teams, routing_bytes, plan)) continue;
        plan.map = plan.barriers + kBarrierBytes;
        plan.segments = plan.map + kMapBytes;
        plan.threads = (plan.consumers() + plan.teams) * kWarpSize;
        plan.shared_bytes = static_cast<int>(plan.segments + segments_bytes);
        return true;
      }
    }
  }
  return false;
}

}  // namespace nf4
