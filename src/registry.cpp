#include "registry.hpp"

#include <fmt/ranges.h>

#include <array>
#include <vector>

#include "host/host.hpp"
#include "text/formatted.hpp"
#if NF4_HAVE_CUDA
#include "families.hpp"
#endif

namespace nf4 {
namespace {

using Family = std::span<const Variant> (*)();

// In default order within each operation.
constexpr Family kFamilies[] = {
    host_variants,
#if NF4_HAVE_CUDA
    pack_binned_variants,
    pack_cub_variants,
    unpack_stream_variants,
    unpack_lut_variants,
    gemm_pair_tma_variants,
    gemm_pair_variants,
    gemm_pair_direct_variants,
    gemm_pair_stream_variants,
    gemm_pair_multistage_variants,
    gemm_pair_wgmma_variants,
    gemm_scaled_wgmma_variants,
    gemm_scaled_mma_variants,
    gemm_fma_variants,
    gemv_lut_variants,
    gemm_tiled_variants,
    gemm_unpack_cublas_variants,
    absmax_variants,
    gemm_experts_slots_variants,
    gemm_experts_pair_variants,
    gemm_experts_scaled_variants,
    sort_experts_variants,
    gemm_transposed_unpack_cublas_variants,
    gemm_transposed_scaled_wgmma_variants,
    gemm_transposed_tiled_variants,
#endif
};

struct Registry {
  std::array<std::array<std::vector<const Variant*>, kOps>, 2> by_op;  // [host][op]
  std::vector<const Variant*> all;

  Registry() {
    for (const Family family : kFamilies) {
      for (const Variant& variant : family()) {
        by_op[variant.host ? 1 : 0][static_cast<size_t>(variant.op)].push_back(&variant);
        all.push_back(&variant);
      }
    }
  }
};

const Registry& registry() {
  static const Registry instance;
  return instance;
}

}  // namespace

std::span<const Variant* const> variants(Op op, bool host) {
  return registry().by_op[host ? 1 : 0][static_cast<size_t>(op)];
}

const Variant* find_variant(std::string_view name) {
  for (const Variant* variant : registry().all) {
    if (variant->name == name) return variant;
  }
  return nullptr;
}

std::string variant_names() {
  std::vector<const char*> names;
  for (const Variant* variant : registry().all) names.push_back(variant->name);
  return formatted("{}", fmt::join(names, ", "));
}

int find_config(const Variant& variant, std::string_view text) {
  for (int config = 0; config < variant.configs; ++config) {
    if (variant.config_text(config) == text) return config;
  }
  return -1;
}

}  // namespace nf4
