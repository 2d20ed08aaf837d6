// The innermost loop of the host's product: a tile of sums that stays in registers.
#pragma once

#include <cstdint>
#include <span>

namespace nf4 {

inline constexpr int kTileRows = 6;   // rows of W
inline constexpr int kTileLanes = 8;  // rows of x, side by side

// sums[r * lds + lane] += w[r * ldw + k] * x[k * kTileLanes + lane] for each k of [0, size), in that order, for every
// row r < kTileRows and every lane.
using MultiplyTile = void (*)(const double* w, int64_t ldw, const double* x, int64_t size, double* sums, int64_t lds);

// The loop as compiled for an instruction set. A CPU that fuses multiplication and addition rounds once where others
// round twice, so the last bits of sums may differ from CPU to CPU.
struct TileVersion {
  const char* instructions;
  bool supported;  // by this CPU
  MultiplyTile multiply;
};

// Best first; the last is for every CPU.
std::span<const TileVersion> tile_versions();

// The first that this CPU supports.
MultiplyTile multiply_tile();

}  // namespace nf4
