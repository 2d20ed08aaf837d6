// What all peers have in common.
#pragma once

#include "contenders/contender.hpp"

namespace nf4bench {

// Peers round weights, and some round products, to 16 bits, and none states a bound. Theirs, four times that of
// codebook values rounded as they are, which costs twice what class "codebook16" allows, only catches wrong results.
inline constexpr double kPeerSlack = 4;

class Peer : public Contender {
 public:
  bool is_peer() const override { return true; }
  double accuracy_g(const Problem& problem) const override {
    const double rounded =
        nf4ref::accuracy_g("codebook16", problem.dtype, problem.length()) + nf4ref::unit_roundoff(problem.dtype) / 2;
    return kPeerSlack * rounded;
  }
};

// A product with weights that were never quantized.
class DensePeer : public Peer {
 public:
  double bytes(const Problem& problem) const override {
    const int64_t elements = problem.elements() + problem.m * (problem.n + problem.k);
    return static_cast<double>(elements * nf4ref::size_of(problem.dtype));
  }
  void prepare(Workload& workload) override { workload.dense(0); }
  void run(Workload& workload, int set, nf4_stream_t stream) override {
    const Problem& p = workload.problem();
    for (const Product& product : workload.products(set)) {
      const auto* const w =
          static_cast<const uint8_t*>(workload.dense(set)) + product.first * p.k * nf4ref::size_of(p.dtype);
      multiply(product.y, workload.x(), w, p, product.weight.rows, stream);
    }
  }

 private:
  // y [m, rows] = x [m, K] W^T, or what else of a dense W the problem's operation is.
  virtual void multiply(void* y, const void* x, const void* w, const Problem& problem, int64_t rows,
                        nf4_stream_t stream) = 0;
};

}  // namespace nf4bench
