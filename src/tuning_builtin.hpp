// The tuning table that is compiled in, in the form of docs/tuning.md. It speaks of CUDA devices only.
#pragma once

#include <string_view>

namespace nf4 {

#if NF4_HAVE_CUDA
inline constexpr std::string_view kBuiltinTuning = R"(nf4-tuning 1
# device,op,dtype,m,n,k,blocksize,variant,config,microseconds
*,gemm,*,1,0-2048,*,*,gemv.pair,warps=16 blocks=4 stages=3 cluster=2,
*,gemm,*,1,*,5120-5376,*,gemv.pair,warps=12 blocks=7 stages=2 cluster=1,
*,gemm,*,2-8,*,*,*,gemm.pair8,warps=16 blocks=4 stages=3 cluster=1,
*,gemm,*,9-16,*,*,*,gemm.pair16,warps=16 blocks=4 stages=2 cluster=2,
*,gemm,*,2-16,*,*,*,gemm.tiled,tile_m=16,
)";
#else
inline constexpr std::string_view kBuiltinTuning = "nf4-tuning 1\n";
#endif

}  // namespace nf4
