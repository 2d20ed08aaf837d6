// A thread's unit of work where memory allows it: 8 consecutive elements, whose codes are one 32-bit word.
#pragma once

#include <cstdint>

namespace nf4 {

constexpr int kChunk = 8;

// 8 elements, moved in 16-byte accesses.
template <class T>
struct alignas(16) Chunk {
  T values[kChunk];
};

template <class T>
__device__ Chunk<T> load_chunk(const T* p) {
  return *reinterpret_cast<const Chunk<T>*>(p);
}

template <class T>
__device__ void store_chunk(T* p, const Chunk<T>& chunk) {
  *reinterpret_cast<Chunk<T>*>(p) = chunk;
}

}  // namespace nf4
