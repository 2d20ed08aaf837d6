// gemm.pair_tma: pair.cuh with the means of compute capability 9.0. Codes come by tensor copies (TMA), 128 bytes of
// each row of a stage at a time; x by bulk copies; clusters split K; and the kernel starts while the one before it in
// the stream still runs (programmatic dependent launch, PDL), so that its preparations, and with constant weights the
// first stages, cost no time.
#include <cuda.h>

#include "device/ptx.cuh"
#include "device/warp.hpp"
#include "families.hpp"
#include "gemm/operand_maps.cuh"
#include "gemm/pair_launch.cuh"

namespace nf4 {

struct TmaCopy : PairTmaConfigs {
  static constexpr int kArchitecture = 90;
  static constexpr const char* kNeedsArchitecture =
      "it needs code for compute capability 9.0 or newer, on such a device";
  static constexpr bool kAsync = false;  // whether codes and x come by cp.async
  static constexpr bool kDependentLaunch = true;
  template <int Products>
  struct Source {
    CUtensorMap codes[Products];
  };

  template <class Shape, int Products>
  static int make_source(std::span<const GemmArgs> group, Source<Products>& source) {
    return encode_codes_maps(source.codes, group, Shape::kRows, kPairBoxBytes);
  }

  static __device__ void barriers_are_ready() { barrier_init_fence(); }
  static __device__ void wait_for_kernels_before() { wait_for_dependencies(); }
  static __device__ void start_kernel_after() { launch_dependents(); }

  // Past the ends of the matrix the copy engine writes zeros.
  template <class Shape, int Products>
  static __device__ void issue(const Source<Products>& source, int product, const Weight&, int column, int row,
                               uint8_t* stage, uint32_t barrier) {
    if (threadIdx.x % kWarpSize != 0) return;
    barrier_expect(barrier, kPairStageBytes);
#pragma unroll
    for (int box = 0; box < Shape::kBoxes; ++box)
      copy_tensor(shared_address(stage) + box * Shape::kRows * kPairBoxBytes, &source.codes[product],
                  column + box * kPairBoxBytes, row, barrier);
  }

  template <class T>
  static __device__ void issue_x(uint8_t* to, int pitch, const T* x, int64_t ldx, int m, int bytes, uint32_t barrier) {
    if (threadIdx.x % kWarpSize != 0) return;
    if (bytes > 0) {
      barrier_expect(barrier, m * bytes);
      for (int row = 0; row < m; ++row) copy_bulk(shared_address(to) + row * pitch, x + row * ldx, bytes, barrier);
    }
    barrier_arrive(barrier);
  }

  static __device__ void cluster_sync() { cluster_barrier(); }
  static __device__ void cluster_meet() { cluster_rendezvous(); }
  static __device__ float load_at_rank(const float* p, int rank) { return nf4::load_at_rank(shared_address(p), rank); }
};

namespace {

constexpr Variant kVariants[] = {
    pair_variant<TmaCopy>("gemm.pair_tma", "gemm.pair with tensor copies, clusters and dependent launch"),
};

}  // namespace

std::span<const Variant> gemm_pair_tma_variants() { return kVariants; }

}  // namespace nf4
