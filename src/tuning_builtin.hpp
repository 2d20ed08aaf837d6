// The tuning table that is compiled in, in the form of docs/tuning.md. It speaks of CUDA devices only, and is made by
// `nf4-bench tune --builtin`: rows by what was measured on one device, for all of its compute capability, then rows for
// all others.
#pragma once

#include <string_view>

namespace nf4 {

#if NF4_HAVE_CUDA
inline constexpr std::string_view kBuiltinTuning = R"(nf4-tuning 1
# NVIDIA H100 80GB HBM3, commit 72ff034fc4d1, by nf4-bench tune; f32 on an NVIDIA H200, commit 98c5f6bf013d
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
sm_90,gemm,*,1-16,1-1448,*,32,gemm.pair_wgmma,tiles=1 teams=4 cluster=4,7.18
sm_90,gemm,*,1-16,1449-2896,*,32,gemm.pair_wgmma,tiles=1 teams=4 cluster=2,7.60
sm_90,gemm,*,17-128,1-1448,*,32,gemm.scaled_wgmma,rows=128 cols=128 cluster=8,11.46
sm_90,gemm,*,17-32,1449-2896,*,32,gemm.pair_wgmma,tiles=2 teams=2 cluster=4,11.68
sm_90,gemm,*,33-128,1449-2896,*,32,gemm.scaled_wgmma,rows=128 cols=128 cluster=4,14.99
sm_90,gemm,*,1-32,2897-4579,*,32,gemm.pair_wgmma,tiles=1 teams=4 cluster=2,11.90
sm_90,gemm,*,1-8,4580-13272,1-13272,32,gemm.pair_wgmma,tiles=1 teams=4 cluster=1,16.00
sm_90,gemm,*,1,4580-5246,13273-9223372036854775807,32,gemm.fma,rows=4,45.42
sm_90,gemm,*,1,5247-13272,13273-9223372036854775807,32,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,52.40
sm_90,gemm,*,2-8,4580-13272,13273-9223372036854775807,32,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,52.86
sm_90,gemm,*,9-16,4580-13272,1-6476,32,gemm.pair_wgmma,tiles=1 teams=4 cluster=1,14.47
sm_90,gemm,*,9-16,4580-13272,6477-9223372036854775807,32,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,39.42
sm_90,gemm,*,17-32,4580-6636,*,32,gemm.pair_wgmma,tiles=4 teams=1 cluster=4,33.86
sm_90,gemm,*,17-32,6637-13272,*,32,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,35.63
sm_90,gemm,*,33-64,2897-6636,1-4692,32,gemm.pair_wgmma,tiles=4 teams=1 cluster=4,18.68
sm_90,gemm,*,33-64,2897-6636,4693-9223372036854775807,32,gemm.scaled_wgmma,rows=192 cols=128 cluster=4,44.91
sm_90,gemm,*,33-64,6637-13272,1-6476,32,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,27.20
sm_90,gemm,*,33-64,6637-13272,6477-9223372036854775807,32,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,71.82
sm_90,gemm,*,1-64,13273-23462,*,32,gemm.pair_wgmma,tiles=3 teams=1 cluster=1,42.34
sm_90,gemm,*,1,23463-9223372036854775807,*,32,gemm.fma,rows=4,49.42
sm_90,gemm,*,2-64,23463-9223372036854775807,*,32,gemm.pair_wgmma,tiles=4 teams=1 cluster=1,62.86
sm_90,gemm,*,65-128,2897-6636,*,32,gemm.scaled_wgmma,rows=192 cols=128 cluster=4,39.60
sm_90,gemm,*,65-128,6637-13272,*,32,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,51.79
sm_90,gemm,*,65-128,13273-23462,*,32,gemm.scaled_wgmma,rows=192 cols=128 cluster=1,68.89
sm_90,gemm,*,65-128,23463-9223372036854775807,*,32,gemm.scaled_wgmma,rows=128 cols=128 cluster=1,117.09
sm_90,gemm,*,129-256,1-1448,*,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=8,16.84
sm_90,gemm,*,257-9223372036854775807,1-1448,*,32,gemm.unpack_cublas,stores=cached,28.85
sm_90,gemm,*,257-9223372036854775807,1-1448,*,32,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,32.45
sm_90,gemm,*,129-256,1449-2896,*,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=4,20.52
sm_90,gemm,*,257-9223372036854775807,1449-2896,*,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,37.64
sm_90,gemm,*,129-256,2897-4579,*,32,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,25.32
sm_90,gemm,*,257-9223372036854775807,2897-4579,*,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=1,71.39
sm_90,gemm,*,129-256,4580-23462,1-13272,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,51.37
sm_90,gemm,*,129-256,4580-23462,13273-27092,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=8,134.68
sm_90,gemm,*,257-9223372036854775807,4580-6636,1-27092,32,gemm.unpack_cublas,stores=cached,225.54
sm_90,gemm,*,257-9223372036854775807,4580-6636,1-27092,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,245.36
sm_90,gemm,*,257-9223372036854775807,6637-23462,1-27092,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=1,233.48
sm_90,gemm,*,129-9223372036854775807,4580-23462,27093-9223372036854775807,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,404.38
sm_90,gemm,*,129-256,23463-9223372036854775807,*,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=1,173.96
sm_90,gemm,*,257-9223372036854775807,23463-27092,*,32,gemm.unpack_cublas,stores=streaming,487.94
sm_90,gemm,*,257-9223372036854775807,23463-27092,*,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=1,508.14
sm_90,gemm,*,257-9223372036854775807,27093-9223372036854775807,*,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=1,812.47
sm_90,gemm,*,1-2,1-2896,1-5246,*,gemm.pair_tma,warps=12 ring=2 cluster=1,3.41
sm_90,gemm,*,1-2,1-2896,5247-9223372036854775807,*,gemm.pair_tma,warps=8 ring=3 cluster=1,4.39
sm_90,gemm,*,3-4,1-2896,*,*,gemm.pair_tma,warps=4 ring=2 cluster=1,5.28
sm_90,gemm,*,5-16,1-2896,1-6636,*,gemm.pair_stream,teams=4 cluster=2,5.92
sm_90,gemm,*,5-16,1-2896,6637-9223372036854775807,*,gemm.pair_stream,teams=2 cluster=8,6.22
sm_90,gemm,*,17-32,1-2896,*,*,gemm.pair_stream,teams=4 cluster=2,6.86
sm_90,gemm,*,33-64,1-1448,*,*,gemm.pair_stream,teams=2 cluster=4,9.39
sm_90,gemm,*,33-64,1449-2896,*,*,gemm.pair_stream,teams=4 cluster=2,10.76
sm_90,gemm,*,65-128,1-1448,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=8,11.66
sm_90,gemm,*,65-128,1449-2896,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=4,14.29
sm_90,gemm,*,1-4,2897-6636,1-13272,*,gemm.pair_tma,warps=8 ring=2 cluster=1,7.94
sm_90,gemm,*,1-2,2897-6636,13273-9223372036854775807,*,gemm.pair_tma,warps=8 ring=3 cluster=1,26.66
sm_90,gemm,*,3-4,2897-6636,13273-9223372036854775807,*,gemm.pair_stream,teams=2 cluster=2,28.21
sm_90,gemm,*,5-64,2897-6636,1-4692,*,gemm.pair_stream,teams=2 cluster=1,10.65
sm_90,gemm,*,5-32,2897-6636,4693-9223372036854775807,*,gemm.pair_stream,teams=4 cluster=2,18.65
sm_90,gemm,*,33-64,2897-6636,4693-9223372036854775807,*,gemm.pair_stream,teams=2 cluster=2,35.43
sm_90,gemm,*,65-128,2897-6636,*,*,gemm.scaled_wgmma,rows=192 cols=128 cluster=4,35.47
sm_90,gemm,*,1,6637-9223372036854775807,*,*,gemm.pair_tma,warps=8 ring=3 cluster=1,24.45
sm_90,gemm,*,2,6637-13272,*,*,gemm.pair_tma,warps=8 ring=2 cluster=1,19.51
sm_90,gemm,*,2,13273-9223372036854775807,*,*,gemm.pair_tma,warps=8 ring=3 cluster=1,32.43
sm_90,gemm,*,3-16,6637-23462,*,*,gemm.pair_stream,teams=2 cluster=1,22.00
sm_90,gemm,*,3-16,23463-9223372036854775807,*,*,gemm.pair_stream,teams=1 cluster=1,38.93
sm_90,gemm,*,17-64,6637-13272,1-15325,*,gemm.pair_stream,teams=2 cluster=1,20.14
sm_90,gemm,*,17-64,6637-13272,15326-9223372036854775807,*,gemm.pair_stream,teams=2 cluster=2,76.43
sm_90,gemm,*,65-128,6637-13272,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,44.76
sm_90,gemm,*,17-32,13273-9223372036854775807,*,*,gemm.pair_stream,teams=2 cluster=1,43.58
sm_90,gemm,*,33-128,13273-23462,*,*,gemm.scaled_wgmma,rows=192 cols=128 cluster=1,60.20
sm_90,gemm,*,33-64,23463-9223372036854775807,*,*,gemm.pair_stream,teams=1 cluster=1,74.91
sm_90,gemm,*,65-128,23463-9223372036854775807,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=1,102.76
sm_90,gemm,*,129-256,1-1448,1-6476,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=4,13.51
sm_90,gemm,*,129-256,1-1448,6477-9223372036854775807,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=8,18.01
sm_90,gemm,*,129-256,1449-2896,*,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=4,19.87
sm_90,gemm,*,129-256,2897-4579,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,23.88
sm_90,gemm,*,129-256,4580-23462,*,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,72.07
sm_90,gemm,*,129-256,23463-9223372036854775807,*,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=1,153.31
sm_90,gemm,*,257-9223372036854775807,1-1448,1-6476,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,23.58
sm_90,gemm,*,257-9223372036854775807,1-1448,6477-9223372036854775807,*,gemm.unpack_cublas,stores=streaming,34.77
sm_90,gemm,*,257-9223372036854775807,1-1448,6477-9223372036854775807,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,36.55
sm_90,gemm,*,257-9223372036854775807,1449-2896,*,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,36.98
sm_90,gemm,*,257-9223372036854775807,2897-4579,*,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=1,67.31
sm_90,gemm,*,257-9223372036854775807,4580-6636,1-13272,*,gemm.unpack_cublas,stores=cached,110.17
sm_90,gemm,*,257-9223372036854775807,4580-6636,1-13272,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,116.77
sm_90,gemm,*,257-9223372036854775807,6637-9223372036854775807,1-13272,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=1,331.69
sm_90,gemm,*,257-9223372036854775807,4580-9223372036854775807,13273-9223372036854775807,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,512.51
sm_90,unpack,*,*,1-2896,*,32,unpack.stream,threads=256 blocks=6 grid=resident stores=streaming,8.23
sm_90,unpack,*,*,2897-9223372036854775807,*,32,unpack.stream,threads=128 blocks=12 grid=tiles stores=streaming,73.08
sm_90,unpack,*,*,1-2896,*,*,unpack.stream,threads=256 blocks=6 grid=resident stores=streaming,7.80
sm_90,unpack,*,*,2897-9223372036854775807,*,*,unpack.stream,threads=128 blocks=12 grid=tiles stores=streaming,70.98
sm_90,pack,*,*,*,*,32,pack.binned,threads=256 steps=4 blocks=4 grid=tiles,48.04
sm_90,pack,*,*,*,*,*,pack.binned,threads=256 steps=4 blocks=4 grid=tiles,46.59
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
*,gemm,*,5-8,*,*,32,gemm.fma,rows=4,
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
*,gemm,*,129-256,*,*,32,gemm.fma,rows=8,
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
*,gemm,*,9-16,*,*,*,gemm.pair,warps=8 ring=3 cluster=1,
*,gemm,*,9-16,*,*,*,gemm.unpack_cublas,stores=streaming,
*,gemm,*,9-16,*,*,*,gemm.fma,rows=8,
*,gemm,*,9-16,*,*,*,gemm.tiled,tile_m=16,
*,gemm,*,17-32,*,*,*,gemm.pair_stream,teams=4 cluster=2,
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
*,gemm,*,257-9223372036854775807,*,*,*,gemm.fma,rows=8,
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
