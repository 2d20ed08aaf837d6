// The tuning table that is compiled in, in the form of docs/tuning.md. It speaks of CUDA devices only, and is made by
// `nf4-bench tune --builtin`: rows by what was measured on one device, for all of its compute capability, then rows for
// all others. The rows of f32 were put in by hand, after gemm.fma and unpacking had been measured on 28672 x 8192 with
// 1, 4 and 16 rows of x.
#pragma once

#include <string_view>

namespace nf4 {

#if NF4_HAVE_CUDA
inline constexpr std::string_view kBuiltinTuning = R"(nf4-tuning 1
# NVIDIA H200, commit f26219c1d750, by nf4-bench tune
# microseconds: geometric mean over the measured problems that a row holds for
# device,op,dtype,m,n,k,blocksize,variant,config,microseconds
sm_90,gemm,f32,1-32,*,*,*,gemm.fma,rows=4,
sm_90,gemm,*,1-4,1-1448,*,*,gemm.pair_tma,warps=8 ring=2 cluster=1,4.29
sm_90,gemm,*,1-4,1449-2896,*,*,gemm.pair_tma,warps=4 ring=2 cluster=1,5.48
sm_90,gemm,*,1-4,2897-23462,1-4579,*,gemm.pair_tma,warps=4 ring=2 cluster=1,7.15
sm_90,gemm,*,1-2,2897-23462,4580-13272,*,gemm.pair_tma,warps=8 ring=2 cluster=1,11.00
sm_90,gemm,*,1-2,2897-23462,13273-9223372036854775807,*,gemm.pair_tma,warps=8 ring=3 cluster=1,25.72
sm_90,gemm,*,3-4,2897-23462,4580-9223372036854775807,*,gemm.pair_tma,warps=8 ring=2 cluster=1,17.18
sm_90,gemm,*,1-4,23463-9223372036854775807,*,*,gemm.pair_tma,warps=8 ring=3 cluster=1,28.55
sm_90,gemm,*,5-8,1-2896,1-6636,*,gemm.pair_tma,warps=8 ring=2 cluster=1,6.73
sm_90,gemm,*,5-8,1-2896,6637-9223372036854775807,*,gemm.pair_tma,warps=4 ring=2 cluster=1,7.70
sm_90,gemm,*,9-16,1-2896,1-6636,*,gemm.pair_wgmma,tiles=1 teams=4 cluster=2,10.13
sm_90,gemm,*,9-16,1-2896,6637-9223372036854775807,*,gemm.pair_wgmma,tiles=1 teams=4 cluster=4,12.49
sm_90,gemm,*,17-9223372036854775807,1-1448,*,*,gemm.unpack_cublas,stores=streaming,13.40
sm_90,gemm,*,17-32,1-1448,*,*,gemm.pair_wgmma,tiles=2 teams=2 cluster=4,14.27
sm_90,gemm,*,33-9223372036854775807,1-1448,*,*,gemm.pair_wgmma,tiles=1 teams=4 cluster=4,35.74
sm_90,gemm,*,17-32,1449-2896,*,*,gemm.pair_wgmma,tiles=2 teams=2 cluster=4,14.26
sm_90,gemm,*,33-9223372036854775807,1449-2896,*,*,gemm.unpack_cublas,stores=cached,17.84
sm_90,gemm,*,33-9223372036854775807,1449-2896,*,*,gemm.pair_wgmma,tiles=2 teams=2 cluster=4,35.48
sm_90,gemm,*,5-8,2897-5246,*,*,gemm.pair_tma,warps=4 ring=2 cluster=1,16.93
sm_90,gemm,*,5-8,5247-6636,*,*,gemm.pair_tma,warps=8 ring=3 cluster=1,17.10
sm_90,gemm,*,9-16,2897-6636,*,*,gemm.pair_stream,rows=32 warps=4 teams=2 cluster=2,21.11
sm_90,gemm,*,17-32,2897-4579,1-13272,*,gemm.pair_stream,rows=32 warps=4 teams=2 cluster=2,16.97
sm_90,gemm,*,33-64,2897-4579,1-13272,*,gemm.pair_wgmma,tiles=1 teams=4 cluster=2,24.49
sm_90,gemm,*,17-64,4580-6636,1-13272,*,gemm.pair_wgmma,tiles=4 teams=1 cluster=4,21.98
sm_90,gemm,*,65-128,2897-6636,1-13272,*,gemm.unpack_cublas,stores=cached,36.35
sm_90,gemm,*,65-128,2897-4579,1-13272,*,gemm.pair_wgmma,tiles=1 teams=4 cluster=2,48.69
sm_90,gemm,*,65-128,4580-6636,1-13272,*,gemm.pair_wgmma,tiles=4 teams=1 cluster=4,52.78
sm_90,gemm,*,17-128,2897-6636,13273-9223372036854775807,*,gemm.pair_wgmma,tiles=4 teams=1 cluster=4,80.77
sm_90,gemm,*,5-8,6637-23462,1-5246,*,gemm.pair_tma,warps=4 ring=2 cluster=1,12.51
sm_90,gemm,*,5-8,6637-23462,5247-15325,*,gemm.pair_tma,warps=8 ring=3 cluster=1,21.86
sm_90,gemm,*,9-32,6637-13272,1-15325,*,gemm.pair_stream,rows=32 warps=4 teams=2 cluster=2,18.84
sm_90,gemm,*,9-32,13273-23462,1-15325,*,gemm.pair_stream,rows=32 warps=7 teams=2 cluster=1,33.19
sm_90,gemm,*,33-128,6637-13272,1-15325,*,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,45.71
sm_90,gemm,*,33-128,13273-23462,1-15325,*,gemm.pair_wgmma,tiles=3 teams=1 cluster=1,80.69
sm_90,gemm,*,5-128,6637-23462,15326-9223372036854775807,*,gemm.pair_stream,rows=32 warps=4 teams=2 cluster=2,83.94
sm_90,gemm,*,5-32,23463-9223372036854775807,*,*,gemm.pair_stream,rows=32 warps=7 teams=2 cluster=1,37.84
sm_90,gemm,*,33-128,23463-9223372036854775807,*,*,gemm.pair_wgmma,tiles=4 teams=1 cluster=1,108.19
sm_90,gemm,*,129-9223372036854775807,2897-9223372036854775807,*,*,gemm.unpack_cublas,stores=cached,113.68
sm_90,gemm,*,129-9223372036854775807,2897-4579,*,*,gemm.pair_wgmma,tiles=1 teams=4 cluster=2,97.40
sm_90,gemm,*,129-9223372036854775807,4580-6636,*,*,gemm.pair_wgmma,tiles=4 teams=1 cluster=4,173.78
sm_90,gemm,*,129-9223372036854775807,6637-13272,1-15325,*,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,127.61
sm_90,gemm,*,129-9223372036854775807,6637-13272,15326-9223372036854775807,*,gemm.pair_stream,rows=32 warps=4 teams=2 cluster=2,438.37
sm_90,gemm,*,129-9223372036854775807,13273-23462,*,*,gemm.pair_wgmma,tiles=3 teams=1 cluster=1,226.74
sm_90,gemm,*,129-9223372036854775807,23463-9223372036854775807,*,*,gemm.pair_wgmma,tiles=4 teams=1 cluster=1,308.55
sm_90,unpack,*,*,1-2896,*,*,unpack.stream,threads=256 blocks=6 grid=resident stores=streaming,6.32
sm_90,unpack,*,*,2897-9223372036854775807,*,*,unpack.stream,threads=128 blocks=12 grid=tiles stores=streaming,51.37
sm_90,pack,*,*,1-2896,*,*,pack.binned,threads=256 steps=4 blocks=4 grid=resident,8.25
sm_90,pack,*,*,2897-9223372036854775807,*,*,pack.binned,threads=128 steps=8 blocks=6 grid=tiles,54.47
*,gemm,f32,1-32,*,*,*,gemm.fma,rows=4,
*,gemm,*,1-8,*,*,*,gemm.pair_tma,warps=8 ring=2 cluster=1,
*,gemm,*,1-2,*,*,*,gemm.pair,warps=8 ring=2 cluster=1,
*,gemm,*,1,*,*,*,gemm.fma,rows=4,
*,gemm,*,1,*,*,*,gemm.pair_wgmma,tiles=1 teams=4 cluster=1,
*,gemm,*,1,*,*,*,gemm.pair_stream,rows=32 warps=4 teams=2 cluster=2,
*,gemm,*,1,*,*,*,gemv.lut_shared,warps=4,
*,gemm,*,1,*,*,*,gemv.lut_global,warps=4,
*,gemm,*,1,*,*,*,gemm.unpack_cublas,stores=cached,
*,gemm,*,1,*,*,*,gemm.tiled,tile_m=16,
*,gemm,*,2,*,*,*,gemm.pair_stream,rows=32 warps=4 teams=2 cluster=2,
*,gemm,*,2,*,*,*,gemm.pair_wgmma,tiles=1 teams=4 cluster=1,
*,gemm,*,2,*,*,*,gemm.fma,rows=8,
*,gemm,*,2,*,*,*,gemm.unpack_cublas,stores=streaming,
*,gemm,*,2,*,*,*,gemm.tiled,tile_m=16,
*,gemm,*,3-4,*,*,*,gemm.pair,warps=8 ring=2 cluster=1,
*,gemm,*,3-4,*,*,*,gemm.pair_stream,rows=32 warps=4 teams=2 cluster=2,
*,gemm,*,3-4,*,*,*,gemm.pair_wgmma,tiles=1 teams=4 cluster=1,
*,gemm,*,3-4,*,*,*,gemm.fma,rows=8,
*,gemm,*,3-4,*,*,*,gemm.unpack_cublas,stores=cached,
*,gemm,*,3-4,*,*,*,gemm.tiled,tile_m=16,
*,gemm,*,5-8,*,*,*,gemm.pair_stream,rows=32 warps=4 teams=2 cluster=2,
*,gemm,*,5-8,*,*,*,gemm.pair_wgmma,tiles=1 teams=4 cluster=1,
*,gemm,*,5-8,*,*,*,gemm.pair,warps=8 ring=2 cluster=1,
*,gemm,*,5-8,*,*,*,gemm.unpack_cublas,stores=cached,
*,gemm,*,5-8,*,*,*,gemm.fma,rows=8,
*,gemm,*,5-8,*,*,*,gemm.tiled,tile_m=16,
*,gemm,*,9-16,*,*,*,gemm.pair_stream,rows=32 warps=4 teams=2 cluster=2,
*,gemm,*,9-16,*,*,*,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,
*,gemm,*,9-16,*,*,*,gemm.pair_tma,warps=4 ring=2 cluster=1,
*,gemm,*,9-16,*,*,*,gemm.unpack_cublas,stores=streaming,
*,gemm,*,9-16,*,*,*,gemm.pair,warps=8 ring=2 cluster=1,
*,gemm,*,9-16,*,*,*,gemm.fma,rows=4,
*,gemm,*,9-16,*,*,*,gemm.tiled,tile_m=16,
*,gemm,*,17-32,*,*,*,gemm.pair_stream,rows=32 warps=4 teams=2 cluster=2,
*,gemm,*,17-32,*,*,*,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,
*,gemm,*,17-32,*,*,*,gemm.pair_tma,warps=4 ring=2 cluster=1,
*,gemm,*,17-32,*,*,*,gemm.unpack_cublas,stores=cached,
*,gemm,*,17-32,*,*,*,gemm.pair,warps=8 ring=3 cluster=1,
*,gemm,*,17-32,*,*,*,gemm.fma,rows=4,
*,gemm,*,17-32,*,*,*,gemm.tiled,tile_m=16,
*,gemm,*,33-64,*,*,*,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,
*,gemm,*,33-64,*,*,*,gemm.pair_stream,rows=32 warps=4 teams=2 cluster=2,
*,gemm,*,33-64,*,*,*,gemm.unpack_cublas,stores=cached,
*,gemm,*,33-64,*,*,*,gemm.pair_tma,warps=4 ring=2 cluster=1,
*,gemm,*,33-64,*,*,*,gemm.pair,warps=8 ring=3 cluster=1,
*,gemm,*,33-64,*,*,*,gemm.fma,rows=4,
*,gemm,*,33-64,*,*,*,gemm.tiled,tile_m=64,
*,gemm,*,65-128,*,*,*,gemm.unpack_cublas,stores=cached,
*,gemm,*,65-128,*,*,*,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,
*,gemm,*,65-128,*,*,*,gemm.pair_stream,rows=32 warps=4 teams=2 cluster=2,
*,gemm,*,65-128,*,*,*,gemm.pair_tma,warps=4 ring=2 cluster=1,
*,gemm,*,65-128,*,*,*,gemm.pair,warps=8 ring=3 cluster=1,
*,gemm,*,65-128,*,*,*,gemm.tiled,tile_m=64,
*,gemm,*,65-128,*,*,*,gemm.fma,rows=4,
*,gemm,*,129-9223372036854775807,*,*,*,gemm.unpack_cublas,stores=cached,
*,gemm,*,129-9223372036854775807,*,*,*,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,
*,gemm,*,129-9223372036854775807,*,*,*,gemm.pair_stream,rows=32 warps=4 teams=2 cluster=2,
*,gemm,*,129-9223372036854775807,*,*,*,gemm.pair_tma,warps=4 ring=2 cluster=1,
*,gemm,*,129-9223372036854775807,*,*,*,gemm.pair,warps=8 ring=3 cluster=1,
*,gemm,*,129-9223372036854775807,*,*,*,gemm.tiled,tile_m=64,
*,gemm,*,129-9223372036854775807,*,*,*,gemm.fma,rows=4,
*,unpack,*,*,*,*,*,unpack.stream,threads=128 blocks=12 grid=tiles stores=streaming,
*,unpack,*,*,*,*,*,unpack.lut_shared,threads=128,
*,unpack,*,*,*,*,*,unpack.lut_global,threads=128,
*,pack,*,*,*,*,*,pack.binned,threads=128 steps=8 blocks=6 grid=tiles,
*,pack,*,*,*,*,*,pack.cub,,
)";
#else
inline constexpr std::string_view kBuiltinTuning = "nf4-tuning 1\n";
#endif

}  // namespace nf4
