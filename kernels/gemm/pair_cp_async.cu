// gemm.pair: pair.cuh with the means of compute capability 8.0, codes and x by cp.async.
#include "device/ptx.cuh"
#include "device/warp.hpp"
#include "families.hpp"
#include "gemm/pair_launch.cuh"

namespace nf4 {

struct AsyncCopy : PairCpAsyncConfigs {
  static constexpr int kArchitecture = 80;
  static constexpr const char* kNeedsArchitecture =
      "it needs code for compute capability 8.0 or newer, on such a device";
  static constexpr bool kAsync = true;
  static constexpr bool kDependentLaunch = false;
  template <int>
  struct Source {};

  template <class Shape, int Products>
  static int make_source(std::span<const GemmArgs>, Source<Products>&) {
    return cudaSuccess;
  }

  static __device__ void barriers_are_ready() {}
  static __device__ void wait_for_kernels_before() {}
  static __device__ void start_kernel_after() {}

  // 8 lanes a row of a box. Past the end of a row zeros are written; past the last row, it again.
  template <class Shape, int Products>
  static __device__ void issue(const Source<Products>&, int, const Weight& weight, int column, int row, uint8_t* stage,
                               uint32_t) {
    constexpr int kPieces = kPairBoxBytes / 16;
    const int lane = threadIdx.x % kWarpSize;
    const int64_t row_bytes = weight.cols / 2;
#pragma unroll
    for (int i = 0; i < kPairStageBytes / 16; i += kWarpSize) {
      const int in_stage = (i + lane) / kPieces;  // row, of one box after the other
      const int piece = lane % kPieces;
      const int from = column + in_stage / Shape::kRows * kPairBoxBytes + piece * 16;
      const int64_t in_row = min(int64_t{row} + in_stage % Shape::kRows, weight.rows - 1);
      const bool inside = from < row_bytes;
      copy_async(shared_address(stage) + in_stage * kPairBoxBytes + (piece ^ in_stage % 8) * 16,
                 weight.codes + (inside ? in_row * row_bytes + from : 0), inside);
    }
  }

  // By all consumers, who wait for it too.
  template <class T>
  static __device__ void issue_x(uint8_t* to, int pitch, const T* x, int64_t ldx, int m, int bytes, uint32_t) {
    const int threads = static_cast<int>(blockDim.x) - kPairProducers * kWarpSize;
    for (int row = 0; row < m; ++row) {
      for (int i = static_cast<int>(threadIdx.x) * 16; i < bytes; i += threads * 16)
        copy_async(shared_address(to) + row * pitch + i, reinterpret_cast<const uint8_t*>(x + row * ldx) + i, true);
    }
    commit_copies();
    wait_copies<0>();
  }

  static __device__ void cluster_sync() {}
  static __device__ void cluster_meet() {}
  static __device__ float load_at_rank(const float* p, int) { return *p; }
};

namespace {

constexpr Variant kVariants[] = {
    pair_variant<AsyncCopy>("gemm.pair",
                            "tensor cores, a byte's two weights looked up at once in a conflict-free table"),
};

}  // namespace

std::span<const Variant> gemm_pair_variants() { return kVariants; }

}  // namespace nf4
