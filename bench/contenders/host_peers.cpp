#include <cstdlib>
#include <limits>

#include "contenders/dynamic_library.hpp"
#include "contenders/peer.hpp"

namespace nf4bench {
namespace {

// Of cblas.h, which need not be installed.
enum { kRowMajor = 101, kNoTrans = 111, kTrans = 112 };
using Sgemv = void(int order, int trans, int m, int n, float alpha, const float* a, int lda, const float* x, int incx,
                   float beta, float* y, int incy);
using Sgemm = void(int order, int trans_a, int trans_b, int m, int n, int k, float alpha, const float* a, int lda,
                   const float* b, int ldb, float beta, float* c, int ldc);

class DenseOpenblas final : public DensePeer {
 public:
  explicit DenseOpenblas(const std::string& path)
      : library_(path), sgemv_(library_.get<Sgemv>("cblas_sgemv")), sgemm_(library_.get<Sgemm>("cblas_sgemm")) {}

  std::string name() const override { return "OpenBLAS dense"; }
  bool supports(const Problem& problem) const override {
    constexpr int64_t kMost = std::numeric_limits<int>::max();
    return problem.op == NF4_OP_GEMM && problem.dtype == NF4_F32 && problem.m > 0 && problem.n > 0 && problem.k > 0 &&
           problem.m <= kMost && problem.n <= kMost && problem.k <= kMost;
  }

 private:
  void multiply(void* y, const void* x, const void* w, const Problem& problem, int64_t rows, nf4_stream_t) override {
    const auto m = static_cast<int>(problem.m);
    const auto n = static_cast<int>(rows);
    const auto k = static_cast<int>(problem.k);
    const auto* const a = static_cast<const float*>(x);
    const auto* const b = static_cast<const float*>(w);
    auto* const c = static_cast<float*>(y);
    if (m == 1) {  // as numpy does: several times as fast
      sgemv_(kRowMajor, kNoTrans, n, k, 1, b, k, a, 1, 0, c, 1);
    } else {
      sgemm_(kRowMajor, kNoTrans, kTrans, m, n, k, 1, a, k, b, k, 0, c, n);
    }
  }

  DynamicLibrary library_;
  Sgemv* sgemv_;
  Sgemm* sgemm_;
};

}  // namespace

Contenders host_peers(std::string& note) {
  // Else its idle threads keep the cores busy for a while after each call, when others are timed.
  setenv("OPENBLAS_THREAD_TIMEOUT", "4", 0);
  Contenders out;
  try {
    out.push_back(std::make_unique<DenseOpenblas>("libopenblas.so.0"));
  } catch (const std::runtime_error& error) {
    note = error.what();
  }
  return out;
}

}  // namespace nf4bench
