// The families of CUDA variants, one .cu or .cpp each. A new family is its files (README.md), a line here, and one in
// src/registry.cpp and src/CMakeLists.txt each.
#pragma once

#include <span>

#include "variant.hpp"

namespace nf4 {

std::span<const Variant> pack_binned_variants();
std::span<const Variant> pack_cub_variants();
std::span<const Variant> unpack_stream_variants();
std::span<const Variant> unpack_lut_variants();
std::span<const Variant> gemm_pair_tma_variants();
std::span<const Variant> gemm_pair_variants();
std::span<const Variant> gemm_pair_direct_variants();
std::span<const Variant> gemm_pair_stream_variants();
std::span<const Variant> gemm_pair_multistage_variants();
std::span<const Variant> gemm_pair_wgmma_variants();
std::span<const Variant> gemm_scaled_wgmma_variants();
std::span<const Variant> gemm_scaled_mma_variants();
std::span<const Variant> gemm_fma_variants();
std::span<const Variant> gemv_lut_variants();
std::span<const Variant> gemm_tiled_variants();
std::span<const Variant> gemm_unpack_cublas_variants();
std::span<const Variant> absmax_variants();
std::span<const Variant> gemm_experts_slots_variants();
std::span<const Variant> gemm_experts_pair_variants();
std::span<const Variant> gemm_experts_scaled_variants();
std::span<const Variant> sort_experts_variants();
std::span<const Variant> gemm_transposed_scaled_wgmma_variants();
std::span<const Variant> gemm_transposed_unpack_cublas_variants();
std::span<const Variant> gemm_transposed_tiled_variants();

}  // namespace nf4
