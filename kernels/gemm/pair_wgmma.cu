// gemm.pair_wgmma: launching the kernel of pair_wgmma.cuh.
#include "gemm/pair_wgmma.cuh"

#include <algorithm>
#include <iterator>

#include "device/launch.cuh"
#include "device/math.hpp"
#include "device/tensor_map.cuh"
#include "dispatch.hpp"
#include "families.hpp"
#include "gemm/limits.hpp"
#include "gemm/pair_wgmma_cost.hpp"

namespace nf4 {
namespace {

template <class T, class Shape, int BlockCols>
int launch_pass(const GemmArgs& args, int64_t m0, int m, const Device& device, WgmmaLaunch& launch, Stream stream) {
  constexpr auto kKernel = gemm_pair_wgmma<T, Shape, BlockCols>;
  if (const int error = allow_shared_memory<kKernel>(device.ordinal, device.shared_memory); error != cudaSuccess)
    return error;
  WgmmaPlan& plan = launch.plan;
  plan.constant_weights = args.weight.constant;
  plan.codebook = pair_codebook<T>();

  const Weight& weight = args.weight;
  const int boxes = static_cast<int>(ceil_div(plan.rows(), kMostBoxRows));
  CUtensorMap codes_map{};
  if (const int error = encode_tensor_map(&codes_map, CU_TENSOR_MAP_DATA_TYPE_UINT8, weight.codes, weight.rows,
                                          weight.cols / 2, weight.cols / 2, plan.rows() / boxes, kWgmmaRowBytes);
      error != cudaSuccess) {
    return error;
  }

  const Blocks blocks{launch.clusters * plan.cluster, launch.threads, launch.shared_bytes, plan.cluster, true};
  return nf4::launch(kKernel, blocks, stream, static_cast<T*>(args.y) + m0 * args.ldy, args.ldy,
                     static_cast<const T*>(args.x) + m0 * args.ldx, args.ldx, m, weight,
                     static_cast<const T*>(args.bias), plan, codes_map);
}

// Calls f with the shape for `m` rows of x, 64 or more in passes of 64.
template <class F>
auto with_shape(int64_t m, F&& f) {
  if (m > 32) return f(WgmmaShape<64>{});
  if (m > 16) return f(WgmmaShape<32>{});
  return m > 8 ? f(WgmmaShape<16>{}) : f(WgmmaShape<8>{});
}

int launch_gemm_pair_wgmma(const GemmArgs& args, const Device& device, int config_index, Stream stream) {
  const WgmmaConfig& config = kWgmmaConfigs[config_index];
  const Weight& weight = args.weight;
  return in_passes(args.m, [&](int64_t m0, int64_t& rows) {
    return with_shape(rows, [&](auto shape) -> int {
      using PassShape = decltype(shape);
      rows = std::min<int64_t>(rows, PassShape::kCols);
      WgmmaLaunch launch;
      if (!lay_out_wgmma<PassShape>(weight.rows, weight.cols, device, config, launch))
        return cudaErrorInvalidConfiguration;
      const auto run = [&](auto type, auto block_cols) {
        return launch_pass<decltype(type), PassShape, decltype(block_cols)::value>(args, m0, static_cast<int>(rows),
                                                                                   device, launch, stream);
      };
      return with_16bit(args.dtype, [&](auto type) {
        return weight.log2_blocksize == 5 ? run(type, Constant<32>{}) : run(type, Constant<64>{});
      });
    });
  });
}

const char* unsupported(const Problem& problem, const Device& device) {
  if (device.architecture != kWgmmaArchitecture) return "it needs code for compute capability 9.0a, on such a device";
  if (const char* reason = tensor_core_unsupported(problem); reason != nullptr) return reason;
  WgmmaLaunch launch;
  if (!lay_out_wgmma<WgmmaShape<64>>(problem.n, problem.k, device, {1, 1, 1}, launch))
    return "shared memory must hold the pair table and two stages";
  return nullptr;
}

constexpr Variant kVariants[] = {
    {"gemm.pair_wgmma", "pair table and warpgroup tensor cores, codes and x streamed along K", "codebook16", Op::gemm,
     false, static_cast<int>(std::size(kWgmmaConfigs)), config_text<kWgmmaConfigs>, unsupported, nullptr,
     erased<GemmArgs, launch_gemm_pair_wgmma>, nullptr, plan_wgmma},
};

}  // namespace

std::span<const Variant> gemm_pair_wgmma_variants() { return kVariants; }

}  // namespace nf4
