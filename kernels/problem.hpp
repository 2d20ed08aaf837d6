// What src/ and kernels/ share: the device, the problem that a call poses, and the operands of each operation.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>

#include "format/absmax.hpp"

struct CUstream_st;

namespace nf4 {

using Stream = CUstream_st*;

enum class Op : int32_t {  // nf4_op_t
  pack = 0,
  unpack = 1,
  gemm = 2,
  pack_absmax = 3,
  unpack_absmax = 4,
  gemm_experts = 5,
  sort_experts = 6,
  gemm_transposed = 7
};
inline constexpr int kOps = 8;

struct Device {
  int ordinal;             // CUDA ordinal, -1 for the host
  int compute_capability;  // 10 * major + minor, 0 for the host
  int multiprocessors;     // SMs, or hardware threads
  std::string name;
  int architecture = 0;                    // whose code the device runs, see architecture.hpp; 0 for the host
  int shared_memory = 0;                   // bytes that a block may ask for; 0 for the host
  std::array<int, 4> resident_clusters{};  // of 1, 2, 4 and 8 blocks, see architecture.hpp

  int clusters(int size) const { return resident_clusters[static_cast<size_t>(std::countr_zero(unsigned(size)))]; }
};

// A call without its pointers: all that a selection may depend on.
struct Problem {
  Op op;
  Dtype dtype;
  int64_t m, n, k;
  int blocksize;
  Dtype absmax_dtype;
  int alignment;  // bytes, a power of two; what it divides is said at nf4_problem_t
  bool strided;   // a leading dimension is larger than the row
  // Of the operations on experts alone: n is the rows of W of one expert, m the slots.
  int64_t experts = 0;
  int64_t top_k = 0;
  bool sorted = false;    // the routing has ends
  bool in_order = false;  // and no order: the slots lie in the order of their experts
  // Of a gemm alone: by so many W, of which n is the rows of all, in one launch.
  int products = 1;
};

// W [rows, cols] in NF4; blocks of 2^log2_blocksize elements run over the flattened matrix.
struct Weight {
  int64_t rows, cols;
  const uint8_t* codes;  // [ceil(rows * cols / 2)]
  Absmax absmax;         // [ceil(rows * cols / blocksize)]
  int log2_blocksize;
  bool constant = false;  // NF4_WEIGHT_CONSTANT
};

struct PackArgs {
  static constexpr Op kOp = Op::pack;
  uint8_t* codes;  // [ceil(rows * cols / 2)]
  float* absmax;   // [ceil(rows * cols / blocksize)]
  const void* w;   // [rows, cols] of dtype
  int64_t ldw;
  Dtype dtype;
  int64_t rows, cols;
  int log2_blocksize;
};

struct UnpackArgs {
  static constexpr Op kOp = Op::unpack;
  void* w;  // [rows, cols] of dtype
  int64_t ldw;
  Dtype dtype;
  Weight weight;
};

struct GemmArgs {
  static constexpr Op kOp = Op::gemm;
  void* y;  // [m, weight.rows] of dtype
  int64_t ldy;
  const void* x;  // [m, weight.cols] of dtype
  int64_t ldx;
  int64_t m;
  Dtype dtype;
  Weight weight;
  const void* bias;  // [weight.rows] of dtype, or null
  void* workspace;

  int64_t x_cols() const { return weight.cols; }
  int64_t y_cols() const { return weight.rows; }
};

// y [m, weight.cols] = x [m, weight.rows] W.
struct GemmTransposedArgs {
  static constexpr Op kOp = Op::gemm_transposed;
  void* y;  // [m, weight.cols] of dtype
  int64_t ldy;
  const void* x;  // [m, weight.rows] of dtype
  int64_t ldx;
  int64_t m;
  Dtype dtype;
  Weight weight;
  void* workspace;

  int64_t x_cols() const { return weight.rows; }
  int64_t y_cols() const { return weight.cols; }
};

// Products that one launch may make of an x.
inline constexpr int kMostProducts = 4;

// Which expert multiplies what (nf4_routing_t). What the pointers lead to is read where the product is made; nothing of
// it is known when a launch is planned. gemm/experts.hpp reads it.
struct Routing {
  int64_t experts;
  int64_t slots;    // at most INT32_MAX
  int64_t top_k;    // slot s multiplies row s / top_k of x
  const void* ids;  // [slots] int32_t, or int64_t if wide_ids; null if there are ends
  bool wide_ids;
  const int32_t* ends;   // [experts] or null: positions ends[e - 1] to ends[e] are of expert e
  const int32_t* order;  // [slots], the slot at each position; null: its own number
  const float* scale;    // [slots] or null
};

// y [slots, n] = x [slots / top_k, weight.cols] W_e^T + bias_e, times scale, for the expert e of each slot; zeros for a
// slot of none.
struct GemmExpertsArgs {
  static constexpr Op kOp = Op::gemm_experts;
  void* y;  // [slots, n] of dtype
  int64_t ldy;
  const void* x;  // [slots / top_k, weight.cols] of dtype
  int64_t ldx;
  int64_t n;  // rows of W of one expert, 1 or more; a multiple of a block's elements, with weight.cols
  Dtype dtype;
  Weight weight;     // [experts * n, K], expert after expert
  const void* bias;  // [experts, n] of dtype, or null
  Routing routing;   // of 1 or more experts and slots
  void* workspace;
};

struct SortExpertsArgs {
  static constexpr Op kOp = Op::sort_experts;
  int32_t* order;   // [slots]
  int32_t* ends;    // [experts]
  Routing routing;  // with ids
};

struct PackAbsmaxArgs {
  static constexpr Op kOp = Op::pack_absmax;
  uint8_t* codes;  // [count]
  float* absmax2;  // [ceil(count / blocksize)]
  float* offset;   // [1]
  const float* absmax;
  int64_t count;
  const float* map;  // [256], ascending
  int log2_blocksize;
};

struct UnpackAbsmaxArgs {
  static constexpr Op kOp = Op::unpack_absmax;
  float* out;  // [count]
  Absmax absmax;
  int64_t count;
};

}  // namespace nf4
