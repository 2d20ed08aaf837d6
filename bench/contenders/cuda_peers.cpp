#include <limits>

#include "contenders/bitsandbytes.hpp"
#include "contenders/contender.hpp"
#include "contenders/cublas.hpp"
#include "contenders/peer.hpp"
#include "status.hpp"

namespace nf4bench {
namespace {

bool fits_int(int64_t value) { return value <= std::numeric_limits<int>::max(); }

bool is_dense_product(nf4_op_t op) { return op == NF4_OP_GEMM || op == NF4_OP_GEMM_TRANSPOSED; }

// The problem's product, or a part of it, with dense weights [rows, K].
void multiply_dense(const Cublas& cublas, void* y, const void* x, const void* w, const Problem& problem, int64_t rows,
                    nf4_stream_t stream) {
  const auto multiply = problem.op == NF4_OP_GEMM_TRANSPOSED ? &Cublas::gemm_transposed : &Cublas::gemm;
  (cublas.*multiply)(y, x, w, problem.dtype, problem.m, rows, problem.k, stream);
}

class DenseCublas final : public DensePeer {
 public:
  explicit DenseCublas(std::shared_ptr<Cublas> cublas) : cublas_(std::move(cublas)) {}

  std::string name() const override { return "cuBLAS dense"; }
  bool supports(const Problem& problem) const override { return is_dense_product(problem.op); }

 private:
  void multiply(void* y, const void* x, const void* w, const Problem& problem, int64_t rows,
                nf4_stream_t stream) override {
    multiply_dense(*cublas_, y, x, w, problem, rows, stream);
  }

  std::shared_ptr<Cublas> cublas_;
};

// Unpacks all of W into scratch memory, then multiplies with cuBLAS: what is done today for large M.
class UnpackAndCublas : public Peer {
 public:
  explicit UnpackAndCublas(std::shared_ptr<Cublas> cublas) : cublas_(std::move(cublas)) {}

  bool supports(const Problem& problem) const override { return is_dense_product(problem.op); }
  void prepare(Workload& workload) override {
    const Problem& p = workload.problem();
    dense_ = Buffer(workload.device(), static_cast<size_t>(p.elements() * nf4ref::size_of(p.dtype)));
  }
  void run(Workload& workload, int set, nf4_stream_t stream) override {
    const Problem& p = workload.problem();
    for (const Product& product : workload.products(set)) {
      unpack(dense_.get(), p.dtype, product.weight, stream);
      multiply_dense(*cublas_, product.y, workload.x(), dense_.get(), p, product.weight.rows, stream);
    }
  }
  void finish() override { dense_ = Buffer(); }

 private:
  virtual void unpack(void* w, nf4_dtype_t dtype, const nf4_weight_t& weight, nf4_stream_t stream) = 0;

  std::shared_ptr<Cublas> cublas_;
  Buffer dense_;
};

class Nf4UnpackAndCublas final : public UnpackAndCublas {
 public:
  Nf4UnpackAndCublas(nf4_handle_t handle, std::shared_ptr<Cublas> cublas)
      : UnpackAndCublas(std::move(cublas)), handle_(handle) {}

  std::string name() const override { return "nf4 unpack + cuBLAS"; }
  bool is_peer() const override { return false; }

 private:
  void unpack(void* w, nf4_dtype_t dtype, const nf4_weight_t& weight, nf4_stream_t stream) override {
    check(nf4_unpack(handle_, w, weight.cols, dtype, &weight, nullptr, stream));
  }

  nf4_handle_t handle_;
};

class BitsandbytesUnpackAndCublas final : public UnpackAndCublas {
 public:
  BitsandbytesUnpackAndCublas(std::shared_ptr<Bitsandbytes> library, std::shared_ptr<Cublas> cublas)
      : UnpackAndCublas(std::move(cublas)), library_(std::move(library)) {}

  std::string name() const override { return "bitsandbytes unpack + cuBLAS"; }
  bool supports(const Problem& problem) const override {
    return is_dense_product(problem.op) && !problem.nested && fits_int(problem.elements()) &&
           library_->unpack(problem.dtype) != nullptr;
  }

 private:
  void unpack(void* w, nf4_dtype_t dtype, const nf4_weight_t& weight, nf4_stream_t stream) override {
    library_->unpack(dtype)(nullptr, weight.codes, weight.absmax, w, weight.blocksize,
                            static_cast<int>(weight.rows * weight.cols), stream);
  }

  std::shared_ptr<Bitsandbytes> library_;
};

class BitsandbytesPeer : public Peer {
 public:
  explicit BitsandbytesPeer(std::shared_ptr<Bitsandbytes> library) : library_(std::move(library)) {}

  std::string name() const override { return "bitsandbytes"; }

 protected:
  const Bitsandbytes& library() const { return *library_; }

 private:
  std::shared_ptr<Bitsandbytes> library_;
};

class FusedGemm final : public BitsandbytesPeer {
 public:
  using BitsandbytesPeer::BitsandbytesPeer;

  // Its Python side sends larger M, and rows that straddle blocks, through unpack and cuBLAS.
  bool supports(const Problem& problem) const override {
    constexpr int64_t kLargestM = 1536;
    return problem.op == NF4_OP_GEMM && problem.m <= kLargestM && problem.k % problem.blocksize == 0 &&
           fits_int(problem.n) && fits_int(problem.k) && library().fused_gemm(problem.dtype) != nullptr;
  }
  void run(Workload& workload, int set, nf4_stream_t stream) override {
    const Problem& p = workload.problem();
    for (const Product& product : workload.products(set)) {
      const nf4_weight_t& w = product.weight;
      const void* const absmax = p.nested ? w.absmax2 : w.absmax;
      const void* const absmax_8bit = p.nested ? w.absmax : nullptr;
      library().fused_gemm(p.dtype)(workload.x(), w.codes, absmax, absmax_8bit, w.absmax_map, w.absmax_offset,
                                    product.y, nullptr, static_cast<int>(p.m), static_cast<int>(w.rows),
                                    static_cast<int>(p.k), p.blocksize, Bitsandbytes::kNf4, stream);
    }
  }
};

// The kernel of its releases before 0.50, still there.
class OlderGemv final : public BitsandbytesPeer {
 public:
  using BitsandbytesPeer::BitsandbytesPeer;

  std::string name() const override { return "bitsandbytes older gemv"; }
  bool supports(const Problem& problem) const override {
    return problem.op == NF4_OP_GEMM && problem.m == 1 && !problem.nested && problem.k % problem.blocksize == 0 &&
           fits_int(problem.n) && fits_int(problem.k) && library().gemv(problem.dtype) != nullptr;
  }
  void prepare(Workload& workload) override {
    float values[16];
    check(nf4_codebook(values));
    codebook_ = Buffer(workload.device(), sizeof values);
    workload.device().copy_in(codebook_.get(), values, sizeof values);
  }
  void run(Workload& workload, int set, nf4_stream_t stream) override {
    const Problem& p = workload.problem();
    const auto k = static_cast<int>(p.k);
    for (const Product& product : workload.products(set)) {
      const nf4_weight_t& w = product.weight;
      const auto rows = static_cast<int>(w.rows);
      library().gemv(p.dtype)(rows, 1, k, workload.x(), w.codes, w.absmax, codebook_.get(), product.y, rows,
                              (k + 1) / 2, rows, p.blocksize, stream);
    }
  }
  void finish() override { codebook_ = Buffer(); }

 private:
  Buffer codebook_;
};

class Unpack final : public BitsandbytesPeer {
 public:
  using BitsandbytesPeer::BitsandbytesPeer;

  bool supports(const Problem& problem) const override {
    return problem.op == NF4_OP_UNPACK && !problem.nested && fits_int(problem.elements()) &&
           library().unpack(problem.dtype) != nullptr;
  }
  void run(Workload& workload, int set, nf4_stream_t stream) override {
    const Problem& p = workload.problem();
    const nf4_weight_t w = workload.weight(set);
    library().unpack(p.dtype)(nullptr, w.codes, w.absmax, workload.dense(set), p.blocksize,
                              static_cast<int>(p.elements()), stream);
  }
};

class Pack final : public BitsandbytesPeer {
 public:
  using BitsandbytesPeer::BitsandbytesPeer;

  bool supports(const Problem& problem) const override {
    return problem.op == NF4_OP_PACK && fits_int(problem.elements()) && library().pack(problem.dtype) != nullptr;
  }
  bool capturable() const override { return false; }  // it takes no stream
  void run(Workload& workload, int set, nf4_stream_t) override {
    const Problem& p = workload.problem();
    library().pack(p.dtype)(nullptr, workload.dense(set), workload.scales(set), workload.codes(set), p.blocksize,
                            static_cast<int>(p.elements()));
  }
};

// NULL, with the reason in `note`, if no path was given and the loader finds none.
std::shared_ptr<Cublas> load_cublas(Device& device, const std::string& path, std::string& note) {
  if (!path.empty()) return std::make_shared<Cublas>(device, path);
  for (const char* name : {"libcublas.so.13", "libcublas.so.12", "/usr/local/cuda/lib64/libcublas.so"}) {
    try {
      auto library = std::make_shared<Cublas>(device, name);
      note.clear();
      return library;
    } catch (const std::exception& error) {
      note = error.what();
    }
  }
  return nullptr;
}

}  // namespace

Contenders cuda_peers(Device& device, nf4_handle_t handle, const PeerPaths& paths, std::string& note) {
  Contenders out;
  const std::shared_ptr<Cublas> cublas = load_cublas(device, paths.cublas, note);
  if (cublas != nullptr) {
    out.push_back(std::make_unique<DenseCublas>(cublas));
    out.push_back(std::make_unique<Nf4UnpackAndCublas>(handle, cublas));
  }
  if (!paths.bitsandbytes.empty()) {
    const auto library = std::make_shared<Bitsandbytes>(paths.bitsandbytes);
    out.push_back(std::make_unique<FusedGemm>(library));
    out.push_back(std::make_unique<OlderGemv>(library));
    out.push_back(std::make_unique<Unpack>(library));
    out.push_back(std::make_unique<Pack>(library));
    if (cublas != nullptr) out.push_back(std::make_unique<BitsandbytesUnpackAndCublas>(library, cublas));
  }
  return out;
}

}  // namespace nf4bench
