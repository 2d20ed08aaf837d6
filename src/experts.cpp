// The entry points of products with routed experts.
#include "host/host.hpp"
#include "overlap.hpp"
#include "product.hpp"
#include "select.hpp"

using namespace nf4;

namespace {

// A routing in its sizes and types.
nf4_routing_t read_routing(const nf4_routing_t* routing) {
  const nf4_routing_t read = read_struct("routing", routing);
  check_int32_count("routing->experts", read.experts);
  check_int32_count("routing->slots", read.slots);
  check_top_k("routing->top_k", read.top_k, "routing->slots", read.slots);
  check_reserved("routing->reserved", read.reserved);
  return read;
}

int64_t ids_size(const nf4_routing_t& routing) { return routing.ids_dtype == NF4_I64 ? 8 : 4; }

void check_ids(const nf4_routing_t& routing) {
  if (routing.ids_dtype != NF4_I32 && routing.ids_dtype != NF4_I64) {
    fail(NF4_ERROR_UNSUPPORTED, "routing->ids_dtype is {}; expected NF4_I32 (4) or NF4_I64 (5)", routing.ids_dtype);
  }
  check_data("routing->ids", routing.ids, static_cast<size_t>(ids_size(routing)), routing.slots);
}

// What tells the slots' experts: ids, or ends and perhaps an order.
void check_either(const nf4_routing_t& routing) {
  if (routing.ids != nullptr && routing.ends != nullptr) {
    fail(NF4_ERROR_INVALID_ARGUMENT, "routing->ids and routing->ends are both given; expected one of them");
  }
  if (routing.ids == nullptr && routing.ends == nullptr && routing.slots > 0) {
    fail(NF4_ERROR_INVALID_ARGUMENT, "routing->ids and routing->ends are both null; expected one of them");
  }
  if (routing.order != nullptr && routing.ends == nullptr) {
    fail(NF4_ERROR_INVALID_ARGUMENT, "routing->order is given without routing->ends");
  }
  if (routing.ids != nullptr) check_ids(routing);
  check_data("routing->ends", routing.ends, sizeof(int32_t), 0);
  check_data("routing->order", routing.order, sizeof(int32_t), 0);
}

Routing routing_of(const nf4_routing_t& routing) {
  return {routing.experts, routing.slots, routing.top_k, routing.ids, routing.ids_dtype == NF4_I64,
          routing.ends,    routing.order, routing.scale};
}

// Rows of W that each of the experts has.
int64_t rows_of_expert(const Weight& weight, int64_t experts) {
  if (experts == 0 ? weight.rows != 0 : weight.rows % experts != 0) {
    fail(NF4_ERROR_INVALID_ARGUMENT, "weight->rows is {}; expected a multiple of routing->experts ({})", weight.rows,
         experts);
  }
  const int64_t rows = experts == 0 ? 0 : weight.rows / experts;
  check_experts_apart(rows, weight.cols, "weight->blocksize", 1 << weight.log2_blocksize);
  return rows;
}

// All that sizes and types tell of a product; x and y as nf4_gemm_experts likes them best: aligned, and without gaps.
GemmExpertsArgs check_sizes(nf4_dtype_t dtype, const nf4_weight_t* weight, const nf4_routing_t& routing, Reads reads) {
  const Dtype type = check_dtype("dtype", dtype);
  const Weight view = check_weight(weight, reads);
  const int64_t rows = rows_of_expert(view, routing.experts);
  check_matrix("routing->slots", routing.slots, "weight->cols", view.cols);
  check_matrix("routing->slots", routing.slots, "weight->rows / routing->experts", rows);
  return {nullptr, rows, nullptr, view.cols, rows, type, view, nullptr, routing_of(routing), nullptr};
}

int64_t rows_of_x(const GemmExpertsArgs& args) { return args.routing.slots / args.routing.top_k; }

bool has_outputs(const GemmExpertsArgs& args) { return args.routing.slots > 0 && args.n > 0; }

void check_y_apart(const GemmExpertsArgs& args, const nf4_routing_t& routing) {
  const bool any = has_outputs(args);
  const auto size = static_cast<int64_t>(size_of(args.dtype));
  const auto array = [&](const char* name, const void* begin, int64_t count, int64_t element) {
    return array_extent(name, begin, any && begin != nullptr ? count * element : 0);
  };
  const Extent y = matrix_extent("y", args.y, args.routing.slots, args.n, args.ldy, size_of(args.dtype));
  const Extent others[] = {
      matrix_extent("x", args.x, any ? rows_of_x(args) : 0, args.weight.cols, args.ldx, size_of(args.dtype)),
      array("bias", args.bias, args.weight.rows, size),
      array("routing->ids", routing.ids, routing.slots, ids_size(routing)),
      array("routing->ends", routing.ends, routing.experts, sizeof(int32_t)),
      array("routing->order", routing.order, routing.slots, sizeof(int32_t)),
      array("routing->scale", routing.scale, routing.slots, sizeof(float)),
  };
  check_apart(y, others);
  check_apart(y, weight_extents(args.weight));
}

GemmExpertsArgs check_gemm_experts(void* y, int64_t ldy, const void* x, int64_t ldx, nf4_dtype_t dtype,
                                   const nf4_weight_t* weight, const void* bias, const nf4_routing_t* routing) {
  const nf4_routing_t read = read_routing(routing);
  GemmExpertsArgs args = check_sizes(dtype, weight, read, Reads::codes_and_scales);
  check_either(read);
  check_data("routing->scale", read.scale, sizeof(float), 0);
  check_leading("ldy", ldy, "weight->rows / routing->experts", args.n, read.slots);
  check_leading("ldx", ldx, "weight->cols", args.weight.cols, rows_of_x(args));
  const size_t size = size_of(args.dtype);
  check_data("y", y, size, read.slots * args.n);
  check_data("x", x, size, has_outputs(args) ? rows_of_x(args) * args.weight.cols : 0);
  check_data("bias", bias, size, 0);
  args.y = y;
  args.ldy = ldy;
  args.x = x;
  args.ldx = ldx;
  args.bias = bias;
  check_y_apart(args, read);
  return args;
}

Problem problem_of(const GemmExpertsArgs& args) {
  const Weight& weight = args.weight;
  const Routing& routing = args.routing;
  const bool rows = rows_of_x(args) > 1;
  Alignment alignment;
  alignment.add(args.x).add(weight.codes);
  if (rows) alignment.add_bytes(args.ldx * static_cast<int64_t>(size_of(args.dtype)));
  const bool strided = (rows && args.ldx != weight.cols) || (routing.slots > 1 && args.ldy != args.n);
  const bool sorted = routing.ends != nullptr;
  return {Op::gemm_experts,
          args.dtype,
          routing.slots,
          args.n,
          weight.cols,
          1 << weight.log2_blocksize,
          weight.absmax.dtype,
          alignment.value(),
          strided,
          routing.experts,
          routing.top_k,
          sorted,
          sorted && routing.order == nullptr};
}

void sort_experts(nf4_handle_t handle, int32_t* order, int32_t* ends, const nf4_routing_t* routing,
                  const nf4_options_t* options, nf4_stream_t stream) {
  check_handle(handle);
  const nf4_routing_t read = read_routing(routing);
  if (read.ends != nullptr || read.order != nullptr) {
    fail(NF4_ERROR_INVALID_ARGUMENT, "routing->{} is given; expected ids alone, which are to be sorted",
         read.ends != nullptr ? "ends" : "order");
  }
  check_ids(read);
  check_data("order", order, sizeof(int32_t), read.slots);
  check_data("ends", ends, sizeof(int32_t), read.experts);
  constexpr auto kInt = static_cast<int64_t>(sizeof(int32_t));
  const Extent operands[] = {array_extent("order", order, read.slots * kInt),
                             array_extent("ends", ends, read.experts * kInt),
                             array_extent("routing->ids", read.ids, read.slots * ids_size(read))};
  check_apart(operands[0], std::span(operands).subspan(1));
  check_apart(operands[1], std::span(operands).subspan(2));
  const Options checked = check_options(options, false);
  check_stream(*handle, stream);
  if (read.slots == 0 && read.experts == 0) return;
  Alignment alignment;
  alignment.add(order).add(ends).add(read.ids);
  const Problem problem{Op::sort_experts, Dtype::f32,        read.slots, 0,           0, 0,
                        Dtype::f32,       alignment.value(), false,      read.experts};
  run(*handle, problem, SortExpertsArgs{order, ends, routing_of(read)}, checked, stream);
}

}  // namespace

nf4_status_t nf4_gemm_experts(nf4_handle_t handle, void* y, int64_t ldy, const void* x, int64_t ldx, nf4_dtype_t dtype,
                              const nf4_weight_t* weight, const void* bias, const nf4_routing_t* routing,
                              const nf4_options_t* options, nf4_stream_t stream) {
  return guarded([&] {
    check_handle(handle);
    const GemmExpertsArgs args = check_gemm_experts(y, ldy, x, ldx, dtype, weight, bias, routing);
    run_product(*handle, args, has_outputs(args), options, stream, problem_of, host_gemm_experts_scratch);
  });
}

nf4_status_t nf4_gemm_experts_workspace(nf4_handle_t handle, nf4_dtype_t dtype, const nf4_weight_t* weight,
                                        const nf4_routing_t* routing, size_t* bytes) {
  return guarded([&] {
    check_handle(handle);
    const GemmExpertsArgs args = check_sizes(dtype, weight, read_routing(routing), Reads::nothing);
    check_not_null("bytes", bytes);
    Options ample;
    ample.workspace_size = SIZE_MAX;
    const Problem problem = problem_of(args);
    *bytes = has_outputs(args) ? select(*handle, problem, ample).workspace_size(problem, handle->device) : 0;
  });
}

nf4_status_t nf4_sort_experts(nf4_handle_t handle, int32_t* order, int32_t* ends, const nf4_routing_t* routing,
                              const nf4_options_t* options, nf4_stream_t stream) {
  return guarded([&] { sort_experts(handle, order, ends, routing, options, stream); });
}
