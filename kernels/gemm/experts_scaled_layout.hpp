// How gemm_experts.scaled_wgmma divides its work among CTAs, and what it keeps in a workspace: what the host works out
// for a launch, and each CTA when it knows the routing, in plain C++, so that it is tested without a GPU.
//
// Work. A chunk is up to `cols` slots of one expert, that follow one another in the order of experts. A tile is 128
// rows of W_e by a chunk, a CTA's. Tiles are numbered expert after expert, the chunks of 8 of each row tile after one
// another: CTAs that run at the same time have few rows of W and of x between them, which the L2 cache holds.
//
//     tiles of an expert      0 1 .. 7 | 8 9 .. 15 | ...        row tile 0 | row tile 1 | ..., chunks 0 to 7
//                             .. then the same by chunks 8 to 15, and so on
//
// How many chunks there are only the device knows. The grid is what the host knows, a bound.
//
//     workspace     order | ends, of a routing by ids | rows of x in the order of experts, unless they lie so
//
// In shared memory a tile has the layout of gemm.scaled_wgmma. The slots of its chunk lie in the last holes of the pair
// table, behind the scales.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "format/hd.hpp"
#include "gemm/experts.hpp"
#include "gemm/scaled_wgmma_layout.hpp"
#include "gemm/sort_experts.hpp"

namespace nf4 {

constexpr int kExpertsScaledRows = 128;      // of W, in a tile
constexpr int kExpertsScaledNeighbours = 8;  // chunks by which a row tile is multiplied at a time
constexpr int64_t kExpertsScaledMostExperts = 4096;
constexpr int64_t kExpertsScaledMostSlots = 1 << 24;  // so that chunks are counted in 31 bits, whatever ends hold
constexpr int64_t kExpertsScaledMostTiles = 1 << 30;

struct ExpertsScaledConfig {
  int cols;  // slots of a chunk, at most

  std::string text() const { return "cols=" + std::to_string(cols); }
};

constexpr ExpertsScaledConfig kExpertsScaledConfigs[] = {{256}, {128}};

// What the host works out for a launch.
struct ExpertsScaledPlan {
  int row_tiles;  // of an expert's W
  int cols;       // slots of a chunk, at most
  int64_t tiles;  // of any routing, at most

  static ExpertsScaledPlan of(const Problem& problem, const ExpertsScaledConfig& config) {
    const int64_t row_tiles = ceil_div(problem.n, kExpertsScaledRows);
    const int64_t chunks = std::min(problem.m, problem.experts) + problem.m / config.cols;
    return {static_cast<int>(row_tiles), config.cols, row_tiles * chunks};
  }
};

// A slot of a tile: its number, or -1 where the routing names none, and the factor of its results.
struct ExpertsScaledSlot {
  int32_t number;
  float factor;
};
constexpr int kExpertsScaledHoleSlots = kScaledHoleRows * 4 / static_cast<int>(sizeof(ExpertsScaledSlot));
// The hole of the pair table where a tile's slots begin.
constexpr int kExpertsScaledFirstHole = PairTableSizes::kEntries - 256 / kExpertsScaledHoleSlots;

// Rows of an expert's W from `row` on, by the slots at positions from `first` on.
struct ExpertsScaledTile {
  int expert = -1;  // none
  int row = 0;
  int first = 0, slots = 0;
};

// Chunks of experts begin to end - 1.
NF4_HD int chunks_of(const Routing& routing, int begin, int end, int cols) {
  int chunks = 0;
  int last = expert_end(routing, begin - 1);
  for (int e = begin; e < end; ++e) {
    const int next = expert_end(routing, e);
    if (next > last) chunks += (next - last + cols - 1) / cols;
    last = next;
  }
  return chunks;
}

// Tile number `tile`, which is of one of the experts begin to end - 1, before which there are so many chunks.
NF4_HD ExpertsScaledTile tile_among(const Routing& routing, const ExpertsScaledPlan& plan, int begin, int end,
                                    int chunks_before, int tile) {
  for (int e = begin; e < end; ++e) {
    const int first = expert_end(routing, e - 1);
    const int chunks = chunks_of(routing, e, e + 1, plan.cols);
    const int inside = tile - chunks_before * plan.row_tiles;
    if (inside < chunks * plan.row_tiles) {
      const int group_tiles = kExpertsScaledNeighbours * plan.row_tiles;
      const int before = inside / group_tiles * kExpertsScaledNeighbours;  // chunks of the groups before
      const int left = chunks - before;
      const int width = left < kExpertsScaledNeighbours ? left : kExpertsScaledNeighbours;
      const int in_group = inside % group_tiles;
      const int begins = first + (before + in_group % width) * plan.cols;
      const int slots = expert_end(routing, e) - begins;
      return {e, in_group / width * kExpertsScaledRows, begins, slots < plan.cols ? slots : plan.cols};
    }
    chunks_before += chunks;
  }
  return {};
}

// Whether a product copies x to the workspace, in the order of experts: not if it lies so, a row for each slot.
constexpr bool gathers_x(bool in_order, int64_t top_k) { return !in_order || top_k != 1; }

// What a workspace holds: bytes, of which those of sorted slots come first.
struct ExpertsScaledRoom {
  size_t x;  // bytes from its start
  size_t bytes;

  static ExpertsScaledRoom of(const Problem& problem) {
    const size_t x = problem.sorted ? 0 : SortedSlots::of(problem.m, problem.experts).bytes;
    const size_t rows = gathers_x(problem.in_order, problem.top_k) ? static_cast<size_t>(problem.m) : 0;
    return {x, x + rows * static_cast<size_t>(problem.k) * 2};
  }
};

}  // namespace nf4
