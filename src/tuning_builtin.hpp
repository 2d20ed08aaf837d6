// The tuning table that is compiled in, in the form of docs/tuning.md. It speaks of CUDA devices only, and is made by
// `nf4-bench tune --builtin`: rows by what was measured on one device, for all of its compute capability, then rows for
// all others.
#pragma once

#include <string_view>

namespace nf4 {

#if NF4_HAVE_CUDA
inline constexpr std::string_view kBuiltinTuning = R"(nf4-tuning 1
# NVIDIA H200, commit 872697a5cee6, by nf4-bench tune; gemm.pair_wgmma, commit f26219c1d750
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
sm_90,gemm,*,1-4,1-1448,*,*,gemm.pair_tma,warps=8 ring=2 cluster=1,4.31
sm_90,gemm,*,1-4,1449-2896,*,*,gemm.pair_tma,warps=4 ring=2 cluster=1,5.50
sm_90,gemm,*,1-4,2897-23462,1-4579,*,gemm.pair_tma,warps=4 ring=2 cluster=1,7.16
sm_90,gemm,*,1-4,2897-23462,4580-13272,*,gemm.pair_tma,warps=8 ring=2 cluster=1,11.52
sm_90,gemm,*,1-2,2897-23462,13273-9223372036854775807,*,gemm.pair_tma,warps=8 ring=3 cluster=1,25.60
sm_90,gemm,*,3-4,2897-5246,13273-9223372036854775807,*,gemm.pair_tma,warps=8 ring=2 cluster=4,26.64
sm_90,gemm,*,3-4,5247-23462,13273-9223372036854775807,*,gemm.pair_tma,warps=8 ring=3 cluster=1,31.44
sm_90,gemm,*,1-4,23463-9223372036854775807,*,*,gemm.pair_tma,warps=8 ring=3 cluster=1,28.57
sm_90,gemm,*,5-8,1-5246,*,*,gemm.pair_tma,warps=4 ring=2 cluster=1,10.87
sm_90,gemm,*,5-8,5247-6636,*,*,gemm.pair_tma,warps=8 ring=3 cluster=1,17.32
sm_90,gemm,*,9-16,1-2896,1-6636,*,gemm.pair_stream,rows=32 warps=2 teams=4 cluster=2,9.72
sm_90,gemm,*,9-16,1-2896,6637-9223372036854775807,*,gemm.pair_wgmma,tiles=1 teams=4 cluster=4,12.49
sm_90,gemm,*,9-16,2897-6636,*,*,gemm.pair_stream,rows=32 warps=4 teams=2 cluster=2,20.74
sm_90,gemm,*,17-128,1-1448,*,*,gemm.unpack_cublas,stores=streaming,12.74
sm_90,gemm,*,17-32,1-1448,*,*,gemm.pair_wgmma,tiles=2 teams=2 cluster=4,14.27
sm_90,gemm,*,33-128,1-1448,*,*,gemm.pair_wgmma,tiles=1 teams=4 cluster=4,25.33
sm_90,gemm,*,17-32,1449-2896,*,*,gemm.pair_wgmma,tiles=2 teams=2 cluster=4,14.26
sm_90,gemm,*,33-128,1449-2896,*,*,gemm.unpack_cublas,stores=streaming,17.05
sm_90,gemm,*,33-128,1449-2896,*,*,gemm.pair_wgmma,tiles=2 teams=2 cluster=4,25.15
sm_90,gemm,*,17-32,2897-4579,*,*,gemm.pair_stream,rows=32 warps=4 teams=2 cluster=2,16.69
sm_90,gemm,*,33-64,2897-4579,*,*,gemm.pair_wgmma,tiles=1 teams=4 cluster=2,24.49
sm_90,gemm,*,17-64,4580-6636,*,*,gemm.pair_wgmma,tiles=4 teams=1 cluster=4,36.51
sm_90,gemm,*,65-128,2897-6636,1-13272,*,gemm.unpack_cublas,stores=cached,36.45
sm_90,gemm,*,65-128,2897-4579,1-13272,*,gemm.pair_wgmma,tiles=1 teams=4 cluster=2,48.69
sm_90,gemm,*,65-128,4580-6636,1-13272,*,gemm.pair_wgmma,tiles=4 teams=1 cluster=4,52.83
sm_90,gemm,*,65-128,2897-6636,13273-9223372036854775807,*,gemm.pair_wgmma,tiles=4 teams=1 cluster=4,143.28
sm_90,gemm,*,5-8,6637-13272,1-6476,*,gemm.pair_tma,warps=4 ring=2 cluster=1,12.33
sm_90,gemm,*,9-32,6637-13272,1-6476,*,gemm.pair_stream,rows=32 warps=4 teams=2 cluster=2,16.15
sm_90,gemm,*,33-128,6637-13272,1-6476,*,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,37.65
sm_90,gemm,*,5-128,6637-13272,6477-9223372036854775807,*,gemm.pair_stream,rows=32 warps=4 teams=2 cluster=2,49.86
sm_90,gemm,*,5-32,13273-23462,*,*,gemm.pair_stream,rows=32 warps=6 teams=2 cluster=1,27.95
sm_90,gemm,*,5-32,23463-9223372036854775807,*,*,gemm.pair_stream,rows=32 warps=7 teams=2 cluster=1,36.28
sm_90,gemm,*,33-128,13273-23462,*,*,gemm.pair_wgmma,tiles=3 teams=1 cluster=1,80.69
sm_90,gemm,*,33-128,23463-9223372036854775807,*,*,gemm.pair_wgmma,tiles=4 teams=1 cluster=1,108.19
sm_90,gemm,*,129-9223372036854775807,1-1448,*,*,gemm.unpack_cublas,stores=streaming,15.89
sm_90,gemm,*,129-9223372036854775807,1-1448,*,*,gemm.pair_wgmma,tiles=1 teams=4 cluster=4,71.16
sm_90,gemm,*,129-9223372036854775807,1449-9223372036854775807,*,*,gemm.unpack_cublas,stores=cached,99.26
sm_90,gemm,*,129-9223372036854775807,1449-2896,*,*,gemm.pair_wgmma,tiles=2 teams=2 cluster=4,70.62
sm_90,gemm,*,129-9223372036854775807,2897-4579,*,*,gemm.pair_wgmma,tiles=1 teams=4 cluster=2,97.40
sm_90,gemm,*,129-9223372036854775807,4580-6636,*,*,gemm.pair_wgmma,tiles=4 teams=1 cluster=4,173.78
sm_90,gemm,*,129-9223372036854775807,6637-13272,1-15325,*,gemm.pair_wgmma,tiles=2 teams=2 cluster=2,127.61
sm_90,gemm,*,129-9223372036854775807,6637-13272,15326-9223372036854775807,*,gemm.pair_stream,rows=32 warps=4 teams=2 cluster=2,426.41
sm_90,gemm,*,129-9223372036854775807,13273-23462,*,*,gemm.pair_wgmma,tiles=3 teams=1 cluster=1,226.74
sm_90,gemm,*,129-9223372036854775807,23463-9223372036854775807,*,*,gemm.pair_wgmma,tiles=4 teams=1 cluster=1,308.55
sm_90,unpack,*,*,1-2896,*,*,unpack.stream,threads=256 blocks=6 grid=resident stores=streaming,6.38
sm_90,unpack,*,*,2897-9223372036854775807,*,*,unpack.stream,threads=128 blocks=12 grid=tiles stores=streaming,51.41
sm_90,pack,*,*,1-2896,*,*,pack.binned,threads=256 steps=4 blocks=4 grid=resident,8.23
sm_90,pack,*,*,2897-9223372036854775807,*,*,pack.binned,threads=128 steps=8 blocks=6 grid=tiles,54.49
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
*,gemm,*,1-8,*,*,*,gemm.pair_tma,warps=8 ring=2 cluster=1,
*,gemm,*,1-2,*,*,*,gemm.pair,warps=8 ring=2 cluster=1,
*,gemm,*,1,*,*,*,gemm.pair_stream,rows=32 warps=4 teams=2 cluster=2,
*,gemm,*,1,*,*,*,gemm.fma,rows=4,
*,gemm,*,1,*,*,*,gemm.pair_wgmma,tiles=1 teams=4 cluster=1,
*,gemm,*,1,*,*,*,gemv.lut_shared,warps=4,
*,gemm,*,1,*,*,*,gemv.lut_global,warps=4,
*,gemm,*,1,*,*,*,gemm.unpack_cublas,stores=streaming,
*,gemm,*,1,*,*,*,gemm.tiled,tile_m=16,
*,gemm,*,2,*,*,*,gemm.pair_stream,rows=32 warps=4 teams=2 cluster=2,
*,gemm,*,2,*,*,*,gemm.pair_wgmma,tiles=1 teams=4 cluster=1,
*,gemm,*,2,*,*,*,gemm.fma,rows=8,
*,gemm,*,2,*,*,*,gemm.unpack_cublas,stores=streaming,
*,gemm,*,2,*,*,*,gemm.tiled,tile_m=16,
*,gemm,*,3-4,*,*,*,gemm.pair,warps=8 ring=2 cluster=1,
*,gemm,*,3-4,*,*,*,gemm.pair_stream,rows=32 warps=4 teams=2 cluster=2,
*,gemm,*,3-4,*,*,*,gemm.pair_wgmma,tiles=1 teams=4 cluster=1,
*,gemm,*,3-4,*,*,*,gemm.fma,rows=4,
*,gemm,*,3-4,*,*,*,gemm.unpack_cublas,stores=streaming,
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
*,gemm,*,9-16,*,*,*,gemm.unpack_cublas,stores=cached,
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
