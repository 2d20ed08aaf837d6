// The tuning table that is compiled in, in the form of docs/tuning.md. It speaks of CUDA devices only, and is made by
// `nf4-bench tune --builtin`: rows by what was measured on one device, for all of its compute capability, then rows for
// all others.
#pragma once

#include <string_view>

namespace nf4 {

#if NF4_HAVE_CUDA
inline constexpr std::string_view kBuiltinTuning = R"(nf4-tuning 1
# NVIDIA H100 80GB HBM3, commit a9c27f1654b2, by nf4-bench tune; f32 on an NVIDIA H200, commit 98c5f6bf013d
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
sm_90,gemm,*,1-16,1-1448,*,32,gemm.pair_wgmma,tiles=1 teams=4 cluster=4,7.22
sm_90,gemm,*,17-128,1-1448,*,32,gemm.scaled_wgmma,rows=128 cols=128 cluster=8,11.47
sm_90,gemm,*,1-16,1449-2896,*,32,gemm.pair_wgmma,tiles=1 teams=4 cluster=2,7.65
sm_90,gemm,*,17-32,1449-2896,*,32,gemm.pair_wgmma,tiles=2 teams=2 cluster=4,11.71
sm_90,gemm,*,33-128,1449-2896,*,32,gemm.scaled_wgmma,rows=128 cols=128 cluster=4,14.94
sm_90,gemm,*,1-32,2897-4579,*,32,gemm.pair_wgmma,tiles=1 teams=4 cluster=2,11.89
sm_90,gemm,*,1-8,4580-13272,1-13272,32,gemm.pair_wgmma,tiles=1 teams=4 cluster=1,16.05
sm_90,gemm,*,1,4580-5246,13273-9223372036854775807,32,gemm.fma,rows=4,45.36
sm_90,gemm,*,1,5247-13272,13273-9223372036854775807,32,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,52.35
sm_90,gemm,*,2-8,4580-13272,13273-9223372036854775807,32,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,53.16
sm_90,gemm,*,9-16,4580-13272,1-6476,32,gemm.pair_wgmma,tiles=1 teams=4 cluster=1,14.45
sm_90,gemm,*,9-16,4580-13272,6477-9223372036854775807,32,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,39.84
sm_90,gemm,*,17-32,4580-6636,*,32,gemm.pair_wgmma,tiles=4 teams=1 cluster=4,33.89
sm_90,gemm,*,17-32,6637-13272,*,32,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,35.58
sm_90,gemm,*,33-128,2897-6636,*,32,gemm.scaled_wgmma,rows=192 cols=128 cluster=4,38.66
sm_90,gemm,*,33-64,6637-13272,1-6476,32,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,27.17
sm_90,gemm,*,33-64,6637-13272,6477-9223372036854775807,32,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,71.67
sm_90,gemm,*,65-128,6637-13272,*,32,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,53.55
sm_90,gemm,*,1-64,13273-23462,*,32,gemm.pair_wgmma,tiles=3 teams=1 cluster=1,42.37
sm_90,gemm,*,1,23463-9223372036854775807,*,32,gemm.fma,rows=4,49.54
sm_90,gemm,*,2-64,23463-9223372036854775807,*,32,gemm.pair_wgmma,tiles=4 teams=1 cluster=1,62.91
sm_90,gemm,*,65-128,13273-23462,*,32,gemm.scaled_wgmma,rows=192 cols=128 cluster=1,66.88
sm_90,gemm,*,65-128,23463-9223372036854775807,*,32,gemm.scaled_wgmma,rows=128 cols=128 cluster=1,114.16
sm_90,gemm,*,129-256,1-1448,1-6476,32,gemm.scaled_wgmma,rows=128 cols=128 cluster=4,14.79
sm_90,gemm,*,129-256,1-1448,6477-9223372036854775807,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=8,19.10
sm_90,gemm,*,129-256,1449-2896,*,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=4,20.72
sm_90,gemm,*,129-256,2897-4579,*,32,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,25.40
sm_90,gemm,*,129-256,4580-23462,*,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,79.44
sm_90,gemm,*,129-256,23463-9223372036854775807,*,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=1,169.61
sm_90,gemm,*,257-9223372036854775807,1-1448,*,32,gemm.unpack_cublas,stores=cached,29.33
sm_90,gemm,*,257-9223372036854775807,1-1448,*,32,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,32.21
sm_90,gemm,*,257-9223372036854775807,1449-2896,*,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,36.86
sm_90,gemm,*,257-9223372036854775807,2897-4579,*,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=1,72.83
sm_90,gemm,*,257-9223372036854775807,4580-6636,*,32,gemm.unpack_cublas,stores=cached,227.97
sm_90,gemm,*,257-9223372036854775807,4580-6636,*,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,249.37
sm_90,gemm,*,257-9223372036854775807,6637-9223372036854775807,*,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=1,405.78
sm_90,gemm,*,1-2,1-2896,*,*,gemm.pair_tma,warps=8 ring=3 cluster=1,4.08
sm_90,gemm,*,3-4,1-2896,*,*,gemm.pair_tma,warps=4 ring=2 cluster=1,5.30
sm_90,gemm,*,1-4,2897-6636,1-13272,*,gemm.pair_tma,warps=8 ring=2 cluster=1,7.93
sm_90,gemm,*,1-2,2897-6636,13273-9223372036854775807,*,gemm.pair_tma,warps=8 ring=3 cluster=1,26.68
sm_90,gemm,*,3-4,2897-6636,13273-9223372036854775807,*,gemm.pair_stream,teams=2 cluster=2,28.34
sm_90,gemm,*,5-16,1-4579,1-6636,*,gemm.pair_stream,teams=4 cluster=2,6.63
sm_90,gemm,*,5-16,1-4579,6637-9223372036854775807,*,gemm.pair_stream,teams=2 cluster=8,6.22
sm_90,gemm,*,17-32,1-2896,*,*,gemm.pair_stream,teams=4 cluster=2,6.88
sm_90,gemm,*,17-32,2897-4579,*,*,gemm.pair_stream,teams=4 cluster=1,9.50
sm_90,gemm,*,5-32,4580-6636,1-5792,*,gemm.pair_stream,teams=4 cluster=1,8.70
sm_90,gemm,*,5-32,4580-6636,5793-9223372036854775807,*,gemm.pair_stream,teams=4 cluster=2,23.90
sm_90,gemm,*,1,6637-9223372036854775807,*,*,gemm.pair_tma,warps=8 ring=3 cluster=1,24.48
sm_90,gemm,*,2,6637-9223372036854775807,1-5246,*,gemm.pair_tma,warps=12 ring=2 cluster=1,16.97
sm_90,gemm,*,3-32,6637-14481,1-5246,*,gemm.pair_stream,teams=4 cluster=1,11.53
sm_90,gemm,*,3-32,14482-9223372036854775807,1-5246,*,gemm.pair_stream,teams=1 cluster=1,32.51
sm_90,gemm,*,2,6637-9223372036854775807,5247-15325,*,gemm.pair_tma,warps=8 ring=3 cluster=1,26.23
sm_90,gemm,*,3-32,6637-9223372036854775807,5247-15325,*,gemm.pair_stream,teams=2 cluster=1,29.65
sm_90,gemm,*,2-16,6637-9223372036854775807,15326-9223372036854775807,*,gemm.pair_stream,teams=2 cluster=1,48.21
sm_90,gemm,*,17-32,6637-9223372036854775807,15326-9223372036854775807,*,gemm.pair_stream,teams=2 cluster=2,59.03
sm_90,gemm,*,33-64,1-1448,*,*,gemm.pair_stream,teams=2 cluster=4,9.42
sm_90,gemm,*,65-128,1-1448,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=8,11.59
sm_90,gemm,*,33-64,1449-2896,*,*,gemm.pair_stream,teams=4 cluster=2,10.73
sm_90,gemm,*,65-128,1449-2896,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=4,14.28
sm_90,gemm,*,33-64,2897-6636,1-4692,*,gemm.pair_stream,teams=2 cluster=1,15.79
sm_90,gemm,*,33-64,2897-6636,4693-9223372036854775807,*,gemm.pair_stream,teams=2 cluster=2,35.50
sm_90,gemm,*,65-128,2897-6636,*,*,gemm.scaled_wgmma,rows=192 cols=128 cluster=4,35.97
sm_90,gemm,*,33-64,6637-13272,*,*,gemm.pair_stream,teams=2 cluster=1,39.00
sm_90,gemm,*,65-128,6637-13272,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,47.18
sm_90,gemm,*,33-128,13273-23462,*,*,gemm.scaled_wgmma,rows=192 cols=128 cluster=1,59.91
sm_90,gemm,*,33-64,23463-9223372036854775807,*,*,gemm.pair_stream,teams=1 cluster=1,75.74
sm_90,gemm,*,65-128,23463-9223372036854775807,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=1,99.22
sm_90,gemm,*,129-256,1-1448,1-6476,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=4,13.57
sm_90,gemm,*,129-256,1-1448,6477-9223372036854775807,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=8,18.09
sm_90,gemm,*,129-256,1449-2896,*,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=4,19.83
sm_90,gemm,*,129-256,2897-4579,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,24.01
sm_90,gemm,*,129-256,4580-5246,1-14481,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,47.63
sm_90,gemm,*,129-256,4580-5246,14482-9223372036854775807,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=8,137.10
sm_90,gemm,*,129-256,5247-23462,*,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,72.06
sm_90,gemm,*,129-256,23463-9223372036854775807,*,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=1,162.73
sm_90,gemm,*,257-9223372036854775807,1-1448,1-6476,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,23.63
sm_90,gemm,*,257-9223372036854775807,1-1448,6477-9223372036854775807,*,gemm.unpack_cublas,stores=streaming,34.45
sm_90,gemm,*,257-9223372036854775807,1-1448,6477-9223372036854775807,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,37.15
sm_90,gemm,*,257-9223372036854775807,1449-2896,*,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,38.95
sm_90,gemm,*,257-9223372036854775807,2897-4579,*,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=1,63.51
sm_90,gemm,*,257-9223372036854775807,4580-6636,1-13272,*,gemm.unpack_cublas,stores=cached,112.75
sm_90,gemm,*,257-9223372036854775807,4580-6636,1-13272,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,117.55
sm_90,gemm,*,257-9223372036854775807,4580-6636,13273-9223372036854775807,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,433.26
sm_90,gemm,*,257-9223372036854775807,6637-9223372036854775807,*,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=1,377.09
sm_90,unpack,*,*,1-2896,*,32,unpack.stream,threads=256 blocks=6 grid=resident stores=streaming,8.24
sm_90,unpack,*,*,2897-9223372036854775807,*,32,unpack.stream,threads=128 blocks=12 grid=tiles stores=streaming,73.12
sm_90,unpack,*,*,1-2896,*,*,unpack.stream,threads=256 blocks=6 grid=resident stores=streaming,7.81
sm_90,unpack,*,*,2897-9223372036854775807,*,*,unpack.stream,threads=128 blocks=12 grid=tiles stores=streaming,71.01
sm_90,pack,*,*,*,*,32,pack.binned,threads=256 steps=4 blocks=4 grid=tiles,47.89
sm_90,pack,*,*,*,*,*,pack.binned,threads=256 steps=4 blocks=4 grid=tiles,46.52
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
*,gemm,*,1,*,*,32,gemm.fma,rows=4,
*,gemm,*,1,*,*,32,gemm.pair_wgmma,tiles=1 teams=4 cluster=1,
*,gemm,*,1,*,*,32,gemv.lut_shared,warps=4,
*,gemm,*,1,*,*,32,gemv.lut_global,warps=4,
*,gemm,*,1,*,*,32,gemm.scaled_wgmma,rows=192 cols=128 cluster=8,
*,gemm,*,1,*,*,32,gemm.unpack_cublas,stores=streaming,
*,gemm,*,1,*,*,32,gemm.tiled,tile_m=16,
*,gemm,*,2,*,*,32,gemm.pair_wgmma,tiles=1 teams=4 cluster=1,
*,gemm,*,2,*,*,32,gemm.fma,rows=8,
*,gemm,*,2,*,*,32,gemm.scaled_wgmma,rows=192 cols=128 cluster=8,
*,gemm,*,2,*,*,32,gemm.unpack_cublas,stores=streaming,
*,gemm,*,2,*,*,32,gemm.tiled,tile_m=16,
*,gemm,*,3-4,*,*,32,gemm.pair_wgmma,tiles=1 teams=4 cluster=1,
*,gemm,*,3-4,*,*,32,gemm.fma,rows=8,
*,gemm,*,3-4,*,*,32,gemm.scaled_wgmma,rows=192 cols=128 cluster=8,
*,gemm,*,3-4,*,*,32,gemm.unpack_cublas,stores=streaming,
*,gemm,*,3-4,*,*,32,gemm.tiled,tile_m=16,
*,gemm,*,5-8,*,*,32,gemm.pair_wgmma,tiles=1 teams=4 cluster=1,
*,gemm,*,5-8,*,*,32,gemm.scaled_wgmma,rows=192 cols=128 cluster=8,
*,gemm,*,5-8,*,*,32,gemm.unpack_cublas,stores=streaming,
*,gemm,*,5-8,*,*,32,gemm.fma,rows=8,
*,gemm,*,5-8,*,*,32,gemm.tiled,tile_m=16,
*,gemm,*,9-16,*,*,32,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,
*,gemm,*,9-16,*,*,32,gemm.scaled_wgmma,rows=192 cols=128 cluster=4,
*,gemm,*,9-16,*,*,32,gemm.unpack_cublas,stores=streaming,
*,gemm,*,9-16,*,*,32,gemm.fma,rows=4,
*,gemm,*,9-16,*,*,32,gemm.tiled,tile_m=16,
*,gemm,*,17-32,*,*,32,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,
*,gemm,*,17-32,*,*,32,gemm.scaled_wgmma,rows=192 cols=128 cluster=4,
*,gemm,*,17-32,*,*,32,gemm.unpack_cublas,stores=streaming,
*,gemm,*,17-32,*,*,32,gemm.fma,rows=4,
*,gemm,*,17-32,*,*,32,gemm.tiled,tile_m=16,
*,gemm,*,33-64,*,*,32,gemm.scaled_wgmma,rows=192 cols=128 cluster=4,
*,gemm,*,33-64,*,*,32,gemm.pair_wgmma,tiles=4 teams=1 cluster=4,
*,gemm,*,33-64,*,*,32,gemm.unpack_cublas,stores=streaming,
*,gemm,*,33-64,*,*,32,gemm.fma,rows=4,
*,gemm,*,33-64,*,*,32,gemm.tiled,tile_m=64,
*,gemm,*,65-128,*,*,32,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,
*,gemm,*,65-128,*,*,32,gemm.unpack_cublas,stores=streaming,
*,gemm,*,65-128,*,*,32,gemm.pair_wgmma,tiles=4 teams=1 cluster=4,
*,gemm,*,65-128,*,*,32,gemm.tiled,tile_m=64,
*,gemm,*,65-128,*,*,32,gemm.fma,rows=4,
*,gemm,*,129-256,*,*,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,
*,gemm,*,129-256,*,*,32,gemm.unpack_cublas,stores=cached,
*,gemm,*,129-256,*,*,32,gemm.pair_wgmma,tiles=4 teams=1 cluster=4,
*,gemm,*,129-256,*,*,32,gemm.tiled,tile_m=64,
*,gemm,*,129-256,*,*,32,gemm.fma,rows=4,
*,gemm,*,257-9223372036854775807,*,*,32,gemm.unpack_cublas,stores=cached,
*,gemm,*,257-9223372036854775807,*,*,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,
*,gemm,*,257-9223372036854775807,*,*,32,gemm.pair_wgmma,tiles=4 teams=1 cluster=4,
*,gemm,*,257-9223372036854775807,*,*,32,gemm.tiled,tile_m=64,
*,gemm,*,257-9223372036854775807,*,*,32,gemm.fma,rows=4,
*,gemm,*,1-4,*,*,*,gemm.pair_tma,warps=8 ring=3 cluster=1,
*,gemm,*,1,*,*,*,gemm.pair,warps=8 ring=2 cluster=1,
*,gemm,*,1,*,*,*,gemm.pair_stream,teams=2 cluster=2,
*,gemm,*,1,*,*,*,gemm.pair_wgmma,tiles=1 teams=4 cluster=1,
*,gemm,*,1,*,*,*,gemm.fma,rows=4,
*,gemm,*,1,*,*,*,gemv.lut_shared,warps=4,
*,gemm,*,1,*,*,*,gemv.lut_global,warps=4,
*,gemm,*,1,*,*,*,gemm.scaled_wgmma,rows=192 cols=128 cluster=8,
*,gemm,*,1,*,*,*,gemm.unpack_cublas,stores=streaming,
*,gemm,*,1,*,*,*,gemm.tiled,tile_m=16,
*,gemm,*,2,*,*,*,gemm.pair_stream,teams=2 cluster=2,
*,gemm,*,2,*,*,*,gemm.pair,warps=8 ring=2 cluster=1,
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
*,gemm,*,5-8,*,*,*,gemm.pair_tma,warps=8 ring=3 cluster=1,
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
*,gemm,*,9-16,*,*,*,gemm.fma,rows=4,
*,gemm,*,9-16,*,*,*,gemm.tiled,tile_m=16,
*,gemm,*,17-32,*,*,*,gemm.pair_stream,teams=4 cluster=1,
*,gemm,*,17-32,*,*,*,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,
*,gemm,*,17-32,*,*,*,gemm.scaled_wgmma,rows=192 cols=128 cluster=4,
*,gemm,*,17-32,*,*,*,gemm.pair_tma,warps=4 ring=2 cluster=1,
*,gemm,*,17-32,*,*,*,gemm.unpack_cublas,stores=streaming,
*,gemm,*,17-32,*,*,*,gemm.pair,warps=8 ring=3 cluster=1,
*,gemm,*,17-32,*,*,*,gemm.fma,rows=4,
*,gemm,*,17-32,*,*,*,gemm.tiled,tile_m=16,
*,gemm,*,33-64,*,*,*,gemm.pair_stream,teams=2 cluster=2,
*,gemm,*,33-64,*,*,*,gemm.pair_wgmma,tiles=4 teams=1 cluster=4,
*,gemm,*,33-64,*,*,*,gemm.scaled_wgmma,rows=192 cols=128 cluster=4,
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
*,unpack,*,*,*,*,32,unpack.stream,threads=128 blocks=12 grid=tiles stores=streaming,
*,unpack,*,*,*,*,32,unpack.lut_global,threads=128,
*,unpack,*,*,*,*,32,unpack.lut_shared,threads=128,
*,unpack,*,*,*,*,*,unpack.stream,threads=256 blocks=6 grid=tiles stores=streaming,
*,unpack,*,*,*,*,*,unpack.lut_global,threads=128,
*,unpack,*,*,*,*,*,unpack.lut_shared,threads=128,
*,pack,*,*,*,*,32,pack.binned,threads=256 steps=4 blocks=4 grid=tiles,
*,pack,*,*,*,*,32,pack.cub,,
*,pack,*,*,*,*,*,pack.binned,threads=256 steps=4 blocks=4 grid=tiles,
*,pack,*,*,*,*,*,pack.cub,,
)";
#else
inline constexpr std::string_view kBuiltinTuning = "nf4-tuning 1\n";
#endif

}  // namespace nf4
