// gemm_experts.pair_tma and gemm_experts.pair: how each copies codes and x, and launching the kernel of
// experts_pair.cuh.
#include <cuda.h>

#include <algorithm>
#include <iterator>

#include "device/launch.cuh"
#include "device/tensor_map.cuh"
#include "dispatch.hpp"
#include "families.hpp"
#include "gemm/experts_pair.cuh"
#include "gemm/limits.hpp"

namespace nf4 {

// The means of compute capability 9.0: codes by tensor copies (TMA) of 32 rows, x by bulk copies. The kernel starts
// while the one before it in the stream still runs (PDL).
struct ExpertsTmaCopy {
  static constexpr int kArchitecture = 90;
  static constexpr bool kAsync = false;  // whether codes and x come by cp.async
  static constexpr bool kDependentLaunch = true;
  using Table = PairTable::Lane;
  struct Source {
    CUtensorMap codes;
  };

  static const char* unsupported(const Device& device) {
    // PairTable::Lane knows where shared memory begins there, and there alone.
    return device.architecture != kArchitecture ? "it needs code for compute capability 9.0, on such a device"
                                                : nullptr;
  }
  static int make_source(const Weight& weight, Source& source) {
    return encode_tensor_map(&source.codes, CU_TENSOR_MAP_DATA_TYPE_UINT8, weight.codes, weight.rows, weight.cols / 2,
                             weight.cols / 2, kExpertsPairRows, kPairBoxBytes);
  }

  static __device__ void barriers_are_ready() { barrier_init_fence(); }
  static __device__ void wait_for_kernels_before() { wait_for_dependencies(); }
  static __device__ void start_kernel_after() { launch_dependents(); }
  static __device__ void shared_memory_is_free() { proxy_fence(); }

  // Before the copies of a stage: all bytes of them.
  static __device__ void expect(uint32_t barrier, int bytes) {
    if (threadIdx.x % kWarpSize == 0) barrier_expect(barrier, bytes);
    __syncwarp();
  }
  // Past the ends of the matrix the copy engine writes zeros.
  static __device__ void bring_codes(const Source& source, const Weight&, int column, int64_t row, int groups,
                                     uint32_t to, uint32_t barrier) {
    const int group = static_cast<int>(threadIdx.x % kWarpSize);
    if (group < groups)
      copy_tensor(to + group * kExpertsPairGroupBytes, &source.codes, column,
                  static_cast<int>(row) + group * kExpertsPairRows, barrier);
  }
  // Each lane has the address of a slot's row.
  static __device__ void bring_x(const uint8_t* x, int slots, int bytes, uint32_t to, uint32_t barrier) {
    const int slot = static_cast<int>(threadIdx.x % kWarpSize);
    if (slot < slots) copy_bulk(to + slot * kExpertsPairXPitch, x, bytes, barrier);
  }
};

// PairTable::look_up() of a lane, wherever shared memory begins.
struct ExpertsAnyTable {
  const uint8_t* table;
  uint32_t lane4;

  __device__ explicit ExpertsAnyTable(const uint8_t* the_table)
      : table(the_table), lane4(threadIdx.x % kWarpSize * 4) {}
  template <int Byte>
  __device__ __forceinline__ uint32_t look_up(uint32_t codes) const {
    return PairTable::look_up<Byte>(table, codes, lane4);
  }
};

// The means of compute capability 8.0: codes and x by cp.async.
struct ExpertsAsyncCopy {
  static constexpr int kArchitecture = 80;
  static constexpr bool kAsync = true;
  static constexpr bool kDependentLaunch = false;
  using Table = ExpertsAnyTable;
  struct Source {};

  static const char* unsupported(const Device& device) {
    return device.architecture < kArchitecture ? "it needs code for compute capability 8.0 or newer, on such a device"
                                               : nullptr;
  }
  static int make_source(const Weight&, Source&) { return cudaSuccess; }

  static __device__ void barriers_are_ready() {}
  static __device__ void wait_for_kernels_before() {}
  static __device__ void start_kernel_after() {}
  static __device__ void shared_memory_is_free() {}
  static __device__ void expect(uint32_t, int) {}

  // 8 lanes a row. What is past the end of a row is not copied, nor what is past the last row.
  static __device__ void bring_codes(const Source&, const Weight& weight, int column, int64_t row, int groups,
                                     uint32_t to, uint32_t) {
    constexpr int kPieces = kPairBoxBytes / 16, kRows = kWarpSize / kPieces;
    const int lane = static_cast<int>(threadIdx.x % kWarpSize);
    const int first = lane / kPieces, piece = lane % kPieces;
    const int64_t row_bytes = weight.cols / 2;
    if (column + piece * 16 >= row_bytes) return;
    const uint8_t* from = weight.codes + (row + first) * row_bytes + column + piece * 16;
    const int rows = static_cast<int>(min(int64_t{groups} * kExpertsPairRows, weight.rows - row));
    for (int r = first; r < rows; r += kRows) {
      copy_async(to + r * kPairBoxBytes + (piece ^ r % 8) * 16, from, true);
      from += kRows * row_bytes;
    }
  }
  // All lanes a row.
  static __device__ void bring_x(const uint8_t* x, int slots, int bytes, uint32_t to, uint32_t) {
    const int at = static_cast<int>(threadIdx.x % kWarpSize) * 16;
    for (int slot = 0; slot < slots; ++slot) {
      const auto row = __shfl_sync(~0u, reinterpret_cast<unsigned long long>(x), slot);
      if (at < bytes) copy_async(to + slot * kExpertsPairXPitch + at, reinterpret_cast<const uint8_t*>(row) + at, true);
    }
  }
};

namespace {

template <class T, class Sizes, class Copy, class Scales>
int launch_kernel(const GemmExpertsArgs& args, const Device& device, ExpertsPairPlan& plan, Stream stream) {
  constexpr auto kKernel = gemm_experts_pair<T, Sizes, Copy, Scales>;
  if (const int error = allow_shared_memory<kKernel>(device.ordinal, device.shared_memory); error != cudaSuccess)
    return error;
  GemmArgs as_one{};  // for its weight alone
  as_one.weight = args.weight;
  plan.quads = quad_scales({&as_one, 1});
  plan.codebook = pair_codebook<T>();
  typename Copy::Source source{};
  if (const int error = Copy::make_source(args.weight, source); error != cudaSuccess) return error;
  const Blocks blocks{plan.ctas, plan.threads, plan.shared_bytes, 1, Copy::kDependentLaunch};
  return nf4::launch(kKernel, blocks, stream, args, plan, source);
}

template <class Copy>
int launch_experts_pair(const GemmExpertsArgs& args, const Device& device, int config, Stream stream) {
  ExpertsPairPlan plan{};
  if (!lay_out_experts_pair(problem_of(args), device, kExpertsPairConfigs[config], plan))
    return cudaErrorInvalidConfiguration;
  return with_16bit(args.dtype, [&](auto type) {
    return with_experts_pair_sizes(plan.cols, [&](auto sizes) {
      using T = decltype(type);
      using Sizes = decltype(sizes);
      return args.weight.absmax.dtype == Dtype::f32
                 ? launch_kernel<T, Sizes, Copy, F32Scales>(args, device, plan, stream)
                 : launch_kernel<T, Sizes, Copy, PackedScales>(args, device, plan, stream);
    });
  });
}

template <class Copy>
const char* unsupported(const Problem& problem, const Device& device) {
  if (const char* reason = Copy::unsupported(device); reason != nullptr) return reason;
  if (const char* reason = pair_scales_unsupported(problem); reason != nullptr) return reason;
  if (problem.experts * problem.n > int64_t{1} << 30) return "all experts must have 2^30 rows of W at most";
  if (problem.experts > kExpertsPairMostExperts) return "there may be 4096 experts at most";
  if (problem.m > kExpertsPairMostSlots) return "there may be 2^20 slots at most";
  if (!problem.sorted && problem.m > kExpertsPairMostIds)
    return "more than 8192 slots must be sorted (nf4_sort_experts), so that the routing has ends";
  const bool room =
      std::all_of(std::begin(kExpertsPairConfigs), std::end(kExpertsPairConfigs), [&](const ExpertsPairConfig& config) {
        ExpertsPairPlan plan{};
        return lay_out_experts_pair(problem, device, config, plan);
      });
  return room ? nullptr : "shared memory must hold the pair table, two stages, and a list of a block's slots";
}

template <class Copy>
constexpr Variant variant(const char* name, const char* description) {
  return {name,
          description,
          "codebook16",
          Op::gemm_experts,
          false,
          static_cast<int>(std::size(kExpertsPairConfigs)),
          config_text<kExpertsPairConfigs>,
          unsupported<Copy>,
          nullptr,
          erased<GemmExpertsArgs, launch_experts_pair<Copy>>};
}

constexpr Variant kVariants[] = {
    variant<ExpertsTmaCopy>("gemm_experts.pair_tma", "gemm_experts.pair with tensor copies and dependent launch"),
    variant<ExpertsAsyncCopy>("gemm_experts.pair",
                              "pair table and tensor cores, codes and gathered rows of x streamed along K"),
};

}  // namespace

std::span<const Variant> gemm_experts_pair_variants() { return kVariants; }

}  // namespace nf4
