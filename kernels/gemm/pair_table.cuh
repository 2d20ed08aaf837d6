// The pair table: for each byte of codes its two codebook values in a 16-bit type, so that one look-up decodes two
// weights.
//
// Lane l of a warp reads only bank l (an entry is repeated for every lane), so look-ups never conflict. Entries lie 256
// bytes apart: then one byte permute of a code word with the lane's offset is the whole address computation.
//
//     address = [ 0 | 0 | byte of codes | lane * 4 ]
//
// The upper 128 bytes of every entry's 256 are free for other use.
#pragma once

#include <cstdint>

#include "device/ptx.cuh"
#include "device/warp.hpp"
#include "gemm/pair_codebook.hpp"
#include "gemm/pair_sizes.hpp"

namespace nf4 {

struct PairTable : PairTableSizes {
  // Entry e holds the value of code e >> 4 in its low half and that of e & 15 in its high half. The
  // first `warps` warps of the block write 16 bytes a thread at a time; a barrier must follow.
  static __device__ void fill(uint8_t* table, const PairCodebook& codebook, int warps) {
    constexpr int kPieces = kUsedBytes / 16;
    const int lane = threadIdx.x % kWarpSize;
    const uint32_t values = codebook.values[lane % 16];  // one access to parameters; lanes exchange the rest
    for (int i = threadIdx.x; i < kEntries * kPieces; i += warps * kWarpSize) {
      const int e = i / kPieces;
      const uint32_t pair = __shfl_sync(~0u, values, e & 15) << 16 | __shfl_sync(~0u, values, e >> 4);
      *reinterpret_cast<uint4*>(table + e * kEntryBytes + i % kPieces * 16) = make_uint4(pair, pair, pair, pair);
    }
  }

  // The two weights of byte `Byte` of `codes`; `lane4` is 4 * lane.
  template <int Byte>
  static __device__ __forceinline__ uint32_t look_up(const uint8_t* table, uint32_t codes, uint32_t lane4) {
    return *reinterpret_cast<const uint32_t*>(table + __byte_perm(codes, lane4, 0x5504 | Byte << 4));
  }

  // The same for a byte that is a number once loops are unrolled.
  static __device__ __forceinline__ uint32_t look_up(const uint8_t* table, uint32_t codes, uint32_t lane4, int byte) {
    return *reinterpret_cast<const uint32_t*>(table + __byte_perm(codes, lane4, 0x5504 | byte << 4));
  }

  // look_up() of a lane without an addition, where the compiler would make one: the bits of the table's address above
  // the lowest 16 are those of the permute's other operand, and the rest is a constant.
  struct Lane {
    static constexpr uint32_t kStart = 1024;  // of dynamic shared memory, modulo 64 KiB, on compute capability 9.0

    uint32_t base;

    __device__ explicit Lane(const uint8_t* table) {
      const uint32_t address = shared_address(table);
      if (address % 0x10000 != kStart) __trap();
      base = address - kStart + threadIdx.x % kWarpSize * 4;
    }
    template <int Byte>
    __device__ __forceinline__ uint32_t look_up(uint32_t codes) const {
      return look_up(codes, byte_selector(Byte));
    }
    // The same for a byte that is known at run time, by its byte_selector().
    __device__ __forceinline__ uint32_t look_up(uint32_t codes, uint32_t selector) const {
      return load_shared<kStart>(__byte_perm(codes, base, selector));
    }
    static constexpr uint32_t byte_selector(int byte) { return 0x7604 | static_cast<uint32_t>(byte) << 4; }
  };
};

}  // namespace nf4
