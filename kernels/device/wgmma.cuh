// The warpgroup's matrix instruction of compute capability 9.0a, as far as the kernels use it: d = a b or d += a b,
// m64nNk16, with a in registers, b in shared memory and d in fp32.
//
// A warpgroup is 4 warps from a multiple of 4 on. Warp w of it holds rows 16w to 16w + 15 of a and d, laid out over its
// lanes as for mma.m16n8k16; d[4 i ...] are columns 8i to 8i + 7.
#pragma once

#include <cstdint>

#include "format/number.hpp"

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ == 900 && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
#error "build for 90a in place of 90: the warpgroup's instructions are not in 90"
#endif

namespace nf4 {

// Whether device code is being compiled for 90a, or host code.
#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
constexpr bool kHasWgmma = false;
#else
constexpr bool kHasWgmma = true;
#endif

// The descriptor of b, [N][64 elements of 16 bits] with k along the rows: rows of 128 bytes, 8 of them 1024 bytes and
// aligned to that, with 16-byte piece c of row r at place c ^ (r % 8). Its upper half is the same for all; the lower
// has the address. An instruction takes 16 of the 64: those `bytes` further on.
constexpr uint32_t kWgmmaUpper = uint32_t{1} << 30       // 128-byte swizzle
                                 | uint32_t{1024 >> 4};  // from 8 rows to the next 8
__device__ __forceinline__ uint32_t wgmma_lower(uint32_t shared_address) {
  return uint32_t{1} << 16 | (shared_address & 0x3ffff) >> 4;
}
constexpr uint32_t wgmma_step(int bytes) { return static_cast<uint32_t>(bytes) >> 4; }

// Registers written before are seen by what is multiplied after it.
__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
// Keeps the compiler from computing `a` behind a wgmma_wait() or wgmma_fence() that follows, where it would not overlap
// with the instructions under way.
__device__ __forceinline__ void wgmma_settle(uint32_t (&a)[4]) {
  asm volatile("" : "+r"(a[0]), "+r"(a[1]), "+r"(a[2]), "+r"(a[3])::"memory");
}
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// All that was committed is done: d is there, a and b may be overwritten.
__device__ __forceinline__ void wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory"); }

// Gives this warpgroup `Registers` a thread, of those that the block was launched with.
template <int Registers>
__device__ __forceinline__ void give_up_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Registers));
}
template <int Registers>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Registers));
}

// d is added to if `add`, else overwritten.
template <class T, int Cols>
__device__ void wgmma(float (&d)[Cols / 2], const uint32_t (&a)[4], uint32_t b, bool add);

#define NF4_D4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define NF4_D8(i) NF4_D4(i), NF4_D4(i + 4)
#define NF4_D16(i) NF4_D8(i), NF4_D8(i + 8)
#define NF4_D32(i) NF4_D16(i), NF4_D16(i + 16)
#define NF4_D64(i) NF4_D32(i), NF4_D32(i + 32)
#define NF4_D128(i) NF4_D64(i), NF4_D64(i + 64)
// The operands after d are numbered from `a0` on.
#define NF4_WGMMA(T, TYPE, COLS, D, A, B, ADD, UPPER, ...)                                                            \
  template <>                                                                                                         \
  __device__ __forceinline__ void wgmma<T, COLS>(float(&d)[COLS / 2], const uint32_t(&a)[4], uint32_t b, bool add) {  \
    asm volatile("{ .reg .pred p; .reg .b64 b; setp.ne.b32 p, " ADD ", 0; mov.b64 b, {" B ", " UPPER                  \
                 "};"                                                                                                 \
                 "wgmma.mma_async.sync.aligned.m64n" #COLS "k16.f32." TYPE "." TYPE " {" D "}, {" A                   \
                 "}, b, p, 1, 1, 0; }"                                                                                \
                 : __VA_ARGS__                                                                                        \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b), "r"(static_cast<int>(add)), "r"(kWgmmaUpper)); \
  }
#define NF4_WGMMA_TYPES(COLS, D, A, B, ADD, UPPER, ...)           \
  NF4_WGMMA(bf16, "bf16", COLS, D, A, B, ADD, UPPER, __VA_ARGS__) \
  NF4_WGMMA(f16, "f16", COLS, D, A, B, ADD, UPPER, __VA_ARGS__)

NF4_WGMMA_TYPES(8, "%0,%1,%2,%3", "%4,%5,%6,%7", "%8", "%9", "%10", NF4_D4(0))
NF4_WGMMA_TYPES(16, "%0,%1,%2,%3,%4,%5,%6,%7", "%8,%9,%10,%11", "%12", "%13", "%14", NF4_D8(0))
NF4_WGMMA_TYPES(32, "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15", "%16,%17,%18,%19", "%20", "%21", "%22",
                NF4_D16(0))
NF4_WGMMA_TYPES(64,
                "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,"
                "%28,%29,%30,%31",
                "%32,%33,%34,%35", "%36", "%37", "%38", NF4_D32(0))
NF4_WGMMA_TYPES(128,
                "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,"
                "%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,"
                "%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63",
                "%64,%65,%66,%67", "%68", "%69", "%70", NF4_D64(0))
NF4_WGMMA_TYPES(256,
                "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,"
                "%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,"
                "%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,"
                "%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95,%96,%97,%98,%99,%100,"
                "%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,%112,%113,%114,%115,%116,%117,%118,%119,%120,"
                "%121,%122,%123,%124,%125,%126,%127",
                "%128,%129,%130,%131", "%132", "%133", "%134", NF4_D128(0))

#undef NF4_WGMMA_TYPES
#undef NF4_WGMMA
#undef NF4_D128
#undef NF4_D64
#undef NF4_D32
#undef NF4_D16
#undef NF4_D8
#undef NF4_D4

}  // namespace nf4
