// The tuning table that is compiled in, in the form of docs/tuning.md. It speaks of CUDA devices only. Rows are by the
// results of an H200 in bench/results, but those of gemm.pair_stream for n up to 4096 and of gemm.fma, which are
// reasoned, and serve all devices until others are measured.
#pragma once

#include <string_view>

namespace nf4 {

#if NF4_HAVE_CUDA
inline constexpr std::string_view kBuiltinTuning = R"(nf4-tuning 1
# device,op,dtype,m,n,k,blocksize,variant,config,microseconds
*,gemm,*,129-9223372036854775807,*,*,*,gemm.unpack_cublas,stores=cached,
*,gemm,*,9-128,0-1920,*,*,gemm.pair_stream,rows=64 warps=1 teams=4 cluster=4,
*,gemm,*,9-128,1921-4096,*,*,gemm.pair_stream,rows=64 warps=1 teams=4 cluster=2,
*,gemm,*,9-128,4097-16384,*,*,gemm.pair_stream,rows=32 warps=4 teams=2 cluster=2,
*,gemm,*,9-128,*,*,*,gemm.pair_stream,rows=32 warps=7 teams=2 cluster=1,
*,gemm,*,1,1025-5376,0-5376,*,gemm.pair_tma,warps=4 ring=2 cluster=1,
*,gemm,*,1,*,0-5376,*,gemm.pair_tma,warps=8 ring=2 cluster=1,
*,gemm,*,1-4,0-8192,0-8192,*,gemm.pair_tma,warps=8 ring=2 cluster=1,
*,gemm,*,5-8,0-8192,16385-9223372036854775807,*,gemm.pair_tma,warps=4 ring=2 cluster=1,
*,gemm,*,*,*,*,*,gemm.pair_tma,warps=8 ring=3 cluster=1,
*,gemm,*,*,*,*,*,gemm.pair,warps=8 ring=2 cluster=1,
*,gemm,*,1-128,0-2048,*,*,gemm.fma,rows=4,
*,gemm,*,1-128,*,*,*,gemm.fma,rows=8,
*,gemm,*,129-9223372036854775807,*,*,*,gemm.tiled,tile_m=64,
*,pack,f16,*,*,*,*,pack.binned,threads=128 steps=8 blocks=6 grid=tiles,
*,pack,bf16,*,*,*,*,pack.binned,threads=128 steps=8 blocks=6 grid=tiles,
)";
#else
inline constexpr std::string_view kBuiltinTuning = "nf4-tuning 1\n";
#endif

}  // namespace nf4
