#include "problem.hpp"

#include <fmt/ranges.h>

#include "formatted.hpp"
#include "oracle.hpp"
#include "routing.hpp"

namespace nf4bench {

int64_t Problem::groups() const { return (blocks() + absmax_blocksize - 1) / absmax_blocksize; }

Problem with_op(Problem problem, nf4_op_t op) {
  problem.op = op;
  if (!is_product(op)) problem.m = 1;
  if (op != NF4_OP_GEMM_EXPERTS) {
    problem.experts = 0;
    problem.top_k = 1;
    problem.skew = 0;
    problem.form = RoutingForm::ids;
  }
  if (op == NF4_OP_PACK) problem.nested = false;
  if (op == NF4_OP_PACK_ABSMAX || op == NF4_OP_UNPACK_ABSMAX) {
    problem.dtype = NF4_F32;
    problem.nested = true;
  }
  return problem;
}

nf4_problem_t descriptor(const Problem& problem) {
  nf4_problem_t out = NF4_PROBLEM_INIT;
  out.op = problem.op;
  out.dtype = problem.dtype;
  out.m = problem.m;
  out.n = problem.n;
  out.k = problem.k;
  out.blocksize = problem.blocksize;
  out.absmax_dtype = problem.nested ? NF4_U8 : NF4_F32;
  if (problem.op == NF4_OP_GEMM_EXPERTS) {
    out.m = problem.slots();
    out.experts = problem.experts;
    out.top_k = problem.top_k;
    out.sorted = problem.form != RoutingForm::ids;
  }
  if (problem.op == NF4_OP_PACK_ABSMAX) {
    out.n = 1;
    out.k = problem.blocks();
    out.blocksize = problem.absmax_blocksize;
  }
  return out;
}

int64_t scale_bytes(const Problem& problem) {
  constexpr int64_t kMapAndOffset = 257 * 4;
  return problem.nested ? problem.blocks() + problem.groups() * 4 + kMapAndOffset : problem.blocks() * 4;
}

double minimal_bytes(const Problem& problem) {
  const int64_t element = nf4ref::size_of(problem.dtype);
  const int64_t packed = problem.code_bytes() + scale_bytes(problem);
  const int64_t dense = problem.elements() * element;
  const int64_t activations = (problem.slots() * problem.n + problem.m * problem.k) * element;
  const int64_t absmax = problem.blocks() * 4;
  const int64_t nested_absmax = problem.blocks() + problem.groups() * 4;
  switch (problem.op) {
    case NF4_OP_GEMM:
    case NF4_OP_GEMM_TRANSPOSED:
      return static_cast<double>(packed + activations);
    case NF4_OP_GEMM_EXPERTS:
      return static_cast<double>(packed) * static_cast<double>(experts_hit(problem)) /
                 static_cast<double>(problem.experts) +
             static_cast<double>(activations);
    case NF4_OP_PACK:
    case NF4_OP_UNPACK:
      return static_cast<double>(packed + dense);
    case NF4_OP_PACK_ABSMAX:
      return static_cast<double>(absmax + nested_absmax);
    default:
      return static_cast<double>(scale_bytes(problem) + absmax);
  }
}

std::string_view op_name(nf4_op_t op) {
  switch (op) {
    case NF4_OP_PACK:
      return "pack";
    case NF4_OP_UNPACK:
      return "unpack";
    case NF4_OP_GEMM:
      return "gemm";
    case NF4_OP_PACK_ABSMAX:
      return "pack_absmax";
    case NF4_OP_GEMM_EXPERTS:
      return "gemm_experts";
    case NF4_OP_GEMM_TRANSPOSED:
      return "gemm_transposed";
    default:
      return "unpack_absmax";
  }
}

std::string_view dtype_name(nf4_dtype_t dtype) {
  switch (dtype) {
    case NF4_F32:
      return "f32";
    case NF4_F16:
      return "f16";
    default:
      return "bf16";
  }
}

std::string_view form_name(RoutingForm form) {
  switch (form) {
    case RoutingForm::sorted:
      return "sorted";
    case RoutingForm::rows:
      return "rows";
    default:
      return "ids";
  }
}

std::string rows_text(const std::vector<int64_t>& parts) { return nf4::formatted("{}", fmt::join(parts, "+")); }

std::string experts_text(const Problem& problem) {
  if (problem.experts == 0) return "";
  const std::string skew = problem.skew > 0 ? nf4::formatted(", skew {}", problem.skew) : "";
  const std::string form =
      problem.form != RoutingForm::ids ? nf4::formatted(", by {}", form_name(problem.form)) : std::string();
  return nf4::formatted(", top {} of {} experts{}{}", problem.top_k, problem.experts, skew, form);
}

std::string describe(const Problem& problem) {
  const std::string rows = problem.parts.empty() ? std::to_string(problem.n) : rows_text(problem.parts);
  return nf4::formatted(
      "{}{}{}, N={} K={}{}, {}, blocksize {}{}", op_name(problem.op), problem.layer.empty() ? "" : " ", problem.layer,
      rows, problem.k,
      is_product(problem.op) ? nf4::formatted(", M={}", problem.m) + experts_text(problem) : std::string(),
      dtype_name(problem.dtype), problem.blocksize, problem.nested ? ", nested" : "");
}

}  // namespace nf4bench
