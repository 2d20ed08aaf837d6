// The tuning table that is compiled in, in the form of docs/tuning.md. It speaks of CUDA devices only, and is made by
// `nf4-bench tune --builtin`: rows by what was measured on one device, for all of its compute capability, then rows for
// all others.
#pragma once

#include <string_view>

namespace nf4 {

#if NF4_HAVE_CUDA
inline constexpr std::string_view kBuiltinTuning = R"(nf4-tuning 1
# NVIDIA H200, commit 45316cba75c3, by nf4-bench tune; f32, commit 98c5f6bf013d
# gemm.scaled_wgmma, 65 to 256 rows of x, n from 23463: made as one row, of one kernel for up to 128 rows of x and one
# for more, which since have configs of their own
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
sm_90,gemm,*,1-4,1-1448,*,*,gemm.pair_tma,warps=8 ring=2 cluster=1,4.20
sm_90,gemm,*,1-4,1449-2896,*,*,gemm.pair_tma,warps=4 ring=2 cluster=1,5.49
sm_90,gemm,*,1-4,2897-27092,1-4579,*,gemm.pair_tma,warps=4 ring=2 cluster=1,7.11
sm_90,gemm,*,1,2897-27092,4580-13272,*,gemm.pair_tma,warps=8 ring=2 cluster=1,12.10
sm_90,gemm,*,1,2897-27092,13273-9223372036854775807,*,gemm.pair_tma,warps=8 ring=3 cluster=1,24.72
sm_90,gemm,*,2-4,2897-23462,4580-27092,*,gemm.pair_tma,warps=8 ring=2 cluster=1,14.48
sm_90,gemm,*,2-4,2897-23462,27093-9223372036854775807,*,gemm.pair_tma,warps=8 ring=3 cluster=1,38.56
sm_90,gemm,*,2-4,23463-27092,4580-9223372036854775807,*,gemm.pair_tma,warps=8 ring=3 cluster=1,22.73
sm_90,gemm,*,1-4,27093-9223372036854775807,*,*,gemm.pair_tma,warps=8 ring=3 cluster=1,36.57
sm_90,gemm,*,5-8,1-2896,1-6636,*,gemm.pair_tma,warps=8 ring=2 cluster=1,6.75
sm_90,gemm,*,5-8,1-2896,6637-9223372036854775807,*,gemm.pair_tma,warps=4 ring=2 cluster=1,7.62
sm_90,gemm,*,9-16,1-2896,1-6636,*,gemm.pair_stream,rows=32 warps=2 teams=4 cluster=2,8.79
sm_90,gemm,*,9-16,1-2896,6637-9223372036854775807,*,gemm.pair_stream,rows=64 warps=1 teams=4 cluster=4,10.01
sm_90,gemm,*,17-64,1-1448,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=8,11.78
sm_90,gemm,*,65-9223372036854775807,1-1448,*,*,gemm.unpack_cublas,stores=streaming,18.08
sm_90,gemm,*,65-128,1-1448,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=8,14.73
sm_90,gemm,*,129-256,1-1448,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=4,18.45
sm_90,gemm,*,257-9223372036854775807,1-1448,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,31.89
sm_90,gemm,*,17-32,1449-2896,*,*,gemm.pair_stream,rows=32 warps=2 teams=4 cluster=2,12.19
sm_90,gemm,*,33-128,1449-2896,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=4,15.99
sm_90,gemm,*,129-9223372036854775807,1449-2896,*,*,gemm.unpack_cublas,stores=cached,28.06
sm_90,gemm,*,129-256,1449-2896,*,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=4,25.37
sm_90,gemm,*,257-9223372036854775807,1449-2896,*,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,44.14
sm_90,gemm,*,5-8,2897-5246,*,*,gemm.pair_tma,warps=4 ring=2 cluster=1,16.63
sm_90,gemm,*,5-8,5247-6636,*,*,gemm.pair_tma,warps=8 ring=2 cluster=1,17.25
sm_90,gemm,*,9-32,2897-6636,1-13272,*,gemm.pair_stream,rows=32 warps=4 teams=2 cluster=2,14.24
sm_90,gemm,*,9-32,2897-6636,13273-9223372036854775807,*,gemm.pair_stream,rows=32 warps=3 teams=4 cluster=2,44.83
sm_90,gemm,*,33-64,2897-4579,*,*,gemm.pair_stream,rows=64 warps=1 teams=4 cluster=2,21.66
sm_90,gemm,*,33-64,4580-6636,*,*,gemm.pair_wgmma,tiles=4 teams=1 cluster=4,40.17
sm_90,gemm,*,5-8,6637-13272,1-6476,*,gemm.pair_tma,warps=4 ring=2 cluster=1,12.34
sm_90,gemm,*,9-32,6637-13272,1-6476,*,gemm.pair_stream,rows=32 warps=4 teams=2 cluster=2,15.12
sm_90,gemm,*,33-64,6637-13272,1-6476,*,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,26.09
sm_90,gemm,*,5-64,6637-13272,6477-9223372036854775807,*,gemm.pair_stream,rows=32 warps=4 teams=2 cluster=2,38.07
sm_90,gemm,*,5-32,13273-23462,*,*,gemm.pair_stream,rows=32 warps=6 teams=2 cluster=1,29.57
sm_90,gemm,*,5-32,23463-9223372036854775807,*,*,gemm.pair_stream,rows=32 warps=7 teams=2 cluster=1,37.80
sm_90,gemm,*,33-64,13273-23462,*,*,gemm.pair_wgmma,tiles=3 teams=1 cluster=1,60.57
sm_90,gemm,*,33-64,23463-9223372036854775807,*,*,gemm.pair_wgmma,tiles=4 teams=1 cluster=1,79.59
sm_90,gemm,*,65-128,2897-23462,1-27092,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,43.82
sm_90,gemm,*,65-128,2897-23462,27093-9223372036854775807,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,122.72
sm_90,gemm,*,129-256,2897-4579,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,27.81
sm_90,gemm,*,129-256,4580-23462,1-4579,*,gemm.unpack_cublas,stores=streaming,33.77
sm_90,gemm,*,129-256,4580-23462,1-4579,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,35.76
sm_90,gemm,*,129-256,4580-23462,4580-9223372036854775807,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,93.30
sm_90,gemm,*,65-128,23463-9223372036854775807,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=1,
sm_90,gemm,*,129-256,23463-9223372036854775807,*,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=1,
sm_90,gemm,*,257-9223372036854775807,2897-6636,*,*,gemm.unpack_cublas,stores=cached,169.62
sm_90,gemm,*,257-9223372036854775807,2897-4579,*,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=1,79.51
sm_90,gemm,*,257-9223372036854775807,4580-6636,*,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,252.33
sm_90,gemm,*,257-9223372036854775807,6637-27092,1-6636,*,gemm.unpack_cublas,stores=cached,304.22
sm_90,gemm,*,257-9223372036854775807,6637-27092,1-6636,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=1,333.32
sm_90,gemm,*,257-9223372036854775807,6637-27092,6637-9223372036854775807,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=1,419.75
sm_90,gemm,*,257-9223372036854775807,27093-9223372036854775807,*,*,gemm.unpack_cublas,stores=streaming,758.90
sm_90,gemm,*,257-9223372036854775807,27093-9223372036854775807,*,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=1,855.80
sm_90,unpack,*,*,1-2896,*,*,unpack.stream,threads=256 blocks=6 grid=resident stores=streaming,6.32
sm_90,unpack,*,*,2897-9223372036854775807,*,*,unpack.stream,threads=128 blocks=12 grid=tiles stores=streaming,51.28
sm_90,pack,*,*,1-2896,*,*,pack.binned,threads=256 steps=4 blocks=4 grid=resident,8.33
sm_90,pack,*,*,2897-9223372036854775807,*,*,pack.binned,threads=128 steps=8 blocks=6 grid=tiles,54.56
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
*,gemm,*,1,*,*,*,gemm.pair_tma,warps=8 ring=2 cluster=1,
*,gemm,*,1,*,*,*,gemm.pair,warps=8 ring=3 cluster=1,
*,gemm,*,1,*,*,*,gemm.pair_stream,rows=32 warps=4 teams=2 cluster=2,
*,gemm,*,1,*,*,*,gemm.fma,rows=4,
*,gemm,*,1,*,*,*,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,
*,gemm,*,1,*,*,*,gemv.lut_shared,warps=4,
*,gemm,*,1,*,*,*,gemv.lut_global,warps=4,
*,gemm,*,1,*,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=4,
*,gemm,*,1,*,*,*,gemm.unpack_cublas,stores=streaming,
*,gemm,*,1,*,*,*,gemm.tiled,tile_m=16,
*,gemm,*,2-8,*,*,*,gemm.pair_tma,warps=8 ring=2 cluster=1,
*,gemm,*,2,*,*,*,gemm.pair,warps=8 ring=2 cluster=1,
*,gemm,*,2,*,*,*,gemm.pair_stream,rows=32 warps=4 teams=2 cluster=2,
*,gemm,*,2,*,*,*,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,
*,gemm,*,2,*,*,*,gemm.fma,rows=8,
*,gemm,*,2,*,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=4,
*,gemm,*,2,*,*,*,gemm.unpack_cublas,stores=streaming,
*,gemm,*,2,*,*,*,gemm.tiled,tile_m=16,
*,gemm,*,3-4,*,*,*,gemm.pair_stream,rows=32 warps=4 teams=2 cluster=2,
*,gemm,*,3-4,*,*,*,gemm.pair,warps=8 ring=2 cluster=1,
*,gemm,*,3-4,*,*,*,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,
*,gemm,*,3-4,*,*,*,gemm.fma,rows=8,
*,gemm,*,3-4,*,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=4,
*,gemm,*,3-4,*,*,*,gemm.unpack_cublas,stores=streaming,
*,gemm,*,3-4,*,*,*,gemm.tiled,tile_m=16,
*,gemm,*,5-8,*,*,*,gemm.pair_stream,rows=32 warps=4 teams=2 cluster=2,
*,gemm,*,5-8,*,*,*,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,
*,gemm,*,5-8,*,*,*,gemm.pair,warps=8 ring=2 cluster=1,
*,gemm,*,5-8,*,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=4,
*,gemm,*,5-8,*,*,*,gemm.unpack_cublas,stores=cached,
*,gemm,*,5-8,*,*,*,gemm.fma,rows=8,
*,gemm,*,5-8,*,*,*,gemm.tiled,tile_m=16,
*,gemm,*,9-16,*,*,*,gemm.pair_stream,rows=32 warps=4 teams=2 cluster=2,
*,gemm,*,9-16,*,*,*,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,
*,gemm,*,9-16,*,*,*,gemm.pair_tma,warps=4 ring=2 cluster=1,
*,gemm,*,9-16,*,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=4,
*,gemm,*,9-16,*,*,*,gemm.unpack_cublas,stores=cached,
*,gemm,*,9-16,*,*,*,gemm.pair,warps=8 ring=2 cluster=1,
*,gemm,*,9-16,*,*,*,gemm.fma,rows=4,
*,gemm,*,9-16,*,*,*,gemm.tiled,tile_m=16,
*,gemm,*,17-32,*,*,*,gemm.pair_stream,rows=32 warps=4 teams=2 cluster=2,
*,gemm,*,17-32,*,*,*,gemm.pair_wgmma,tiles=4 teams=1 cluster=4,
*,gemm,*,17-32,*,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=4,
*,gemm,*,17-32,*,*,*,gemm.pair_tma,warps=4 ring=2 cluster=1,
*,gemm,*,17-32,*,*,*,gemm.unpack_cublas,stores=cached,
*,gemm,*,17-32,*,*,*,gemm.pair,warps=8 ring=3 cluster=1,
*,gemm,*,17-32,*,*,*,gemm.fma,rows=4,
*,gemm,*,17-32,*,*,*,gemm.tiled,tile_m=16,
*,gemm,*,33-64,*,*,*,gemm.pair_wgmma,tiles=4 teams=1 cluster=4,
*,gemm,*,33-64,*,*,*,gemm.pair_stream,rows=32 warps=4 teams=2 cluster=2,
*,gemm,*,33-64,*,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,
*,gemm,*,33-64,*,*,*,gemm.unpack_cublas,stores=cached,
*,gemm,*,33-64,*,*,*,gemm.pair_tma,warps=4 ring=2 cluster=1,
*,gemm,*,33-64,*,*,*,gemm.pair,warps=8 ring=3 cluster=1,
*,gemm,*,33-64,*,*,*,gemm.fma,rows=4,
*,gemm,*,33-64,*,*,*,gemm.tiled,tile_m=64,
*,gemm,*,65-128,*,*,*,gemm.scaled_wgmma,rows=128 cols=128 cluster=2,
*,gemm,*,65-128,*,*,*,gemm.unpack_cublas,stores=cached,
*,gemm,*,65-128,*,*,*,gemm.pair_wgmma,tiles=4 teams=1 cluster=4,
*,gemm,*,65-128,*,*,*,gemm.pair_stream,rows=32 warps=4 teams=2 cluster=2,
*,gemm,*,65-128,*,*,*,gemm.pair_tma,warps=4 ring=2 cluster=1,
*,gemm,*,65-128,*,*,*,gemm.pair,warps=8 ring=3 cluster=1,
*,gemm,*,65-128,*,*,*,gemm.tiled,tile_m=64,
*,gemm,*,65-128,*,*,*,gemm.fma,rows=4,
*,gemm,*,129-256,*,*,*,gemm.unpack_cublas,stores=streaming,
*,gemm,*,129-256,*,*,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,
*,gemm,*,129-256,*,*,*,gemm.pair_wgmma,tiles=4 teams=1 cluster=4,
*,gemm,*,129-256,*,*,*,gemm.pair_stream,rows=32 warps=4 teams=2 cluster=2,
*,gemm,*,129-256,*,*,*,gemm.pair_tma,warps=4 ring=2 cluster=1,
*,gemm,*,129-256,*,*,*,gemm.pair,warps=8 ring=3 cluster=1,
*,gemm,*,129-256,*,*,*,gemm.tiled,tile_m=64,
*,gemm,*,129-256,*,*,*,gemm.fma,rows=4,
*,gemm,*,257-9223372036854775807,*,*,*,gemm.unpack_cublas,stores=streaming,
*,gemm,*,257-9223372036854775807,*,*,*,gemm.scaled_wgmma,rows=128 cols=256 cluster=2,
*,gemm,*,257-9223372036854775807,*,*,*,gemm.pair_wgmma,tiles=4 teams=1 cluster=4,
*,gemm,*,257-9223372036854775807,*,*,*,gemm.pair_stream,rows=32 warps=4 teams=2 cluster=2,
*,gemm,*,257-9223372036854775807,*,*,*,gemm.pair_tma,warps=4 ring=2 cluster=1,
*,gemm,*,257-9223372036854775807,*,*,*,gemm.pair,warps=8 ring=3 cluster=1,
*,gemm,*,257-9223372036854775807,*,*,*,gemm.tiled,tile_m=64,
*,gemm,*,257-9223372036854775807,*,*,*,gemm.fma,rows=4,
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
