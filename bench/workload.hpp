// The memory of one problem: random inputs, outputs, and enough sets of both that no cache holds any when its turn
// comes.
#pragma once

#include <optional>
#include <vector>

#include "device/device.hpp"
#include "oracle.hpp"
#include "problem.hpp"

namespace nf4bench {

// Equal pieces of memory, aligned to 256 bytes; indices wrap around.
class Pool {
 public:
  Pool() = default;
  Pool(Device& device, int64_t piece_bytes, int64_t pieces);

  bool empty() const { return pieces_ == 0; }
  template <typename T = void>
  T* at(int64_t i) const {
    return reinterpret_cast<T*>(buffer_.as<unsigned char>() + i % pieces_ * stride_);
  }
  int64_t pieces() const { return pieces_; }
  int64_t piece_bytes() const { return stride_; }
  int64_t bytes() const { return pieces_ * stride_; }

 private:
  int64_t stride_ = 0;
  int64_t pieces_ = 0;
  Buffer buffer_;
};

// Host copies of what packing gives.
struct Packed {
  std::vector<uint8_t> codes;
  std::vector<float> absmax;
  float offset = 0;  // of nested quantization
};

// One of the products of a problem: all of it, or a part.
struct Product {
  nf4_weight_t weight;
  int64_t first;  // row, of the problem's n
  void* y;        // [m, weight.rows]
};

class Workload {
 public:
  // With `hot` there is one set; without `pending` weights are marked constant.
  Workload(Device& device, nf4_handle_t handle, const Problem& problem, bool hot, bool pending);

  // Given weights in place of random ones, in host memory: dense [N, K] of the problem's dtype, which every set holds
  // as the input of pack, and packed for the other operations; or packed as the problem says.
  void take_dense(const void* source);
  void take_packed(const nf4_weight_t& source);

  Device& device() const { return device_; }
  const Problem& problem() const { return problem_; }
  int sets() const { return sets_; }

  // The packed weight: input of gemm and unpack, its parts the outputs of the pack operations.
  nf4_weight_t weight(int set) const;
  uint8_t* codes(int set) const { return codes_.at<uint8_t>(set); }
  void* scales(int set) const { return scales_.at(set); }
  float* scales2(int set) const { return scales2_.at<float>(set); }
  float* offset() const { return offset_.as<float>(); }
  float* map() const { return map_.as<float>(); }

  // Dense weights [N, K]: input of pack, output of unpack. In a product they equal weight(set), for contenders that
  // need them.
  void* dense(int set);
  // fp32 scales: input of pack_absmax, output of unpack_absmax.
  float* absmax(int set) const { return absmax_.at<float>(set); }
  // Activations [M, K] and results [M, N], of a transposed product [M, N] and [M, K]; those of a product lie behind
  // those of the products before it.
  void* x() const { return x_.get(); }
  void* y() const { return y_.get(); }
  std::vector<Product> products(int set) const;
  nf4_routing_t routing() const;

  // What set 0 must give. Where M is too large to check every output, all outputs of the first, the last and evenly
  // spread rows of y are checked.
  const std::vector<int64_t>& checked_rows();
  const std::vector<nf4ref::Reference>& references();  // [checked rows, outputs]
  const Packed& expected();                            // the bytes of the host backend

 private:
  int count_sets(bool hot) const;
  void make_scales();
  void make_routing();

  Device& device_;
  nf4_handle_t handle_;
  Problem problem_;
  bool pending_;
  int sets_;
  Pool codes_, scales_, scales2_, dense_, absmax_;
  Buffer map_, offset_, x_, y_, ids_, order_, ends_;
  std::vector<int64_t> checked_rows_;
  std::optional<std::vector<nf4ref::Reference>> references_;
  std::optional<Packed> expected_;
};

}  // namespace nf4bench
