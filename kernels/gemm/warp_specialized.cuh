// The course of a warp-specialized kernel: producer warps fill a ring of stages, consumer warps multiply them, and in
// the end all of the CTA write y. Who waits for whom is here; what each does is the kernel's.
#pragma once

#include "device/ptx.cuh"
#include "device/wgmma.cuh"
#include "gemm/named_barriers.hpp"

namespace nf4 {

// Registers of a thread once the warpgroups have taken their roles (setmaxnreg); 0 where they keep those of the launch.
template <int Producer, int Consumer>
struct RegisterSplit {
  static constexpr int kProducer = Producer;
  static constexpr int kConsumer = Consumer;
};

// Runs one role for this warp, `produces` or not, in a CTA of `threads` threads. Up to wait_for_dependencies(), which
// is called by produce() where it needs it, nothing may depend on what the kernels before wrote.
//   init()      initializes the mbarriers, by all warps
//   produce()   fills the ring
//   prepare()   fills the pair table, by the consumers; done before any of them consumes
//   consume()   multiplies what is in the ring. Then, once it has passed consumed(threads), leaves its sums where the
//               ring was
//   finish()    adds up the sums of all CTAs of the cluster, and writes y, by all warps
template <class Registers, class Init, class Produce, class Prepare, class Consume, class Finish>
__device__ __forceinline__ void warp_specialized(bool produces, int threads, int cluster, const Init& init,
                                                 const Produce& produce, const Prepare& prepare, const Consume& consume,
                                                 const Finish& finish) {
  init();
  barrier_init_fence();
  __syncthreads();

  if (produces) {
    if constexpr (Registers::kProducer > 0) give_up_registers<Registers::kProducer>();
    barrier_pass(kTableBarrier, threads);
    produce();
    barrier_pass(kReadBarrier, threads);
  } else {
    if constexpr (Registers::kConsumer > 0) take_registers<Registers::kConsumer>();
    prepare();
    barrier_sync(kTableBarrier, threads);
    consume();
    wait_for_dependencies();  // before y is written, here too
  }

  __syncthreads();
  if (cluster > 1) cluster_barrier();
  finish();
  if (cluster > 1) cluster_rendezvous();  // nobody leaves while others read its sums
}

// Waits until all stages have come and nobody reads them any more: what consume() calls before it stores its sums.
__device__ __forceinline__ void consumed(int threads) { barrier_sync(kReadBarrier, threads); }

}  // namespace nf4
