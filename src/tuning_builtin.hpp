// The tuning table that is compiled in, in the form of docs/tuning.md. It speaks of CUDA devices only, and is made by
// `nf4-bench tune --builtin`: rows by what was measured on one device, for all of its compute capability, then rows for
// all others.
#pragma once

#include <string_view>

namespace nf4 {

#if NF4_HAVE_CUDA
inline constexpr std::string_view kBuiltinTuning = R"(nf4-tuning 1
# NVIDIA H100 80GB HBM3, commit a4c6f225cbcd, by nf4-bench tune; f32 on an NVIDIA H200, commit 98c5f6bf013d
# blocksize 32: what an NVIDIA H200 was fast with, bench/results/h200-full-2026-11-24.csv
# microseconds: geometric mean over the measured problems that a row holds for
# device,op,dtype,m,n,k,blocksize,variant,config,microseconds
sm_90,gemm,f32,1,1-2896,*,*,gemm.fma,rows=2,6.77
sm_90,gemm,f32,1,2897-9223372036854775807,*,*,gemm.fma,rows=4,33.37
sm_90,gemm,f32,2-16,*,*,*,gemm.fma,rows=8,61.00
sm_90,gemm,f32,17-9223372036854775807,1-2896,*,*,gemm.unpack_cublas,stores=cached,48.48
sm_90,gemm,f32,17-9223372036854775807,1-2896,*,*,gemm.fma,rows=2,120.89
sm_90,gemm,f32,17-32,2897-9223372036854775807,*,*,gemm.fma,rows=8,497.93
sm_90,gemm,f32,33-9223372036854775807,2897-9223372036854775807,*,*,gemm.unpack_cublas,stores=streaming,635.78
sm_90,gemm,f32,33-9223372036854775807,2897-9223372036854775807,*,*,gemm.fma,rows=8,997.39
sm_90,gemm,*,1-2,*,*,32,gemm.fma,rows=4,
sm_90,gemm,*,3-32,1-2896,*,32,gemm.pair_wgmma,tiles=1 teams=4 cluster=4,
sm_90,gemm,*,3-32,2897-9223372036854775807,*,32,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,
sm_90,gemm,*,1-2,1-2896,1-6636,*,gemm.pair_tma,warps=12 ring=2 cluster=1,4.08
sm_90,gemm,*,1-2,1-2896,6637-9223372036854775807,*,gemm.pair_tma,warps=8 ring=3 cluster=1,4.01
sm_90,gemm,*,3-4,1-2896,*,*,gemm.pair_tma,warps=4 ring=2 cluster=1,5.23
sm_90,gemm,*,5-16,1-1448,1-6476,*,gemm.pair_stream,teams=2 cluster=2,5.85
sm_90,gemm,*,5-16,1-1448,6477-9223372036854775807,*,gemm.pair_stream,teams=2 cluster=8,6.98
sm_90,gemm,*,17-64,1-1448,*,*,gemm.pair_stream,teams=1 cluster=8,8.74
sm_90,gemm,*,5-8,1449-2896,*,*,gemm.pair_wgmma,tiles=1 teams=4 cluster=2,6.77
sm_90,gemm,*,9-32,1449-2896,*,*,gemm.pair_stream,teams=1 cluster=8,8.82
sm_90,gemm,*,33-64,1449-2896,*,*,gemm.pair_stream,teams=4 cluster=2,12.05
sm_90,gemm,*,65-128,1-1448,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=8,11.67
sm_90,gemm,*,65-128,1449-2896,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=4,14.25
sm_90,gemm,*,129-256,1-1448,1-6476,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=4,13.49
sm_90,gemm,*,129-256,1-1448,6477-9223372036854775807,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=8,17.98
sm_90,gemm,*,129-256,1449-2896,*,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=4,19.81
sm_90,gemm,*,1-4,2897-13272,1-13272,*,gemm.pair_tma,warps=8 ring=2 cluster=1,9.56
sm_90,gemm,*,1-2,2897-6636,13273-9223372036854775807,*,gemm.pair_tma,warps=8 ring=3 cluster=1,26.79
sm_90,gemm,*,1-2,6637-13272,13273-9223372036854775807,*,gemm.pair_tma,warps=8 ring=3 cluster=2,47.23
sm_90,gemm,*,3-4,2897-6636,13273-9223372036854775807,*,gemm.pair_tma,warps=8 ring=2 cluster=4,29.79
sm_90,gemm,*,3-4,6637-13272,13273-9223372036854775807,*,gemm.pair_stream,teams=2 cluster=2,50.24
sm_90,gemm,*,5-8,2897-4579,*,*,gemm.pair_tma,warps=4 ring=2 cluster=1,9.08
sm_90,gemm,*,9-32,2897-4579,*,*,gemm.pair_stream,teams=2 cluster=2,11.27
sm_90,gemm,*,5-8,4580-6636,*,*,gemm.pair_stream,teams=1 cluster=8,19.67
sm_90,gemm,*,9-32,4580-6636,1-5792,*,gemm.pair_stream,teams=4 cluster=2,10.92
sm_90,gemm,*,9-16,4580-6636,5793-23462,*,gemm.pair_stream,teams=2 cluster=2,21.95
sm_90,gemm,*,9-16,4580-6636,23463-9223372036854775807,*,gemm.pair_stream,teams=1 cluster=4,35.05
sm_90,gemm,*,17-32,4580-6636,5793-9223372036854775807,*,gemm.pair_stream,teams=2 cluster=4,30.31
sm_90,gemm,*,5-32,6637-13272,*,*,gemm.pair_stream,teams=2 cluster=2,23.96
sm_90,gemm,*,1-2,13273-9223372036854775807,*,*,gemm.pair_tma,warps=8 ring=3 cluster=1,32.58
sm_90,gemm,*,3-16,13273-23462,*,*,gemm.pair_stream,teams=2 cluster=1,27.53
sm_90,gemm,*,3-16,23463-9223372036854775807,*,*,gemm.pair_stream,teams=1 cluster=1,39.26
sm_90,gemm,*,17-32,13273-9223372036854775807,*,*,gemm.pair_stream,teams=2 cluster=1,44.15
sm_90,gemm,*,33-64,2897-6636,*,*,gemm.pair_stream,teams=2 cluster=2,30.86
sm_90,gemm,*,65-128,2897-6636,*,*,gemm.scaled_wgmma,rows=192 cols=128 cluster=4,35.03
sm_90,gemm,*,33-64,6637-13272,1-15325,*,gemm.pair_stream,teams=2 cluster=1,26.21
sm_90,gemm,*,33-64,6637-13272,15326-9223372036854775807,*,gemm.pair_stream,teams=1 cluster=2,101.27
sm_90,gemm,*,65-128,6637-13272,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,47.10
sm_90,gemm,*,33-128,13273-23462,*,*,gemm.scaled_wgmma,rows=192 cols=128 cluster=1,61.46
sm_90,gemm,*,33-64,23463-9223372036854775807,*,*,gemm.pair_stream,teams=1 cluster=1,78.21
sm_90,gemm,*,65-128,23463-9223372036854775807,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=1,104.31
sm_90,gemm,*,129-256,2897-4579,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,23.88
sm_90,gemm,*,129-256,4580-23462,*,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,73.71
sm_90,gemm,*,129-256,23463-9223372036854775807,*,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=1,156.37
sm_90,gemm,*,257-9223372036854775807,1-1448,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,29.37
sm_90,gemm,*,257-9223372036854775807,1449-2896,*,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,37.06
sm_90,gemm,*,257-9223372036854775807,2897-4579,*,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=1,65.73
sm_90,gemm,*,257-9223372036854775807,4580-6636,1-13272,*,gemm.unpack_cublas,stores=cached,113.28
sm_90,gemm,*,257-9223372036854775807,4580-6636,1-13272,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,119.75
sm_90,gemm,*,257-9223372036854775807,4580-6636,13273-9223372036854775807,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,437.41
sm_90,gemm,*,257-9223372036854775807,6637-9223372036854775807,*,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=1,372.64
sm_90,unpack,*,*,1-2896,*,*,unpack.stream,threads=256 blocks=6 grid=resident stores=streaming,7.75
sm_90,unpack,*,*,2897-9223372036854775807,*,*,unpack.stream,threads=128 blocks=12 grid=tiles stores=streaming,70.92
sm_90,pack,*,*,*,*,*,pack.binned,threads=256 steps=4 blocks=4 grid=tiles,46.58
*,gemm,f32,1-16,*,*,*,gemm.fma,rows=4,
*,gemm,f32,1,*,*,*,gemv.lut_shared,warps=4,
*,gemm,f32,1,*,*,*,gemv.lut_global,warps=4,
*,gemm,f32,1,*,*,*,gemm.unpack_cublas,stores=cached,
*,gemm,f32,1,*,*,*,gemm.tiled,tile_m=16,
*,gemm,f32,2-16,*,*,*,gemm.unpack_cublas,stores=cached,
*,gemm,f32,2-16,*,*,*,gemm.tiled,tile_m=16,
*,gemm,f32,17-32,*,*,*,gemm.fma,rows=8,
*,gemm,f32,17-32,*,*,*,gemm.unpack_cublas,stores=cached,
*,gemm,f32,17-32,*,*,*,gemm.tiled,tile_m=16,
*,gemm,f32,33-9223372036854775807,*,*,*,gemm.unpack_cublas,stores=cached,
*,gemm,f32,33-9223372036854775807,*,*,*,gemm.fma,rows=8,
*,gemm,f32,33-9223372036854775807,*,*,*,gemm.tiled,tile_m=64,
*,gemm,*,1-8,*,*,*,gemm.pair_tma,warps=4 ring=2 cluster=1,
*,gemm,*,1-2,*,*,*,gemm.pair,warps=8 ring=2 cluster=1,
*,gemm,*,1,*,*,*,gemm.pair_stream,teams=2 cluster=2,
*,gemm,*,1,*,*,*,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,
*,gemm,*,1,*,*,*,gemm.fma,rows=4,
*,gemm,*,1,*,*,*,gemv.lut_shared,warps=4,
*,gemm,*,1,*,*,*,gemv.lut_global,warps=4,
*,gemm,*,1,*,*,*,gemm.scaled_wgmma,rows=192 cols=128 cluster=8,
*,gemm,*,1,*,*,*,gemm.unpack_cublas,stores=streaming,
*,gemm,*,1,*,*,*,gemm.tiled,tile_m=16,
*,gemm,*,2,*,*,*,gemm.pair_stream,teams=2 cluster=2,
*,gemm,*,2,*,*,*,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,
*,gemm,*,2,*,*,*,gemm.fma,rows=8,
*,gemm,*,2,*,*,*,gemm.scaled_wgmma,rows=192 cols=128 cluster=4,
*,gemm,*,2,*,*,*,gemm.unpack_cublas,stores=streaming,
*,gemm,*,2,*,*,*,gemm.tiled,tile_m=16,
*,gemm,*,3-4,*,*,*,gemm.pair_stream,teams=2 cluster=2,
*,gemm,*,3-4,*,*,*,gemm.pair,warps=8 ring=2 cluster=1,
*,gemm,*,3-4,*,*,*,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,
*,gemm,*,3-4,*,*,*,gemm.fma,rows=8,
*,gemm,*,3-4,*,*,*,gemm.scaled_wgmma,rows=192 cols=128 cluster=8,
*,gemm,*,3-4,*,*,*,gemm.unpack_cublas,stores=streaming,
*,gemm,*,3-4,*,*,*,gemm.tiled,tile_m=16,
*,gemm,*,5-8,*,*,*,gemm.pair_stream,teams=2 cluster=2,
*,gemm,*,5-8,*,*,*,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,
*,gemm,*,5-8,*,*,*,gemm.pair,warps=8 ring=2 cluster=1,
*,gemm,*,5-8,*,*,*,gemm.scaled_wgmma,rows=192 cols=128 cluster=4,
*,gemm,*,5-8,*,*,*,gemm.unpack_cublas,stores=streaming,
*,gemm,*,5-8,*,*,*,gemm.fma,rows=8,
*,gemm,*,5-8,*,*,*,gemm.tiled,tile_m=16,
*,gemm,*,9-16,*,*,*,gemm.pair_stream,teams=2 cluster=2,
*,gemm,*,9-16,*,*,*,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,
*,gemm,*,9-16,*,*,*,gemm.pair_tma,warps=4 ring=2 cluster=1,
*,gemm,*,9-16,*,*,*,gemm.scaled_wgmma,rows=192 cols=128 cluster=4,
*,gemm,*,9-16,*,*,*,gemm.pair,warps=8 ring=2 cluster=1,
*,gemm,*,9-16,*,*,*,gemm.unpack_cublas,stores=streaming,
*,gemm,*,9-16,*,*,*,gemm.fma,rows=8,
*,gemm,*,9-16,*,*,*,gemm.tiled,tile_m=16,
*,gemm,*,17-32,*,*,*,gemm.pair_stream,teams=2 cluster=2,
*,gemm,*,17-32,*,*,*,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,
*,gemm,*,17-32,*,*,*,gemm.scaled_wgmma,rows=192 cols=128 cluster=4,
*,gemm,*,17-32,*,*,*,gemm.pair_tma,warps=4 ring=2 cluster=1,
*,gemm,*,17-32,*,*,*,gemm.unpack_cublas,stores=streaming,
*,gemm,*,17-32,*,*,*,gemm.pair,warps=8 ring=3 cluster=1,
*,gemm,*,17-32,*,*,*,gemm.fma,rows=4,
*,gemm,*,17-32,*,*,*,gemm.tiled,tile_m=16,
*,gemm,*,33-64,*,*,*,gemm.pair_stream,teams=2 cluster=2,
*,gemm,*,33-64,*,*,*,gemm.pair_wgmma,tiles=4 teams=1 cluster=4,
*,gemm,*,33-64,*,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,
*,gemm,*,33-64,*,*,*,gemm.unpack_cublas,stores=streaming,
*,gemm,*,33-64,*,*,*,gemm.pair_tma,warps=4 ring=2 cluster=1,
*,gemm,*,33-64,*,*,*,gemm.pair,warps=8 ring=3 cluster=1,
*,gemm,*,33-64,*,*,*,gemm.fma,rows=4,
*,gemm,*,33-64,*,*,*,gemm.tiled,tile_m=64,
*,gemm,*,65-128,*,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,
*,gemm,*,65-128,*,*,*,gemm.pair_stream,teams=2 cluster=2,
*,gemm,*,65-128,*,*,*,gemm.unpack_cublas,stores=streaming,
*,gemm,*,65-128,*,*,*,gemm.pair_wgmma,tiles=4 teams=1 cluster=4,
*,gemm,*,65-128,*,*,*,gemm.pair_tma,warps=4 ring=2 cluster=1,
*,gemm,*,65-128,*,*,*,gemm.pair,warps=8 ring=3 cluster=1,
*,gemm,*,65-128,*,*,*,gemm.tiled,tile_m=64,
*,gemm,*,65-128,*,*,*,gemm.fma,rows=4,
*,gemm,*,129-256,*,*,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,
*,gemm,*,129-256,*,*,*,gemm.unpack_cublas,stores=streaming,
*,gemm,*,129-256,*,*,*,gemm.pair_stream,teams=2 cluster=2,
*,gemm,*,129-256,*,*,*,gemm.pair_wgmma,tiles=4 teams=1 cluster=4,
*,gemm,*,129-256,*,*,*,gemm.pair_tma,warps=4 ring=2 cluster=1,
*,gemm,*,129-256,*,*,*,gemm.pair,warps=8 ring=3 cluster=1,
*,gemm,*,129-256,*,*,*,gemm.tiled,tile_m=64,
*,gemm,*,129-256,*,*,*,gemm.fma,rows=4,
*,gemm,*,257-9223372036854775807,*,*,*,gemm.unpack_cublas,stores=cached,
*,gemm,*,257-9223372036854775807,*,*,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,
*,gemm,*,257-9223372036854775807,*,*,*,gemm.pair_stream,teams=2 cluster=2,
*,gemm,*,257-9223372036854775807,*,*,*,gemm.pair_wgmma,tiles=4 teams=1 cluster=4,
*,gemm,*,257-9223372036854775807,*,*,*,gemm.pair_tma,warps=4 ring=2 cluster=1,
*,gemm,*,257-9223372036854775807,*,*,*,gemm.pair,warps=8 ring=3 cluster=1,
*,gemm,*,257-9223372036854775807,*,*,*,gemm.tiled,tile_m=64,
*,gemm,*,257-9223372036854775807,*,*,*,gemm.fma,rows=4,
*,unpack,*,*,*,*,*,unpack.stream,threads=128 blocks=12 grid=tiles stores=streaming,
*,unpack,*,*,*,*,*,unpack.lut_global,threads=128,
*,unpack,*,*,*,*,*,unpack.lut_shared,threads=128,
*,pack,*,*,*,*,*,pack.binned,threads=256 steps=4 blocks=4 grid=tiles,
*,pack,*,*,*,*,*,pack.cub,,
)";
#else
inline constexpr std::string_view kBuiltinTuning = "nf4-tuning 1\n";
#endif

}  // namespace nf4
