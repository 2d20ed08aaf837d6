// The tuning table that is compiled in, in the form of docs/tuning.md. It speaks of CUDA devices only, and is made by
// `nf4-bench tune --builtin`: rows by what was measured on one device, for all of its compute capability, then rows for
// all others.
#pragma once

#include <string_view>

namespace nf4 {

#if NF4_HAVE_CUDA
inline constexpr std::string_view kBuiltinTuning = R"(nf4-tuning 1
# NVIDIA H100 80GB HBM3, commit c34ea3e14ae8, by nf4-bench tune; f32 on an NVIDIA H200, commit 98c5f6bf013d
# 5 to 8 rows of x by 2897 to 6636 of W: one row by hand, since with clusters of 4 what took 34.7 us took 40.3 later
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
sm_90,gemm,*,1-2,1-2896,1-6636,*,gemm.pair_tma,warps=12 ring=2 cluster=1,4.06
sm_90,gemm,*,1-2,1-2896,6637-9223372036854775807,*,gemm.pair_tma,warps=8 ring=3 cluster=1,3.97
sm_90,gemm,*,3-4,1-2896,*,*,gemm.pair_tma,warps=4 ring=2 cluster=1,5.20
sm_90,gemm,*,5-16,1-1448,1-6476,*,gemm.pair_stream,teams=2 cluster=2,5.84
sm_90,gemm,*,5-16,1-1448,6477-9223372036854775807,*,gemm.pair_stream,teams=2 cluster=8,6.96
sm_90,gemm,*,5-8,1449-2896,*,*,gemm.pair_wgmma,tiles=1 teams=4 cluster=2,6.63
sm_90,gemm,*,9-16,1449-2896,*,*,gemm.pair_stream,teams=1 cluster=8,7.91
sm_90,gemm,*,17-32,1-2896,*,*,gemm.pair_stream,teams=1 cluster=8,8.22
sm_90,gemm,*,1,2897-6636,1-13272,*,gemm.pair_tma,warps=8 ring=2 cluster=1,7.41
sm_90,gemm,*,1,6637-13272,1-13272,*,gemm.pair_tma,warps=8 ring=3 cluster=1,12.20
sm_90,gemm,*,2-4,2897-13272,1-13272,*,gemm.pair_tma,warps=8 ring=2 cluster=1,9.80
sm_90,gemm,*,1-2,2897-13272,13273-9223372036854775807,*,gemm.pair_tma,warps=8 ring=3 cluster=1,32.33
sm_90,gemm,*,3-4,2897-6636,13273-9223372036854775807,*,gemm.pair_tma,warps=8 ring=2 cluster=4,29.70
sm_90,gemm,*,3-4,6637-13272,13273-9223372036854775807,*,gemm.pair_stream,teams=2 cluster=2,50.15
sm_90,gemm,*,5-8,2897-13272,1-6636,*,gemm.pair_tma,warps=8 ring=3 cluster=1,10.15
sm_90,gemm,*,9-32,2897-13272,1-4579,*,gemm.pair_stream,teams=4 cluster=2,10.91
sm_90,gemm,*,9-32,2897-13272,4580-6636,*,gemm.pair_stream,teams=2 cluster=2,12.66
sm_90,gemm,*,5-8,2897-6636,6637-9223372036854775807,*,gemm.pair_stream,teams=1 cluster=8,25.08
sm_90,gemm,*,9-16,2897-6636,6637-23462,*,gemm.pair_stream,teams=2 cluster=2,21.88
sm_90,gemm,*,9-16,2897-6636,23463-9223372036854775807,*,gemm.pair_stream,teams=1 cluster=4,34.50
sm_90,gemm,*,17-32,2897-6636,6637-9223372036854775807,*,gemm.pair_stream,teams=2 cluster=4,29.91
sm_90,gemm,*,5-32,6637-13272,6637-9223372036854775807,*,gemm.pair_stream,teams=2 cluster=2,31.65
sm_90,gemm,*,1-2,13273-9223372036854775807,*,*,gemm.pair_tma,warps=8 ring=3 cluster=1,32.23
sm_90,gemm,*,3-16,13273-23462,*,*,gemm.pair_stream,teams=2 cluster=1,27.13
sm_90,gemm,*,3-16,23463-9223372036854775807,*,*,gemm.pair_stream,teams=1 cluster=1,39.11
sm_90,gemm,*,17-32,13273-9223372036854775807,*,*,gemm.pair_stream,teams=2 cluster=1,43.58
sm_90,gemm,*,33-64,1-1448,1-6476,*,gemm.pair_stream,teams=2 cluster=4,9.14
sm_90,gemm,*,33-64,1-1448,6477-9223372036854775807,*,gemm.pair_stream,teams=1 cluster=8,11.05
sm_90,gemm,*,65-128,1-1448,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=8,11.57
sm_90,gemm,*,33-64,1449-2896,*,*,gemm.pair_stream,teams=7 cluster=2,11.87
sm_90,gemm,*,65-128,1449-2896,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=4,14.23
sm_90,gemm,*,33-64,2897-6636,*,*,gemm.pair_stream,teams=2 cluster=2,30.70
sm_90,gemm,*,65-128,2897-6636,*,*,gemm.scaled_wgmma,rows=192 cols=128 cluster=4,35.14
sm_90,gemm,*,33-64,6637-13272,*,*,gemm.pair_stream,teams=2 cluster=1,41.10
sm_90,gemm,*,65-128,6637-13272,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,46.78
sm_90,gemm,*,33-128,13273-23462,*,*,gemm.scaled_wgmma,rows=192 cols=128 cluster=1,59.08
sm_90,gemm,*,33-64,23463-9223372036854775807,*,*,gemm.pair_stream,teams=1 cluster=1,77.23
sm_90,gemm,*,65-128,23463-9223372036854775807,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=1,103.80
sm_90,gemm,*,129-256,1-1448,1-6476,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=4,13.45
sm_90,gemm,*,129-256,1-1448,6477-9223372036854775807,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=8,17.92
sm_90,gemm,*,129-256,1449-2896,*,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=4,19.86
sm_90,gemm,*,129-256,2897-4579,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,23.88
sm_90,gemm,*,129-256,4580-23462,*,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,72.70
sm_90,gemm,*,129-256,23463-9223372036854775807,*,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=1,148.44
sm_90,gemm,*,257-9223372036854775807,1-1448,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,29.51
sm_90,gemm,*,257-9223372036854775807,1449-2896,*,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,38.79
sm_90,gemm,*,257-9223372036854775807,2897-4579,*,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=1,64.99
sm_90,gemm,*,257-9223372036854775807,4580-9223372036854775807,1-4579,*,gemm.unpack_cublas,stores=streaming,83.05
sm_90,gemm,*,257-9223372036854775807,4580-9223372036854775807,1-4579,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,88.49
sm_90,gemm,*,257-9223372036854775807,4580-6476,4580-13272,*,gemm.unpack_cublas,stores=cached,150.19
sm_90,gemm,*,257-9223372036854775807,4580-6476,4580-13272,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,163.20
sm_90,gemm,*,257-9223372036854775807,6477-9223372036854775807,4580-13272,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=1,330.19
sm_90,gemm,*,257-9223372036854775807,4580-9223372036854775807,13273-9223372036854775807,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,517.33
sm_90,unpack,*,*,1-2896,*,*,unpack.stream,threads=256 blocks=6 grid=resident stores=streaming,7.76
sm_90,unpack,*,*,2897-9223372036854775807,*,*,unpack.stream,threads=256 blocks=6 grid=tiles stores=streaming,71.10
sm_90,pack,*,*,*,*,*,pack.binned,threads=256 steps=4 blocks=4 grid=tiles,46.61
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
*,gemm,*,1,*,*,*,gemm.pair_wgmma,tiles=1 teams=4 cluster=1,
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
*,gemm,*,17-32,*,*,*,gemm.pair_wgmma,tiles=4 teams=1 cluster=4,
*,gemm,*,17-32,*,*,*,gemm.scaled_wgmma,rows=192 cols=128 cluster=4,
*,gemm,*,17-32,*,*,*,gemm.pair_tma,warps=4 ring=2 cluster=1,
*,gemm,*,17-32,*,*,*,gemm.unpack_cublas,stores=streaming,
*,gemm,*,17-32,*,*,*,gemm.pair,warps=8 ring=3 cluster=1,
*,gemm,*,17-32,*,*,*,gemm.fma,rows=8,
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
*,unpack,*,*,*,*,*,unpack.stream,threads=256 blocks=6 grid=tiles stores=streaming,
*,unpack,*,*,*,*,*,unpack.lut_global,threads=128,
*,unpack,*,*,*,*,*,unpack.lut_shared,threads=128,
*,pack,*,*,*,*,*,pack.binned,threads=256 steps=4 blocks=4 grid=tiles,
*,pack,*,*,*,*,*,pack.cub,,
)";
#else
inline constexpr std::string_view kBuiltinTuning = "nf4-tuning 1\n";
#endif

}  // namespace nf4
