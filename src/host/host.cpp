#include "host.hpp"

namespace nf4 {
namespace {

template <class Args, int (*Launch)(const Args&, const Device&, int, Stream)>
constexpr Variant variant(const char* name, const char* description) {
  return {name, description, "exact", Args::kOp, true, 1, no_config, always_supported, nullptr, erased<Args, Launch>};
}

constexpr Variant kVariants[] = {
    variant<PackArgs, host_pack>("pack.host", "the host backend"),
    variant<UnpackArgs, host_unpack>("unpack.host", "the host backend"),
    variant<GemmArgs, host_gemm>("gemm.host", "the host backend, accumulating in fp64"),
    variant<GemmTransposedArgs, host_gemm_transposed>("gemm_transposed.host", "the host backend, accumulating in fp64"),
    variant<PackAbsmaxArgs, host_pack_absmax>("pack_absmax.host", "the host backend"),
    variant<UnpackAbsmaxArgs, host_unpack_absmax>("unpack_absmax.host", "the host backend"),
    variant<GemmExpertsArgs, host_gemm_experts>("gemm_experts.host", "the host backend, accumulating in fp64"),
    variant<SortExpertsArgs, host_sort_experts>("sort_experts.host", "the host backend"),
};

}  // namespace

std::span<const Variant> host_variants() { return kVariants; }

}  // namespace nf4
