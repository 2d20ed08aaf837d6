// What src/ and kernels/ share: the problem that a call poses, its operands, and what a variant declares of itself.
// Plain C++, so that a build without the CUDA toolkit has it too.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "absmax.hpp"

struct CUstream_st;

namespace nf4 {

using Stream = CUstream_st*;

enum class Op : int32_t { pack = 0, unpack = 1, gemm = 2, pack_absmax = 3, unpack_absmax = 4 };  // nf4_op_t
inline constexpr int kOps = 5;

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
};

// Products that one launch may make of an x.
inline constexpr int kMostProducts = 4;

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

// One way to run an operation. A family of kernels declares its variants as constants of this type (docs/variants.md).
// A config is one setting of a variant's compile-time parameters; callers name it by its text, launchers by its index.
struct Variant {
  const char* name;         // "operation.way"
  const char* description;  // one line
  const char* accuracy;     // class of docs/accuracy.md
  Op op;
  bool host;                               // runs on the host backend, otherwise on CUDA devices
  int configs;                             // at least one; index 0 is the default
  std::string (*config_text)(int config);  // "warps=8", "" for the only config of a variant without parameters
  const char* (*unsupported)(const Problem&, const Device&);  // null if it can run, else the reason why not
  size_t (*workspace_size)(const Problem&, const Device&,
                           int config);  // bytes, aligned to 256; null if it never needs any
  int (*launch)(const void* args, const Device&, int config, Stream);  // args of the op; a cudaError_t, 0 once launched
  // The same for 1 to kMostProducts products of an x that are alike in all but N, y, its leading dimension, weights and
  // bias, and that the variant supports as one of all their rows of W together; null if it takes them one by one.
  int (*launch_group)(std::span<const GemmArgs>, const Device&, int config, Stream) = nullptr;
};

// Makes a Variant::launch of a launcher with typed arguments.
template <class Args, int (*Launch)(const Args&, const Device&, int, Stream)>
int erased(const void* args, const Device& device, int config, Stream stream) {
  return Launch(*static_cast<const Args*>(args), device, config, stream);
}

// Makes a Variant::launch of a Variant::launch_group.
template <int (*Launch)(std::span<const GemmArgs>, const Device&, int, Stream)>
int launch_one(const void* args, const Device& device, int config, Stream stream) {
  return Launch({static_cast<const GemmArgs*>(args), 1}, device, config, stream);
}

inline std::string no_config(int) { return {}; }

inline const char* always_supported(const Problem&, const Device&) { return nullptr; }

}  // namespace nf4
