// What is measured: one operation on one shape.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "nf4/nf4.h"

namespace nf4bench {

// How a call with routed experts tells its routing: by the ids of slots; by order and ends, sorted before; or by ends
// alone, of slots that lie in the order of their experts.
enum class RoutingForm { ids, sorted, rows };
inline constexpr RoutingForm kRoutingForms[] = {RoutingForm::ids, RoutingForm::sorted, RoutingForm::rows};
std::string_view form_name(RoutingForm form);

struct Problem {
  nf4_op_t op = NF4_OP_GEMM;
  nf4_dtype_t dtype = NF4_BF16;
  int64_t m = 1;
  int64_t n = 0;
  int64_t k = 0;
  int32_t blocksize = 64;
  bool nested = false;
  int32_t absmax_blocksize = 256;  // of nested: blocks that share a second-level scale; 256 in bitsandbytes
  std::string layer;               // where the shape comes from, "" if it was given by hand
  std::vector<int64_t> parts;      // several products of an x: the rows of each one's W, n in all

  // Of products with routed experts: how many there are, of n rows each, how many of them a row of x has, how unlike
  // they are in that (routing.hpp), and what the call is given.
  int64_t experts = 0;
  int64_t top_k = 1;
  double skew = 0;
  RoutingForm form = RoutingForm::ids;

  int64_t slots() const { return m * top_k; }                               // rows of y
  int64_t length() const { return op == NF4_OP_GEMM_TRANSPOSED ? n : k; }   // of a row of x
  int64_t outputs() const { return op == NF4_OP_GEMM_TRANSPOSED ? k : n; }  // in a row of y
  int64_t elements() const { return (experts > 0 ? experts : 1) * n * k; }
  int64_t code_bytes() const { return (elements() + 1) / 2; }
  int64_t blocks() const { return (elements() + blocksize - 1) / blocksize; }
  int64_t groups() const;  // of nested quantization

  bool operator==(const Problem&) const = default;
};

// The same by another operation. Only products have an M, and the operations on scales are there for nested ones.
Problem with_op(Problem problem, nf4_op_t op);

nf4_problem_t descriptor(const Problem& problem);

// The bytes that any implementation has to move, each input and output once.
double minimal_bytes(const Problem& problem);

// Bytes of the scales of a weight, as the problem stores them.
int64_t scale_bytes(const Problem& problem);

inline constexpr nf4_op_t kAllOps[] = {NF4_OP_GEMM,           NF4_OP_UNPACK,        NF4_OP_PACK,
                                       NF4_OP_PACK_ABSMAX,    NF4_OP_UNPACK_ABSMAX, NF4_OP_GEMM_EXPERTS,
                                       NF4_OP_GEMM_TRANSPOSED};
// Whether results are held to a bound, not to the bit.
inline bool is_product(nf4_op_t op) {
  return op == NF4_OP_GEMM || op == NF4_OP_GEMM_EXPERTS || op == NF4_OP_GEMM_TRANSPOSED;
}
std::string_view op_name(nf4_op_t op);
inline constexpr nf4_dtype_t kAllDtypes[] = {NF4_F32, NF4_F16, NF4_BF16};
std::string_view dtype_name(nf4_dtype_t dtype);

// "8192+1024+1024"
std::string rows_text(const std::vector<int64_t>& parts);

// ", top 8 of 128 experts", "" without.
std::string experts_text(const Problem& problem);

// "gemm llama70b.qo, N=8192 K=8192, M=1, bf16, blocksize 64, nested"
std::string describe(const Problem& problem);

}  // namespace nf4bench
