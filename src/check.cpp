#include "check.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <bit>

namespace nf4 {

const nf4_handle& check_handle(nf4_handle_t handle) {
  check_not_null("handle", handle);
  return *handle;
}

void check_struct_size(const char* name, size_t size, std::span<const size_t> known) {
  if (std::find(known.begin(), known.end(), size) == known.end()) {
    fail(NF4_ERROR_STRUCT_SIZE, "{}->struct_size is {}; version {}.{} of libnf4 expects {}", name, size,
         NF4_VERSION_MAJOR, NF4_VERSION_MINOR, fmt::join(known, " or "));
  }
}

Op check_op(const char* name, nf4_op_t op) {
  if (op < 0 || op >= kOps)
    fail(NF4_ERROR_INVALID_ARGUMENT, "{} is {}; expected one of NF4_OP_*, 0 to {}", name, op, kOps - 1);
  return static_cast<Op>(op);
}

Dtype check_dtype(const char* name, nf4_dtype_t dtype) {
  if (dtype != NF4_F32 && dtype != NF4_F16 && dtype != NF4_BF16) {
    fail(NF4_ERROR_UNSUPPORTED, "{} is {}; expected NF4_F32 (0), NF4_F16 (1) or NF4_BF16 (2)", name, dtype);
  }
  return static_cast<Dtype>(dtype);
}

int check_blocksize(const char* name, int32_t blocksize) {
  if (blocksize < 32 || blocksize > 4096 || !std::has_single_bit(static_cast<uint32_t>(blocksize))) {
    fail(NF4_ERROR_UNSUPPORTED, "{} is {}; expected a power of two from 32 to 4096", name, blocksize);
  }
  return std::countr_zero(static_cast<uint32_t>(blocksize));
}

namespace {

void check_extent(const char* name, int64_t extent) {
  if (extent < 0) fail(NF4_ERROR_INVALID_ARGUMENT, "{} is {}; expected 0 or more", name, extent);
}

// a * b for a, b >= 0, or -1 if it exceeds kMaxElements.
int64_t product(int64_t a, int64_t b) { return b != 0 && a > kMaxElements / b ? -1 : a * b; }

}  // namespace

int64_t check_matrix(const char* rows_name, int64_t rows, const char* cols_name, int64_t cols) {
  check_extent(rows_name, rows);
  check_extent(cols_name, cols);
  const int64_t elements = product(rows, cols);
  if (elements < 0) {
    fail(NF4_ERROR_INVALID_ARGUMENT, "{} * {} is {} * {}; expected 2^60 elements at most", rows_name, cols_name, rows,
         cols);
  }
  return elements;
}

void check_count(const char* name, int64_t count) {
  check_extent(name, count);
  if (count > kMaxElements) fail(NF4_ERROR_INVALID_ARGUMENT, "{} is {}; expected 2^60 at most", name, count);
}

void check_int32_count(const char* name, int64_t count) {
  check_extent(name, count);
  if (count > INT32_MAX) fail(NF4_ERROR_INVALID_ARGUMENT, "{} is {}; expected 2^31 - 1 at most", name, count);
}

void check_top_k(const char* name, int64_t top_k, const char* slots_name, int64_t slots) {
  if (top_k < 1) fail(NF4_ERROR_INVALID_ARGUMENT, "{} is {}; expected 1 or more", name, top_k);
  if (slots % top_k != 0) {
    fail(NF4_ERROR_INVALID_ARGUMENT, "{} is {}; expected a multiple of {} ({})", slots_name, slots, name, top_k);
  }
}

void check_experts_apart(int64_t n, int64_t k, const char* blocksize_name, int32_t blocksize) {
  if (n * k % blocksize != 0) {
    fail(NF4_ERROR_UNSUPPORTED,
         "an expert has {} * {} weights; expected a multiple of {} ({}), so that it begins at a block", n, k,
         blocksize_name, blocksize);
  }
}

void check_reserved(const char* name, int32_t reserved) {
  if (reserved != 0) fail(NF4_ERROR_INVALID_ARGUMENT, "{} is {}; expected 0", name, reserved);
}

void check_leading(const char* name, int64_t ld, const char* cols_name, int64_t cols, int64_t rows) {
  if (ld < cols) fail(NF4_ERROR_INVALID_ARGUMENT, "{} is {}; expected {} ({}) or more", name, ld, cols_name, cols);
  if (product(rows, ld) < 0) {
    fail(NF4_ERROR_INVALID_ARGUMENT, "{} is {}; {} rows of it exceed 2^60 elements", name, ld, rows);
  }
}

void check_data(const char* name, const void* pointer, size_t alignment, int64_t elements) {
  if (pointer == nullptr && elements > 0) {
    fail(NF4_ERROR_INVALID_ARGUMENT, "{} is null; expected {} elements", name, elements);
  }
  if (reinterpret_cast<uintptr_t>(pointer) % alignment != 0) {
    fail(NF4_ERROR_MISALIGNED, "{} is {}; expected a multiple of {} bytes", name, pointer, alignment);
  }
}

namespace {

void check_weight_data(const Weight& weight, bool codes_used) {
  const Absmax& absmax = weight.absmax;
  const int64_t blocks = blocks_of(weight);
  if (codes_used) check_data("weight->codes", weight.codes, 1, weight.rows * weight.cols);
  check_data("weight->absmax", absmax.values, size_of(absmax.dtype), blocks);
  if (absmax.dtype != Dtype::u8) return;
  check_data("weight->absmax_map", absmax.map, sizeof(float), blocks > 0 ? 256 : 0);
  check_data("weight->absmax2", absmax.absmax2, sizeof(float),
             (blocks + (int64_t{1} << absmax.log2_blocksize) - 1) >> absmax.log2_blocksize);
  check_data("weight->absmax_offset", absmax.offset, sizeof(float), blocks > 0 ? 1 : 0);
}

}  // namespace

Weight check_weight(const nf4_weight_t* weight, Reads reads) {
  const nf4_weight_t view = read_struct("weight", weight);
  check_matrix("weight->rows", view.rows, "weight->cols", view.cols);
  const int log2_blocksize = check_blocksize("weight->blocksize", view.blocksize);
  if ((view.flags & ~uint32_t{NF4_WEIGHT_CONSTANT}) != 0) {
    fail(NF4_ERROR_INVALID_ARGUMENT, "weight->flags is {}; expected 0 or NF4_WEIGHT_CONSTANT (1)", view.flags);
  }
  if (view.absmax_dtype < 0 || view.absmax_dtype > NF4_U8) {
    fail(NF4_ERROR_UNSUPPORTED,
         "weight->absmax_dtype is {}; expected NF4_F32 (0), NF4_F16 (1), NF4_BF16 (2), or NF4_U8 (3) for nested",
         view.absmax_dtype);
  }
  Absmax absmax{view.absmax, static_cast<Dtype>(view.absmax_dtype), nullptr, nullptr, nullptr, 0};
  if (absmax.dtype == Dtype::u8) {
    absmax.log2_blocksize = check_blocksize("weight->absmax_blocksize", view.absmax_blocksize);
    absmax.map = view.absmax_map;
    absmax.absmax2 = view.absmax2;
    absmax.offset = view.absmax_offset;
  }
  const bool constant = view.flags == NF4_WEIGHT_CONSTANT;
  const Weight checked{view.rows, view.cols, view.codes, absmax, log2_blocksize, constant};
  if (reads != Reads::nothing) check_weight_data(checked, reads == Reads::codes_and_scales);
  return checked;
}

namespace {

void check_sort(const nf4_problem_t& posed, Problem& checked) {
  check_int32_count("problem->m", posed.m);
  check_int32_count("problem->experts", posed.experts);
  checked.dtype = checked.absmax_dtype = Dtype::f32;
  checked.m = posed.m;
  checked.experts = posed.experts;
}

// Rows of x and y, x [m, k] and y [m, n].
void check_rows(const nf4_problem_t& posed, Problem& checked) {
  check_matrix("problem->m", posed.m, "problem->k", posed.k);
  check_matrix("problem->m", posed.m, "problem->n", posed.n);
  checked.m = posed.m;
}

void check_experts(const nf4_problem_t& posed, Problem& checked) {
  check_int32_count("problem->m", posed.m);
  check_int32_count("problem->experts", posed.experts);
  check_top_k("problem->top_k", posed.top_k, "problem->m", posed.m);
  const int64_t rows = check_matrix("problem->experts", posed.experts, "problem->n", posed.n);
  check_matrix("problem->experts * problem->n", rows, "problem->k", posed.k);
  check_experts_apart(posed.n, posed.k, "problem->blocksize", posed.blocksize);
  checked.experts = posed.experts;
  checked.top_k = posed.top_k;
  checked.sorted = posed.sorted != 0;
}

void check_matrix_problem(const nf4_problem_t& posed, Problem& checked) {
  const bool on_absmax = checked.op == Op::pack_absmax || checked.op == Op::unpack_absmax;
  const bool packs = checked.op == Op::pack || checked.op == Op::pack_absmax;
  checked.dtype = on_absmax ? Dtype::f32 : check_dtype("problem->dtype", posed.dtype);
  check_matrix("problem->n", posed.n, "problem->k", posed.k);
  checked.n = posed.n;
  checked.k = posed.k;
  checked.m = 1;
  if (checked.op == Op::gemm || checked.op == Op::gemm_transposed || checked.op == Op::gemm_experts)
    check_rows(posed, checked);
  check_blocksize("problem->blocksize", posed.blocksize);
  checked.blocksize = posed.blocksize;
  checked.absmax_dtype = packs                          ? Dtype::f32
                         : posed.absmax_dtype == NF4_U8 ? Dtype::u8
                                                        : check_dtype("problem->absmax_dtype", posed.absmax_dtype);
  if (checked.op == Op::gemm_experts) check_experts(posed, checked);
  checked.strided = posed.strided != 0;
}

}  // namespace

Problem check_problem(const nf4_problem_t* problem) {
  const nf4_problem_t posed = read_struct("problem", problem);
  Problem checked{};
  checked.op = check_op("problem->op", posed.op);
  check_reserved("problem->reserved", posed.reserved);
  if (checked.op == Op::sort_experts) {
    check_sort(posed, checked);
  } else {
    check_matrix_problem(posed, checked);
  }
  checked.alignment = posed.alignment == 0 ? 16 : posed.alignment;
  if (checked.alignment < 0 || !std::has_single_bit(static_cast<uint32_t>(checked.alignment))) {
    fail(NF4_ERROR_INVALID_ARGUMENT, "problem->alignment is {}; expected 0 or a power of two", posed.alignment);
  }
  return checked;
}

void check_stream(const nf4_handle& handle, nf4_stream_t stream) {
  if (handle.on_host() && stream != nullptr) {
    fail(NF4_ERROR_INVALID_ARGUMENT, "stream is {}; expected null, since the handle is the host backend's",
         static_cast<const void*>(stream));
  }
}

size_t size_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::f32:
      return 4;
    case Dtype::f16:
    case Dtype::bf16:
      return 2;
    default:
      return 1;
  }
}

const char* name_of(Dtype dtype) {
  static constexpr const char* kNames[] = {"f32", "f16", "bf16", "u8"};
  return kNames[static_cast<size_t>(dtype)];
}

const char* name_of(Op op) {
  static constexpr const char* kNames[kOps] = {"pack",          "unpack",       "gemm",         "pack_absmax",
                                               "unpack_absmax", "gemm_experts", "sort_experts", "gemm_transposed"};
  return kNames[static_cast<size_t>(op)];
}

}  // namespace nf4
