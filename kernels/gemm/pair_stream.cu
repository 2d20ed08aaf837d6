// gemm.pair_stream: launching the kernel of pair_stream.cuh.
#include "gemm/pair_stream.cuh"

#include <algorithm>
#include <iterator>

#include "device/launch.cuh"
#include "dispatch.hpp"
#include "families.hpp"
#include "gemm/limits.hpp"
#include "gemm/operand_maps.cuh"
#include "gemm/pair_stream_cost.hpp"

namespace nf4 {
namespace {

template <class T, class Shape>
int launch_stream(std::span<const GemmArgs> group, int64_t m0, int m, const Device& device, StreamPlan& plan,
                  Stream stream) {
  constexpr auto kKernel = gemm_pair_stream<T, Shape>;
  if (const int error = allow_shared_memory<kKernel>(device.ordinal, device.shared_memory); error != cudaSuccess)
    return error;
  plan.constant_weights = constant_weights(group);
  plan.quads = quad_scales(group);
  plan.codebook = pair_codebook<T>();

  StreamMaps maps{};
  if (const int error = encode_codes_maps(maps.codes, group, plan.box_rows, kPairBoxBytes); error != cudaSuccess)
    return error;
  if (const int error = encode_x_map(&maps.x, group.front(), m0, m, Shape::kCols, kPairBlock); error != cudaSuccess)
    return error;

  const Blocks blocks{plan.tiles * plan.cluster, plan.threads, plan.shared_bytes, plan.cluster, true};
  return nf4::launch(kKernel, blocks, stream, m, Group<kMostProducts>::of(group, m0, sizeof(T), plan.rows), plan, maps);
}

// Launches one pass, of as many rows of x as `m` says when it returns.
template <class T, class Scales>
int launch_stream_pass(std::span<const GemmArgs> group, int64_t m0, int64_t& m, const Device& device,
                       const StreamConfig& config, Stream stream) {
  const auto launch = [&](auto shape) -> int {
    using Shape = decltype(shape);
    m = std::min<int64_t>(m, Shape::kCols);
    StreamPlan plan{};
    if (!lay_out_stream<Shape>(GroupRows(group), group.front().weight.cols, device, config, plan))
      return cudaErrorInvalidConfiguration;
    return launch_stream<T, Shape>(group, m0, static_cast<int>(m), device, plan, stream);
  };
  if (m > 32) return launch(StreamShape<8, Scales>{});
  if (m > 16) return launch(StreamShape<4, Scales>{});
  if (m > 8) return launch(StreamShape<2, Scales>{});
  return launch(StreamShape<1, Scales>{});
}

int launch_gemm_pair_stream(std::span<const GemmArgs> group, const Device& device, int config_index, Stream stream) {
  const GemmArgs& args = group.front();  // for what all have in common
  const bool f32 = args.weight.absmax.dtype == Dtype::f32;
  const auto launch = [&](auto type) {
    using T = decltype(type);
    return f32 ? launch_stream_pass<T, F32Scales> : launch_stream_pass<T, PackedScales>;
  };
  const auto pass = with_16bit(args.dtype, launch);
  return in_passes(args.m, [&](int64_t m0, int64_t& rows) {
    return pass(group, m0, rows, device, kStreamConfigs[config_index], stream);
  });
}

const char* unsupported(const Problem& problem, const Device& device) {
  // PairTable::Lane knows where shared memory begins there, and there alone.
  if (device.architecture != kStreamArchitecture) return "it needs code for compute capability 9.0, on such a device";
  if (const char* reason = pair_scales_unsupported(problem); reason != nullptr) return reason;
  StreamPlan plan;
  if (!lay_out_stream<StreamShape<8, F32Scales>>({&problem.n, 1}, problem.k, device, {1, 1}, plan))
    return "shared memory must hold the pair table and two stages";
  return nullptr;
}

constexpr Variant kVariants[] = {
    {"gemm.pair_stream", "pair table and tensor cores, codes and x streamed along K by tensor copies", "codebook16",
     Op::gemm, false, static_cast<int>(std::size(kStreamConfigs)), config_text<kStreamConfigs>, unsupported, nullptr,
     launch_one<launch_gemm_pair_stream>, launch_gemm_pair_stream, plan_stream},
};

}  // namespace

std::span<const Variant> gemm_pair_stream_variants() { return kVariants; }

}  // namespace nf4
