// The tuning table that is compiled in, in the form of docs/tuning.md. It speaks of CUDA devices only, and is made of
// what `nf4-bench tune --builtin` writes: rows by what was measured on one device, for all of its compute capability,
// then rows for all others. Before them, rows of another device of that capability, for it alone.
#pragma once

#include <string_view>

namespace nf4 {

#if NF4_HAVE_CUDA
inline constexpr std::string_view kBuiltinTuning = R"(nf4-tuning 1
# By nf4-bench tune. sm_90: NVIDIA H200, commit 3ef8b8acd1f8, f32 commit 98c5f6bf013d. H100: commit 8114c7ff7b41
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
NVIDIA H100 80GB HBM3,gemm,*,1-16,1-1448,*,32,gemm.pair_wgmma,tiles=1 teams=4 cluster=4,7.08
NVIDIA H100 80GB HBM3,gemm,*,1-16,1449-2896,*,32,gemm.pair_wgmma,tiles=1 teams=4 cluster=2,7.51
NVIDIA H100 80GB HBM3,gemm,*,17-32,1-2896,1-6636,32,gemm.pair_wgmma,tiles=2 teams=2 cluster=4,10.33
NVIDIA H100 80GB HBM3,gemm,*,17-32,1-2896,6637-9223372036854775807,32,gemm.scaled_wgmma,rows=128 cols=128 cluster=8,12.33
NVIDIA H100 80GB HBM3,gemm,*,33-128,1-1448,*,32,gemm.scaled_wgmma,rows=128 cols=128 cluster=8,11.87
NVIDIA H100 80GB HBM3,gemm,*,33-64,1449-2896,*,32,gemm.scaled_wgmma,rows=192 cols=128 cluster=8,15.00
NVIDIA H100 80GB HBM3,gemm,*,65-128,1449-2896,*,32,gemm.scaled_wgmma,rows=128 cols=128 cluster=4,15.04
NVIDIA H100 80GB HBM3,gemm,*,1-32,2897-4579,*,32,gemm.pair_wgmma,tiles=1 teams=4 cluster=2,11.89
NVIDIA H100 80GB HBM3,gemm,*,1-8,4580-13272,1-23462,32,gemm.pair_wgmma,tiles=1 teams=4 cluster=1,19.51
NVIDIA H100 80GB HBM3,gemm,*,1,4580-6476,23463-9223372036854775807,32,gemm.fma,rows=4,45.40
NVIDIA H100 80GB HBM3,gemm,*,1,6477-13272,23463-9223372036854775807,32,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,61.02
NVIDIA H100 80GB HBM3,gemm,*,2-8,4580-13272,23463-9223372036854775807,32,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,57.11
NVIDIA H100 80GB HBM3,gemm,*,9-16,4580-13272,1-6476,32,gemm.pair_wgmma,tiles=1 teams=4 cluster=1,14.31
NVIDIA H100 80GB HBM3,gemm,*,9-16,4580-13272,6477-9223372036854775807,32,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,39.33
NVIDIA H100 80GB HBM3,gemm,*,17-32,4580-6636,*,32,gemm.pair_wgmma,tiles=4 teams=1 cluster=4,33.55
NVIDIA H100 80GB HBM3,gemm,*,17-32,6637-13272,*,32,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,35.53
NVIDIA H100 80GB HBM3,gemm,*,33-64,2897-6636,1-4692,32,gemm.pair_wgmma,tiles=4 teams=1 cluster=4,18.57
NVIDIA H100 80GB HBM3,gemm,*,33-64,2897-6636,4693-9223372036854775807,32,gemm.scaled_wgmma,rows=192 cols=128 cluster=4,45.07
NVIDIA H100 80GB HBM3,gemm,*,33-64,6637-13272,1-6476,32,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,27.20
NVIDIA H100 80GB HBM3,gemm,*,33-64,6637-13272,6477-9223372036854775807,32,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,71.27
NVIDIA H100 80GB HBM3,gemm,*,1-64,13273-23462,*,32,gemm.pair_wgmma,tiles=3 teams=1 cluster=1,42.18
NVIDIA H100 80GB HBM3,gemm,*,1,23463-9223372036854775807,*,32,gemm.fma,rows=4,49.75
NVIDIA H100 80GB HBM3,gemm,*,2-64,23463-9223372036854775807,*,32,gemm.pair_wgmma,tiles=4 teams=1 cluster=1,62.75
NVIDIA H100 80GB HBM3,gemm,*,65-128,2897-6636,*,32,gemm.scaled_wgmma,rows=192 cols=128 cluster=4,39.22
NVIDIA H100 80GB HBM3,gemm,*,65-128,6637-13272,*,32,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,50.55
NVIDIA H100 80GB HBM3,gemm,*,65-128,13273-23462,*,32,gemm.scaled_wgmma,rows=192 cols=128 cluster=1,66.75
NVIDIA H100 80GB HBM3,gemm,*,65-128,23463-9223372036854775807,*,32,gemm.scaled_wgmma,rows=128 cols=128 cluster=1,116.21
NVIDIA H100 80GB HBM3,gemm,*,129-256,1-1448,*,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=8,16.99
NVIDIA H100 80GB HBM3,gemm,*,129-256,1449-2896,*,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=4,20.66
NVIDIA H100 80GB HBM3,gemm,*,129-256,2897-4579,*,32,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,25.44
NVIDIA H100 80GB HBM3,gemm,*,129-256,4580-6636,1-13272,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,39.18
NVIDIA H100 80GB HBM3,gemm,*,129-256,4580-6636,13273-9223372036854775807,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=8,132.65
NVIDIA H100 80GB HBM3,gemm,*,129-256,6637-23462,*,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,83.40
NVIDIA H100 80GB HBM3,gemm,*,129-256,23463-9223372036854775807,*,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=1,167.19
NVIDIA H100 80GB HBM3,gemm,*,257-9223372036854775807,1-13272,1-4579,32,gemm.unpack_cublas,stores=cached,81.37
NVIDIA H100 80GB HBM3,gemm,*,257-9223372036854775807,1-13272,1-4579,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,92.33
NVIDIA H100 80GB HBM3,gemm,*,257-9223372036854775807,1-1448,4580-6636,32,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,26.20
NVIDIA H100 80GB HBM3,gemm,*,257-9223372036854775807,1449-2896,4580-6636,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,38.51
NVIDIA H100 80GB HBM3,gemm,*,257-9223372036854775807,2897-13272,4580-6636,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=1,94.65
NVIDIA H100 80GB HBM3,gemm,*,257-9223372036854775807,1-5246,6637-9223372036854775807,32,gemm.unpack_cublas,stores=cached,134.97
NVIDIA H100 80GB HBM3,gemm,*,257-9223372036854775807,1-2289,6637-9223372036854775807,32,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,40.31
NVIDIA H100 80GB HBM3,gemm,*,257-9223372036854775807,2290-5246,6637-9223372036854775807,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,297.90
NVIDIA H100 80GB HBM3,gemm,*,257-9223372036854775807,5247-13272,6637-9223372036854775807,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,424.88
NVIDIA H100 80GB HBM3,gemm,*,257-9223372036854775807,13273-9223372036854775807,1-5246,32,gemm.unpack_cublas,stores=cached,481.11
NVIDIA H100 80GB HBM3,gemm,*,257-9223372036854775807,13273-9223372036854775807,1-5246,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=1,499.31
NVIDIA H100 80GB HBM3,gemm,*,257-9223372036854775807,13273-9223372036854775807,5247-9223372036854775807,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=1,593.77
NVIDIA H100 80GB HBM3,gemm,*,1-4,1-1448,1-6636,*,gemm.pair_tma,warps=12 ring=2 cluster=1,3.60
NVIDIA H100 80GB HBM3,gemm,*,1-4,1449-2896,1-6636,*,gemm.pair_tma,warps=4 ring=2 cluster=1,4.98
NVIDIA H100 80GB HBM3,gemm,*,1-4,2897-6636,1-6636,*,gemm.pair_tma,warps=8 ring=2 cluster=1,6.65
NVIDIA H100 80GB HBM3,gemm,*,1-4,1-6636,6637-13272,*,gemm.pair_tma,warps=8 ring=3 cluster=1,6.57
NVIDIA H100 80GB HBM3,gemm,*,5-16,1-4579,1-6636,*,gemm.pair_stream,teams=4 cluster=2,6.62
NVIDIA H100 80GB HBM3,gemm,*,5-16,1-4579,6637-13272,*,gemm.pair_stream,teams=2 cluster=8,6.31
NVIDIA H100 80GB HBM3,gemm,*,17-32,1-2896,1-13272,*,gemm.pair_stream,teams=4 cluster=2,6.92
NVIDIA H100 80GB HBM3,gemm,*,17-32,2897-4579,1-13272,*,gemm.pair_stream,teams=4 cluster=1,9.58
NVIDIA H100 80GB HBM3,gemm,*,5-32,4580-5246,1-13272,*,gemm.pair_stream,teams=4 cluster=2,13.42
NVIDIA H100 80GB HBM3,gemm,*,33-64,1-1448,1-13272,*,gemm.pair_stream,teams=2 cluster=4,9.38
NVIDIA H100 80GB HBM3,gemm,*,33-64,1449-5246,1-13272,*,gemm.pair_stream,teams=2 cluster=2,17.19
NVIDIA H100 80GB HBM3,gemm,*,5-64,5247-6636,1-13272,*,gemm.pair_stream,teams=4 cluster=1,10.28
NVIDIA H100 80GB HBM3,gemm,*,1-2,1-6636,13273-9223372036854775807,*,gemm.pair_tma,warps=8 ring=3 cluster=1,26.76
NVIDIA H100 80GB HBM3,gemm,*,3-64,1-6636,13273-9223372036854775807,*,gemm.pair_stream,teams=4 cluster=2,35.73
NVIDIA H100 80GB HBM3,gemm,*,65-128,1-1448,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=8,11.61
NVIDIA H100 80GB HBM3,gemm,*,65-128,1449-2896,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=4,14.29
NVIDIA H100 80GB HBM3,gemm,*,65-128,2897-6636,*,*,gemm.scaled_wgmma,rows=192 cols=128 cluster=4,35.45
NVIDIA H100 80GB HBM3,gemm,*,129-256,1-1448,1-6476,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=4,13.56
NVIDIA H100 80GB HBM3,gemm,*,129-256,1-1448,6477-9223372036854775807,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=8,18.07
NVIDIA H100 80GB HBM3,gemm,*,129-256,1449-2896,*,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=4,19.87
NVIDIA H100 80GB HBM3,gemm,*,129-256,2897-4579,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,23.96
NVIDIA H100 80GB HBM3,gemm,*,129-256,4580-6636,1-13272,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,36.32
NVIDIA H100 80GB HBM3,gemm,*,129-256,4580-6636,13273-9223372036854775807,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=8,118.53
NVIDIA H100 80GB HBM3,gemm,*,257-9223372036854775807,1-1448,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,28.79
NVIDIA H100 80GB HBM3,gemm,*,257-9223372036854775807,1449-2896,*,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,36.11
NVIDIA H100 80GB HBM3,gemm,*,257-9223372036854775807,2897-4579,*,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=1,65.47
NVIDIA H100 80GB HBM3,gemm,*,257-9223372036854775807,4580-6636,1-13272,*,gemm.unpack_cublas,stores=cached,108.92
NVIDIA H100 80GB HBM3,gemm,*,257-9223372036854775807,4580-6636,1-13272,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,116.06
NVIDIA H100 80GB HBM3,gemm,*,257-9223372036854775807,4580-6636,13273-9223372036854775807,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,427.56
NVIDIA H100 80GB HBM3,gemm,*,1-2,6637-9223372036854775807,*,*,gemm.pair_tma,warps=8 ring=3 cluster=1,24.60
NVIDIA H100 80GB HBM3,gemm,*,3-32,6637-23462,1-15325,*,gemm.pair_stream,teams=4 cluster=1,17.80
NVIDIA H100 80GB HBM3,gemm,*,3-16,6637-23462,15326-9223372036854775807,*,gemm.pair_stream,teams=2 cluster=1,48.32
NVIDIA H100 80GB HBM3,gemm,*,17-32,6637-23462,15326-9223372036854775807,*,gemm.pair_stream,teams=2 cluster=2,56.45
NVIDIA H100 80GB HBM3,gemm,*,33-64,6637-13272,*,*,gemm.pair_stream,teams=4 cluster=1,38.28
NVIDIA H100 80GB HBM3,gemm,*,65-128,6637-13272,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,45.25
NVIDIA H100 80GB HBM3,gemm,*,33-128,13273-23462,*,*,gemm.scaled_wgmma,rows=192 cols=128 cluster=1,58.68
NVIDIA H100 80GB HBM3,gemm,*,3-64,23463-9223372036854775807,*,*,gemm.pair_stream,teams=1 cluster=1,46.60
NVIDIA H100 80GB HBM3,gemm,*,65-128,23463-9223372036854775807,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=1,101.20
NVIDIA H100 80GB HBM3,gemm,*,129-256,6637-23462,*,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,77.53
NVIDIA H100 80GB HBM3,gemm,*,129-256,23463-9223372036854775807,*,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=1,146.04
NVIDIA H100 80GB HBM3,gemm,*,257-9223372036854775807,6637-9223372036854775807,*,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=1,370.64
NVIDIA H100 80GB HBM3,unpack,*,*,1-2896,*,32,unpack.stream,threads=256 blocks=6 grid=resident stores=streaming,8.25
NVIDIA H100 80GB HBM3,unpack,*,*,2897-9223372036854775807,*,32,unpack.stream,threads=128 blocks=12 grid=tiles stores=streaming,73.20
NVIDIA H100 80GB HBM3,unpack,*,*,1-2896,*,*,unpack.stream,threads=256 blocks=6 grid=resident stores=streaming,7.79
NVIDIA H100 80GB HBM3,unpack,*,*,2897-9223372036854775807,*,*,unpack.stream,threads=128 blocks=12 grid=tiles stores=streaming,71.10
NVIDIA H100 80GB HBM3,pack,*,*,*,*,32,pack.binned,threads=256 steps=4 blocks=4 grid=tiles,47.96
NVIDIA H100 80GB HBM3,pack,*,*,*,*,*,pack.binned,threads=256 steps=4 blocks=4 grid=tiles,46.55
sm_90,gemm,*,1-16,1-1448,*,32,gemm.pair_wgmma,tiles=1 teams=4 cluster=4,7.01
sm_90,gemm,*,1-16,1449-4579,*,32,gemm.pair_wgmma,tiles=1 teams=4 cluster=2,8.88
sm_90,gemm,*,1,4580-5246,*,32,gemm.fma,rows=4,27.29
sm_90,gemm,*,1,5247-13272,1-13272,32,gemm.pair_wgmma,tiles=1 teams=4 cluster=1,14.52
sm_90,gemm,*,1,5247-13272,13273-9223372036854775807,32,gemm.fma,rows=4,50.67
sm_90,gemm,*,2-8,4580-13272,1-13272,32,gemm.pair_wgmma,tiles=1 teams=4 cluster=1,15.62
sm_90,gemm,*,2-8,4580-13272,13273-9223372036854775807,32,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,51.74
sm_90,gemm,*,9-16,4580-13272,*,32,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,28.62
sm_90,gemm,*,17-32,1-2896,1-6636,32,gemm.pair_wgmma,tiles=2 teams=2 cluster=4,10.29
sm_90,gemm,*,17-32,1-2896,6637-9223372036854775807,32,gemm.scaled_wgmma,rows=128 cols=128 cluster=8,12.19
sm_90,gemm,*,33-128,1-1448,*,32,gemm.scaled_wgmma,rows=128 cols=128 cluster=8,11.80
sm_90,gemm,*,33-128,1449-2896,*,32,gemm.scaled_wgmma,rows=128 cols=128 cluster=4,14.82
sm_90,gemm,*,17-32,2897-4579,*,32,gemm.pair_wgmma,tiles=1 teams=4 cluster=2,15.78
sm_90,gemm,*,17-32,4580-6636,*,32,gemm.pair_wgmma,tiles=4 teams=1 cluster=4,32.97
sm_90,gemm,*,33-128,2897-6636,*,32,gemm.scaled_wgmma,rows=192 cols=128 cluster=4,38.52
sm_90,gemm,*,17-64,6637-13272,*,32,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,42.31
sm_90,gemm,*,65-128,6637-13272,*,32,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,52.08
sm_90,gemm,*,1-64,13273-23462,*,32,gemm.pair_wgmma,tiles=3 teams=1 cluster=1,41.47
sm_90,gemm,*,1-2,23463-9223372036854775807,*,32,gemm.fma,rows=4,44.87
sm_90,gemm,*,3-64,23463-9223372036854775807,*,32,gemm.pair_wgmma,tiles=4 teams=1 cluster=1,62.92
sm_90,gemm,*,65-128,13273-23462,*,32,gemm.scaled_wgmma,rows=192 cols=128 cluster=1,67.19
sm_90,gemm,*,65-128,23463-9223372036854775807,*,32,gemm.scaled_wgmma,rows=128 cols=128 cluster=1,115.54
sm_90,gemm,*,129-9223372036854775807,1-2896,*,32,gemm.unpack_cublas,stores=cached,22.48
sm_90,gemm,*,129-256,1-1448,1-6476,32,gemm.scaled_wgmma,rows=128 cols=128 cluster=4,14.93
sm_90,gemm,*,129-256,1-1448,6477-9223372036854775807,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=8,19.52
sm_90,gemm,*,129-256,1449-2896,*,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=4,20.79
sm_90,gemm,*,257-9223372036854775807,1-1448,*,32,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,31.79
sm_90,gemm,*,257-9223372036854775807,1449-2896,*,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,36.43
sm_90,gemm,*,129-256,2897-4579,*,32,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,25.40
sm_90,gemm,*,129-256,4580-6636,1-13272,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,39.51
sm_90,gemm,*,129-256,4580-6636,13273-9223372036854775807,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=8,127.82
sm_90,gemm,*,129-256,6637-23462,*,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,83.75
sm_90,gemm,*,129-256,23463-9223372036854775807,*,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=1,170.92
sm_90,gemm,*,257-9223372036854775807,2897-9223372036854775807,1-5246,32,gemm.unpack_cublas,stores=cached,167.08
sm_90,gemm,*,257-9223372036854775807,2897-6636,1-5246,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,91.86
sm_90,gemm,*,257-9223372036854775807,6637-9223372036854775807,1-5246,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=1,256.87
sm_90,gemm,*,257-9223372036854775807,2897-9223372036854775807,5247-6636,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=1,163.48
sm_90,gemm,*,257-9223372036854775807,2897-9223372036854775807,6637-27092,32,gemm.unpack_cublas,stores=cached,332.23
sm_90,gemm,*,257-9223372036854775807,2897-6636,6637-27092,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,338.84
sm_90,gemm,*,257-9223372036854775807,6637-9223372036854775807,6637-27092,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=1,442.40
sm_90,gemm,*,257-9223372036854775807,2897-9223372036854775807,27093-9223372036854775807,32,gemm.scaled_wgmma,rows=128 cols=256 cluster=1,800.60
sm_90,gemm,*,1-4,1-5246,1-5246,*,gemm.pair_tma,warps=12 ring=2 cluster=1,3.69
sm_90,gemm,*,1-4,1-5246,5247-13272,*,gemm.pair_tma,warps=8 ring=2 cluster=1,5.96
sm_90,gemm,*,1-2,5247-13272,1-6476,*,gemm.pair_tma,warps=8 ring=2 cluster=1,7.13
sm_90,gemm,*,1-2,5247-13272,6477-13272,*,gemm.pair_tma,warps=8 ring=3 cluster=1,11.79
sm_90,gemm,*,3-4,5247-6636,1-13272,*,gemm.pair_tma,warps=4 ring=2 cluster=1,7.07
sm_90,gemm,*,3-4,6637-13272,1-13272,*,gemm.pair_tma,warps=8 ring=2 cluster=1,11.41
sm_90,gemm,*,5-16,1-6636,1-5246,*,gemm.pair_stream,teams=4 cluster=2,6.39
sm_90,gemm,*,5-16,6637-13272,1-5246,*,gemm.pair_stream,teams=4 cluster=1,10.06
sm_90,gemm,*,5-16,1-1448,5247-13272,*,gemm.pair_stream,teams=2 cluster=8,5.91
sm_90,gemm,*,5-8,1449-2896,5247-13272,*,gemm.pair_stream,teams=2 cluster=4,6.42
sm_90,gemm,*,5-8,2897-13272,5247-13272,*,gemm.pair_stream,teams=4 cluster=2,10.27
sm_90,gemm,*,9-16,1449-13272,5247-13272,*,gemm.pair_stream,teams=4 cluster=2,9.84
sm_90,gemm,*,17-32,1-6636,1-13272,*,gemm.pair_stream,teams=4 cluster=2,8.94
sm_90,gemm,*,33-64,1-2896,1-13272,*,gemm.pair_stream,teams=2 cluster=4,10.60
sm_90,gemm,*,33-64,2897-6636,1-13272,*,gemm.pair_stream,teams=2 cluster=2,17.97
sm_90,gemm,*,17-64,6637-13272,1-13272,*,gemm.pair_stream,teams=4 cluster=1,19.23
sm_90,gemm,*,1-2,1-13272,13273-9223372036854775807,*,gemm.pair_tma,warps=8 ring=3 cluster=1,24.75
sm_90,gemm,*,3-64,1-13272,13273-9223372036854775807,*,gemm.pair_stream,teams=4 cluster=2,36.35
sm_90,gemm,*,1-2,13273-9223372036854775807,*,*,gemm.pair_tma,warps=8 ring=3 cluster=1,24.19
sm_90,gemm,*,3-32,13273-23462,*,*,gemm.pair_stream,teams=2 cluster=1,24.15
sm_90,gemm,*,33-64,13273-23462,*,*,gemm.pair_wgmma,tiles=3 teams=1 cluster=1,54.16
sm_90,gemm,*,3-64,23463-9223372036854775807,*,*,gemm.pair_stream,teams=2 cluster=1,39.64
sm_90,gemm,*,65-128,1-1448,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=8,11.50
sm_90,gemm,*,65-128,1449-2896,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=4,14.25
sm_90,gemm,*,65-128,2897-6636,*,*,gemm.scaled_wgmma,rows=192 cols=128 cluster=4,35.13
sm_90,gemm,*,65-128,6637-13272,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,45.86
sm_90,gemm,*,65-128,13273-23462,*,*,gemm.scaled_wgmma,rows=192 cols=128 cluster=1,59.26
sm_90,gemm,*,65-128,23463-9223372036854775807,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=1,98.42
sm_90,gemm,*,129-9223372036854775807,1-1448,1-6636,*,gemm.unpack_cublas,stores=streaming,16.98
sm_90,gemm,*,129-256,1-1448,1-6636,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=4,13.50
sm_90,gemm,*,257-9223372036854775807,1-1448,1-6636,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,24.09
sm_90,gemm,*,129-256,1449-2896,1-6636,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=4,20.11
sm_90,gemm,*,129-256,2897-4692,1-6636,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,24.26
sm_90,gemm,*,129-256,4693-23462,1-6636,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,46.59
sm_90,gemm,*,129-256,23463-9223372036854775807,1-6636,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=1,116.04
sm_90,gemm,*,257-9223372036854775807,1449-2896,1-6636,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,35.28
sm_90,gemm,*,257-9223372036854775807,2897-23462,1-4579,*,gemm.unpack_cublas,stores=streaming,73.26
sm_90,gemm,*,257-9223372036854775807,2897-23462,1-4579,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,87.75
sm_90,gemm,*,257-9223372036854775807,2897-23462,4580-6636,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=1,144.15
sm_90,gemm,*,257-9223372036854775807,23463-9223372036854775807,1-6636,*,gemm.unpack_cublas,stores=streaming,444.77
sm_90,gemm,*,257-9223372036854775807,23463-9223372036854775807,1-6636,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=1,457.86
sm_90,gemm,*,129-256,1-2289,6637-9223372036854775807,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=8,18.25
sm_90,gemm,*,129-256,2290-9223372036854775807,6637-9223372036854775807,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,106.09
sm_90,gemm,*,257-9223372036854775807,1-5246,6637-9223372036854775807,*,gemm.unpack_cublas,stores=cached,124.31
sm_90,gemm,*,257-9223372036854775807,1-2289,6637-9223372036854775807,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,36.55
sm_90,gemm,*,257-9223372036854775807,2290-5246,6637-9223372036854775807,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,264.68
sm_90,gemm,*,257-9223372036854775807,5247-6636,6637-9223372036854775807,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,387.92
sm_90,gemm,*,257-9223372036854775807,6637-9223372036854775807,6637-9223372036854775807,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=1,495.26
sm_90,unpack,*,*,1-2896,*,32,unpack.stream,threads=256 blocks=6 grid=resident stores=streaming,6.62
sm_90,unpack,*,*,2897-9223372036854775807,*,32,unpack.stream,threads=128 blocks=12 grid=tiles stores=streaming,52.99
sm_90,unpack,*,*,1-2896,*,*,unpack.stream,threads=256 blocks=6 grid=resident stores=streaming,6.29
sm_90,unpack,*,*,2897-9223372036854775807,*,*,unpack.stream,threads=128 blocks=12 grid=tiles stores=streaming,51.40
sm_90,pack,*,*,1-2896,*,32,pack.binned,threads=256 steps=4 blocks=4 grid=resident,8.28
sm_90,pack,*,*,2897-9223372036854775807,*,32,pack.binned,threads=128 steps=8 blocks=6 grid=tiles,56.42
sm_90,pack,*,*,1-2896,*,*,pack.binned,threads=256 steps=4 blocks=4 grid=resident,8.20
sm_90,pack,*,*,2897-9223372036854775807,*,*,pack.binned,threads=128 steps=8 blocks=6 grid=tiles,54.47
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
*,gemm,*,1,*,*,32,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,
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
*,gemm,*,5-8,*,*,32,gemm.unpack_cublas,stores=cached,
*,gemm,*,5-8,*,*,32,gemm.fma,rows=8,
*,gemm,*,5-8,*,*,32,gemm.tiled,tile_m=16,
*,gemm,*,9-16,*,*,32,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,
*,gemm,*,9-16,*,*,32,gemm.scaled_wgmma,rows=192 cols=128 cluster=8,
*,gemm,*,9-16,*,*,32,gemm.unpack_cublas,stores=cached,
*,gemm,*,9-16,*,*,32,gemm.fma,rows=8,
*,gemm,*,9-16,*,*,32,gemm.tiled,tile_m=16,
*,gemm,*,17-32,*,*,32,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,
*,gemm,*,17-32,*,*,32,gemm.scaled_wgmma,rows=192 cols=128 cluster=4,
*,gemm,*,17-32,*,*,32,gemm.unpack_cublas,stores=cached,
*,gemm,*,17-32,*,*,32,gemm.fma,rows=4,
*,gemm,*,17-32,*,*,32,gemm.tiled,tile_m=16,
*,gemm,*,33-64,*,*,32,gemm.scaled_wgmma,rows=192 cols=128 cluster=4,
*,gemm,*,33-64,*,*,32,gemm.pair_wgmma,tiles=4 teams=1 cluster=4,
*,gemm,*,33-64,*,*,32,gemm.unpack_cublas,stores=streaming,
*,gemm,*,33-64,*,*,32,gemm.fma,rows=4,
*,gemm,*,33-64,*,*,32,gemm.tiled,tile_m=64,
*,gemm,*,65-128,*,*,32,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,
*,gemm,*,65-128,*,*,32,gemm.unpack_cublas,stores=cached,
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
*,gemm,*,1-4,*,*,*,gemm.pair_tma,warps=8 ring=2 cluster=1,
*,gemm,*,1,*,*,*,gemm.pair,warps=12 ring=2 cluster=1,
*,gemm,*,1,*,*,*,gemm.pair_stream,teams=4 cluster=2,
*,gemm,*,1,*,*,*,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,
*,gemm,*,1,*,*,*,gemm.fma,rows=4,
*,gemm,*,1,*,*,*,gemv.lut_shared,warps=4,
*,gemm,*,1,*,*,*,gemv.lut_global,warps=4,
*,gemm,*,1,*,*,*,gemm.scaled_wgmma,rows=192 cols=128 cluster=8,
*,gemm,*,1,*,*,*,gemm.unpack_cublas,stores=streaming,
*,gemm,*,1,*,*,*,gemm.tiled,tile_m=16,
*,gemm,*,2,*,*,*,gemm.pair_stream,teams=4 cluster=2,
*,gemm,*,2,*,*,*,gemm.pair,warps=8 ring=2 cluster=1,
*,gemm,*,2,*,*,*,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,
*,gemm,*,2,*,*,*,gemm.fma,rows=8,
*,gemm,*,2,*,*,*,gemm.scaled_wgmma,rows=192 cols=128 cluster=8,
*,gemm,*,2,*,*,*,gemm.unpack_cublas,stores=cached,
*,gemm,*,2,*,*,*,gemm.tiled,tile_m=16,
*,gemm,*,3-4,*,*,*,gemm.pair_stream,teams=4 cluster=2,
*,gemm,*,3-4,*,*,*,gemm.pair,warps=8 ring=2 cluster=1,
*,gemm,*,3-4,*,*,*,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,
*,gemm,*,3-4,*,*,*,gemm.scaled_wgmma,rows=192 cols=128 cluster=8,
*,gemm,*,3-4,*,*,*,gemm.fma,rows=8,
*,gemm,*,3-4,*,*,*,gemm.unpack_cublas,stores=cached,
*,gemm,*,3-4,*,*,*,gemm.tiled,tile_m=16,
*,gemm,*,5-32,*,*,*,gemm.pair_stream,teams=4 cluster=2,
*,gemm,*,5-8,*,*,*,gemm.pair_tma,warps=8 ring=2 cluster=1,
*,gemm,*,5-8,*,*,*,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,
*,gemm,*,5-8,*,*,*,gemm.pair,warps=8 ring=2 cluster=1,
*,gemm,*,5-8,*,*,*,gemm.scaled_wgmma,rows=192 cols=128 cluster=8,
*,gemm,*,5-8,*,*,*,gemm.unpack_cublas,stores=cached,
*,gemm,*,5-8,*,*,*,gemm.fma,rows=8,
*,gemm,*,5-8,*,*,*,gemm.tiled,tile_m=16,
*,gemm,*,9-16,*,*,*,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,
*,gemm,*,9-16,*,*,*,gemm.pair_tma,warps=4 ring=2 cluster=1,
*,gemm,*,9-16,*,*,*,gemm.scaled_wgmma,rows=192 cols=128 cluster=4,
*,gemm,*,9-16,*,*,*,gemm.pair,warps=8 ring=3 cluster=1,
*,gemm,*,9-16,*,*,*,gemm.unpack_cublas,stores=cached,
*,gemm,*,9-16,*,*,*,gemm.fma,rows=4,
*,gemm,*,9-16,*,*,*,gemm.tiled,tile_m=16,
*,gemm,*,17-32,*,*,*,gemm.pair_wgmma,tiles=4 teams=1 cluster=4,
*,gemm,*,17-32,*,*,*,gemm.scaled_wgmma,rows=192 cols=128 cluster=4,
*,gemm,*,17-32,*,*,*,gemm.pair_tma,warps=4 ring=2 cluster=1,
*,gemm,*,17-32,*,*,*,gemm.unpack_cublas,stores=cached,
*,gemm,*,17-32,*,*,*,gemm.pair,warps=8 ring=3 cluster=1,
*,gemm,*,17-32,*,*,*,gemm.fma,rows=8,
*,gemm,*,17-32,*,*,*,gemm.tiled,tile_m=16,
*,gemm,*,33-64,*,*,*,gemm.pair_stream,teams=4 cluster=2,
*,gemm,*,33-64,*,*,*,gemm.pair_wgmma,tiles=4 teams=1 cluster=4,
*,gemm,*,33-64,*,*,*,gemm.scaled_wgmma,rows=192 cols=128 cluster=4,
*,gemm,*,33-64,*,*,*,gemm.unpack_cublas,stores=cached,
*,gemm,*,33-64,*,*,*,gemm.pair_tma,warps=4 ring=2 cluster=1,
*,gemm,*,33-64,*,*,*,gemm.pair,warps=8 ring=3 cluster=1,
*,gemm,*,33-64,*,*,*,gemm.fma,rows=4,
*,gemm,*,33-64,*,*,*,gemm.tiled,tile_m=64,
*,gemm,*,65-128,*,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,
*,gemm,*,65-128,*,*,*,gemm.pair_stream,teams=4 cluster=2,
*,gemm,*,65-128,*,*,*,gemm.unpack_cublas,stores=cached,
*,gemm,*,65-128,*,*,*,gemm.pair_wgmma,tiles=4 teams=1 cluster=4,
*,gemm,*,65-128,*,*,*,gemm.pair_tma,warps=4 ring=2 cluster=1,
*,gemm,*,65-128,*,*,*,gemm.pair,warps=8 ring=3 cluster=1,
*,gemm,*,65-128,*,*,*,gemm.tiled,tile_m=64,
*,gemm,*,65-128,*,*,*,gemm.fma,rows=4,
*,gemm,*,129-256,*,*,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,
*,gemm,*,129-256,*,*,*,gemm.unpack_cublas,stores=cached,
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
*,unpack,*,*,*,*,*,unpack.stream,threads=128 blocks=12 grid=tiles stores=streaming,
*,unpack,*,*,*,*,*,unpack.lut_global,threads=128,
*,unpack,*,*,*,*,*,unpack.lut_shared,threads=128,
*,pack,*,*,*,*,32,pack.binned,threads=128 steps=8 blocks=6 grid=tiles,
*,pack,*,*,*,*,32,pack.cub,,
*,pack,*,*,*,*,*,pack.binned,threads=128 steps=8 blocks=6 grid=tiles,
*,pack,*,*,*,*,*,pack.cub,,
)";
#else
inline constexpr std::string_view kBuiltinTuning = "nf4-tuning 1\n";
#endif

}  // namespace nf4
