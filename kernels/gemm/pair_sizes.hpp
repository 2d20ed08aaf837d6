// Sizes of what the pair kernels share, in plain C++: what the host lays out by them is tested without a GPU.
#pragma once

#include "device/warp.hpp"

namespace nf4 {

constexpr int kPairBlock = 64;                    // weights that share an accumulator
constexpr int kPairBlockBytes = kPairBlock / 2;   // of codes
constexpr int kPairBlockXBytes = kPairBlock * 2;  // of a row of x in 16 bits
constexpr int kPairBoxBytes = 128;                // of a row, that lie together in a stage
constexpr int kPairBoxBlocks = kPairBoxBytes / kPairBlockBytes;

struct PairTableSizes {  // see pair_table.cuh
  static constexpr int kEntries = 256;
  static constexpr int kEntryBytes = 256;
  static constexpr int kBytes = kEntries * kEntryBytes;
  static constexpr int kUsedBytes = kWarpSize * 4;                          // of an entry
  static constexpr int kFreeBytes = kEntries * (kEntryBytes - kUsedBytes);  // of the table, in holes of 128 bytes
};

}  // namespace nf4
