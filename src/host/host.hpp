// The host backend: plain, exact, multi-threaded. It is what runs where there is no GPU, and the reference of the
// tests.
#pragma once

#include <span>

#include "variant.hpp"

namespace nf4 {

int host_pack(const PackArgs& args, const Device& device, int config, Stream stream);
int host_unpack(const UnpackArgs& args, const Device& device, int config, Stream stream);
int host_gemm(const GemmArgs& args, const Device& device, int config, Stream stream);
// How many doubles a product needs in args.workspace. Who calls host_gemm has them before it does, and host_gemm takes
// no other memory: so where there is none left for all products of a call, none of them begins.
int64_t host_gemm_scratch(const GemmArgs& args, const Device& device);

int host_gemm_transposed(const GemmTransposedArgs& args, const Device& device, int config, Stream stream);
int64_t host_gemm_transposed_scratch(const GemmTransposedArgs& args, const Device& device);  // as above

int host_gemm_experts(const GemmExpertsArgs& args, const Device& device, int config, Stream stream);
int64_t host_gemm_experts_scratch(const GemmExpertsArgs& args, const Device& device);  // as above
int host_sort_experts(const SortExpertsArgs& args, const Device& device, int config, Stream stream);

int host_pack_absmax(const PackAbsmaxArgs& args, const Device& device, int config, Stream stream);
int host_unpack_absmax(const UnpackAbsmaxArgs& args, const Device& device, int config, Stream stream);

std::span<const Variant> host_variants();

}  // namespace nf4
