// nf4.hpp: nf4.h for C++17 and later: errors are exceptions, a handle frees itself, and buffers know their size.
//
//   nf4::Handle handle(NF4_HOST_DEVICE);
//   nf4::pack(handle, codes, absmax, nf4::ConstMatrix(w, N, K));  // std::vector, std::array, std::span, ...
//   nf4::Weight weight(N, K, codes, absmax);
//   nf4::gemv(handle, y, x, weight);                              // y = W x
//
// Header-only and thin. Each function is its namesake of nf4.h, which documents it, and checks beforehand the one thing
// that pointers cannot tell: that each buffer holds what the shapes ask for. It throws nf4::Error.
// For the functions of nf4.h that need no more than an exception there is nf4::check:
//   nf4::check(nf4_tuning_load(handle.get(), "tuning.csv"));
#ifndef NF4_NF4_HPP
#define NF4_NF4_HPP

#include <nf4/nf4.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace nf4 {
inline namespace v1 {  // keeps these names apart from the library's own when it is linked statically

// -------------------------------------------------------------------------------------------------------- errors ---

// A call that failed: its status, and as what() the library's message.
class Error : public std::runtime_error {
 public:
  Error(nf4_status_t status, const std::string& message) : std::runtime_error(message), status_(status) {}
  nf4_status_t status() const noexcept { return status_; }

 private:
  nf4_status_t status_;
};

// Throws the Error of the call that returned `status`, unless it succeeded.
inline void check(nf4_status_t status) {
  if (status != NF4_SUCCESS) throw Error(status, nf4_last_error_message());
}

namespace detail {

[[noreturn]] inline void fail(const char* function, const std::string& message) {
  throw Error(NF4_ERROR_INVALID_ARGUMENT, std::string(function) + ": " + message);
}

inline void expect_size(const char* function, const char* what, std::int64_t size, std::int64_t least) {
  if (size >= least) return;
  fail(function, std::string(what) + " holds " + std::to_string(size) + " elements, expected " + std::to_string(least));
}

inline void expect_equal(const char* function, const char* what, std::int64_t value, const char* than,
                         std::int64_t expected) {
  if (value == expected) return;
  fail(function, std::string(what) + " is " + std::to_string(value) + ", " + than + " is " + std::to_string(expected));
}

// How many groups of `size` cover `count`; none for a size that the library is going to refuse.
inline std::int64_t groups(std::int64_t count, std::int64_t size) {
  return size > 0 ? count / size + (count % size != 0) : 0;
}

template <class Container>
using Element = std::remove_pointer_t<decltype(std::data(std::declval<Container&>()))>;

}  // namespace detail

// ------------------------------------------------------------------------------------------------------- buffers ---
// None owns its elements, which may be in host or in device memory. Each is made from a pointer and a size, or from a
// container of contiguous elements.

// Elements of a type that is known: std::span, which C++17 lacks, as far as it is needed here.
template <class T>
struct Span {
  T* data = nullptr;
  std::int64_t size = 0;

  Span() = default;
  Span(T* data_, std::int64_t size_) : data(data_), size(size_) {}
  template <class Container, class = std::enable_if_t<std::is_convertible_v<detail::Element<Container>*, T*>>>
  Span(Container&& container) : data(std::data(container)), size(static_cast<std::int64_t>(std::size(container))) {}
  template <class U, class = std::enable_if_t<std::is_convertible_v<U*, T*>>>
  Span(const Span<U>& other) : data(other.data), size(other.size) {}
};

// The dtype of the elements of a container. Specialize it for the 16-bit types that a program uses:
//   template <> struct nf4::DType<__half> : std::integral_constant<nf4_dtype_t, NF4_F16> {};
template <class T>
struct DType;
template <>
struct DType<float> : std::integral_constant<nf4_dtype_t, NF4_F32> {};
template <>
struct DType<std::uint8_t> : std::integral_constant<nf4_dtype_t, NF4_U8> {};

// Elements of a dtype that is known only at run time.
template <class Void>
struct BasicData {
  Void* data = nullptr;
  std::int64_t size = 0;
  nf4_dtype_t dtype = NF4_F32;

  BasicData() = default;
  BasicData(Void* data_, std::int64_t size_, nf4_dtype_t dtype_) : data(data_), size(size_), dtype(dtype_) {}
  template <class Container, class E = detail::Element<Container>, class D = DType<std::remove_cv_t<E>>,
            class = std::enable_if_t<std::is_convertible_v<E*, Void*>>>
  BasicData(Container&& container)
      : BasicData(std::data(container), static_cast<std::int64_t>(std::size(container)), D::value) {}
  template <class V, class = std::enable_if_t<std::is_convertible_v<V*, Void*>>>
  BasicData(const BasicData<V>& other) : BasicData(other.data, other.size, other.dtype) {}
};
using Data = BasicData<void>;
using ConstData = BasicData<const void>;

namespace detail {

inline void expect_bias(const char* function, ConstData bias, std::int64_t size, nf4_dtype_t dtype) {
  if (!bias.data) return;
  expect_size(function, "bias", bias.size, size);
  expect_equal(function, "bias.dtype", bias.dtype, "x.dtype", dtype);
}

}  // namespace detail

// Data seen as [rows, cols], row-major, each row `ld` elements after the one before.
template <class Void>
struct BasicMatrix {
  Void* data;
  std::int64_t rows, cols, ld;
  nf4_dtype_t dtype;

  BasicMatrix(BasicData<Void> elements, std::int64_t rows_, std::int64_t cols_)
      : BasicMatrix(elements, rows_, cols_, cols_) {}
  BasicMatrix(BasicData<Void> elements, std::int64_t rows_, std::int64_t cols_, std::int64_t ld_)
      : data(elements.data), rows(rows_), cols(cols_), ld(ld_), dtype(elements.dtype) {
    if (rows <= 0 || cols <= 0 || ld < cols) return;  // needs no element, or is for the library to refuse
    if (elements.size >= cols && rows - 1 <= (elements.size - cols) / ld) return;
    detail::fail("Matrix", "[" + std::to_string(rows) + ", " + std::to_string(cols) + "] with leading dimension " +
                               std::to_string(ld) + " does not fit in " + std::to_string(elements.size) + " elements");
  }
  template <class V, class = std::enable_if_t<std::is_convertible_v<V*, Void*>>>
  BasicMatrix(const BasicMatrix<V>& other)
      : data(other.data), rows(other.rows), cols(other.cols), ld(other.ld), dtype(other.dtype) {}
};
using Matrix = BasicMatrix<void>;
using ConstMatrix = BasicMatrix<const void>;

// -------------------------------------------------------------------------------------------------------- handle ---

class Handle {
 public:
  explicit Handle(std::int32_t device) {
    nf4_handle_t handle = nullptr;
    check(nf4_create(&handle, device));
    handle_.reset(handle);
  }

  nf4_handle_t get() const noexcept { return handle_.get(); }

  nf4_device_info_t device_info() const {
    nf4_device_info_t info{};
    info.struct_size = sizeof info;
    check(nf4_device_info(get(), &info));
    return info;
  }

 private:
  struct Destroy {
    void operator()(nf4_handle_t handle) const noexcept { nf4_destroy(handle); }
  };
  std::unique_ptr<std::remove_pointer_t<nf4_handle_t>, Destroy> handle_;
};

// -------------------------------------------------------------------------------------------------------- format ---

inline std::array<float, 16> codebook() {
  std::array<float, 16> values;
  check(nf4_codebook(values.data()));
  return values;
}

inline std::array<float, 256> dynamic_map() {
  std::array<float, 256> values;
  check(nf4_dynamic_map(values.data()));
  return values;
}

struct PackedSize {
  std::int64_t codes;   // bytes
  std::int64_t absmax;  // values
};

inline PackedSize packed_size(std::int64_t rows, std::int64_t cols, std::int32_t blocksize = 64) {
  PackedSize size{};
  check(nf4_packed_size(&size.codes, &size.absmax, rows, cols, blocksize));
  return size;
}

// The second level of nested quantization.
struct Nested {
  Span<const float> map;      // 256 values
  Span<const float> absmax2;  // one value for each `blocksize` blocks of the weight
  Span<const float> offset;   // one value
  std::int32_t blocksize = 256;
};

struct Weight : nf4_weight_t {
  Weight(std::int64_t rows_, std::int64_t cols_, Span<const std::uint8_t> codes_, ConstData absmax_,
         std::int32_t blocksize_ = 64)
      : nf4_weight_t NF4_WEIGHT_INIT {
    const PackedSize size = packed_size(rows_, cols_, blocksize_);
    detail::expect_size("Weight", "codes", codes_.size, size.codes);
    detail::expect_size("Weight", "absmax", absmax_.size, size.absmax);
    rows = rows_;
    cols = cols_;
    codes = codes_.data;
    absmax = absmax_.data;
    absmax_dtype = absmax_.dtype;
    blocksize = blocksize_;
  }

  Weight(std::int64_t rows_, std::int64_t cols_, Span<const std::uint8_t> codes_, Span<const std::uint8_t> absmax_,
         const Nested& nested, std::int32_t blocksize_ = 64)
      : Weight(rows_, cols_, codes_, ConstData(absmax_.data, absmax_.size, NF4_U8), blocksize_) {
    const std::int64_t blocks = packed_size(rows_, cols_, blocksize_).absmax;
    detail::expect_size("Weight", "nested.map", nested.map.size, 256);
    detail::expect_size("Weight", "nested.absmax2", nested.absmax2.size, detail::groups(blocks, nested.blocksize));
    detail::expect_size("Weight", "nested.offset", nested.offset.size, 1);
    absmax_map = nested.map.data;
    absmax2 = nested.absmax2.data;
    absmax_offset = nested.offset.data;
    absmax_blocksize = nested.blocksize;
  }
};

// ---------------------------------------------------------------------------------------------------- operations ---

struct Options : nf4_options_t {
  Options() : nf4_options_t NF4_OPTIONS_INIT {}
};

// codes and absmax = w.
inline void pack(const Handle& handle, Span<std::uint8_t> codes, Span<float> absmax, ConstMatrix w,
                 std::int32_t blocksize = 64, const Options& options = {}, nf4_stream_t stream = nullptr) {
  const PackedSize size = packed_size(w.rows, w.cols, blocksize);
  detail::expect_size("pack", "codes", codes.size, size.codes);
  detail::expect_size("pack", "absmax", absmax.size, size.absmax);
  check(nf4_pack(handle.get(), codes.data, absmax.data, w.data, w.ld, w.dtype, w.rows, w.cols, blocksize, &options,
                 stream));
}

// w = weight.
inline void unpack(const Handle& handle, Matrix w, const nf4_weight_t& weight, const Options& options = {},
                   nf4_stream_t stream = nullptr) {
  detail::expect_equal("unpack", "w.rows", w.rows, "weight.rows", weight.rows);
  detail::expect_equal("unpack", "w.cols", w.cols, "weight.cols", weight.cols);
  check(nf4_unpack(handle.get(), w.data, w.ld, w.dtype, &weight, &options, stream));
}

// absmax_codes, absmax2 and offset = absmax.
inline void pack_absmax(const Handle& handle, Span<std::uint8_t> absmax_codes, Span<float> absmax2, Span<float> offset,
                        Span<const float> absmax, Span<const float> map, std::int32_t blocksize = 256,
                        const Options& options = {}, nf4_stream_t stream = nullptr) {
  detail::expect_size("pack_absmax", "absmax_codes", absmax_codes.size, absmax.size);
  detail::expect_size("pack_absmax", "absmax2", absmax2.size, detail::groups(absmax.size, blocksize));
  detail::expect_size("pack_absmax", "offset", offset.size, 1);
  detail::expect_size("pack_absmax", "map", map.size, 256);
  check(nf4_pack_absmax(handle.get(), absmax_codes.data, absmax2.data, offset.data, absmax.data, absmax.size, map.data,
                        blocksize, &options, stream));
}

// absmax = the scales of weight.
inline void unpack_absmax(const Handle& handle, Span<float> absmax, const nf4_weight_t& weight,
                          const Options& options = {}, nf4_stream_t stream = nullptr) {
  detail::expect_size("unpack_absmax", "absmax", absmax.size,
                      packed_size(weight.rows, weight.cols, weight.blocksize).absmax);
  check(nf4_unpack_absmax(handle.get(), absmax.data, &weight, &options, stream));
}

// y [N] = W x [K] + bias [N].
inline void gemv(const Handle& handle, Data y, ConstData x, const nf4_weight_t& weight, ConstData bias = {},
                 const Options& options = {}, nf4_stream_t stream = nullptr) {
  detail::expect_size("gemv", "y", y.size, weight.rows);
  detail::expect_size("gemv", "x", x.size, weight.cols);
  detail::expect_equal("gemv", "y.dtype", y.dtype, "x.dtype", x.dtype);
  detail::expect_bias("gemv", bias, weight.rows, x.dtype);
  check(nf4_gemv(handle.get(), y.data, x.data, x.dtype, &weight, bias.data, &options, stream));
}

// y [m, N] = x [m, K] W^T + bias [N].
inline void gemm(const Handle& handle, Matrix y, ConstMatrix x, const nf4_weight_t& weight, ConstData bias = {},
                 const Options& options = {}, nf4_stream_t stream = nullptr) {
  detail::expect_equal("gemm", "y.rows", y.rows, "x.rows", x.rows);
  detail::expect_equal("gemm", "y.cols", y.cols, "weight.rows", weight.rows);
  detail::expect_equal("gemm", "x.cols", x.cols, "weight.cols", weight.cols);
  detail::expect_equal("gemm", "y.dtype", y.dtype, "x.dtype", x.dtype);
  detail::expect_bias("gemm", bias, weight.rows, x.dtype);
  check(nf4_gemm(handle.get(), y.data, y.ld, x.data, x.ld, x.rows, x.dtype, &weight, bias.data, &options, stream));
}

// Bytes of workspace that a gemm of m rows of x makes use of.
inline std::size_t gemm_workspace(const Handle& handle, std::int64_t m, nf4_dtype_t dtype, const nf4_weight_t& weight) {
  std::size_t bytes = 0;
  check(nf4_gemm_workspace(handle.get(), m, dtype, &weight, &bytes));
  return bytes;
}

// y [m, K] = x [m, N] W.
inline void gemm_transposed(const Handle& handle, Matrix y, ConstMatrix x, const nf4_weight_t& weight,
                            const Options& options = {}, nf4_stream_t stream = nullptr) {
  detail::expect_equal("gemm_transposed", "y.rows", y.rows, "x.rows", x.rows);
  detail::expect_equal("gemm_transposed", "y.cols", y.cols, "weight.cols", weight.cols);
  detail::expect_equal("gemm_transposed", "x.cols", x.cols, "weight.rows", weight.rows);
  detail::expect_equal("gemm_transposed", "y.dtype", y.dtype, "x.dtype", x.dtype);
  check(nf4_gemm_transposed(handle.get(), y.data, y.ld, x.data, x.ld, x.rows, x.dtype, &weight, &options, stream));
}

// Bytes of workspace that a gemm_transposed of m rows of x makes use of.
inline std::size_t gemm_transposed_workspace(const Handle& handle, std::int64_t m, nf4_dtype_t dtype,
                                             const nf4_weight_t& weight) {
  std::size_t bytes = 0;
  check(nf4_gemm_transposed_workspace(handle.get(), m, dtype, &weight, &bytes));
  return bytes;
}

// One of the products of gemm_group. The weight is a reference that outlives the call: a temporary is refused.
struct Product {
  Matrix y;
  std::reference_wrapper<const nf4_weight_t> weight;
  ConstData bias = {};
};

// y [m, N] = x [m, K] W^T + bias [N] for each product, launched together where that can be.
inline void gemm_group(const Handle& handle, const std::vector<Product>& products, ConstMatrix x,
                       const Options& options = {}, nf4_stream_t stream = nullptr) {
  std::vector<nf4_product_t> views;
  for (const Product& product : products) {
    const nf4_weight_t& weight = product.weight;
    detail::expect_equal("gemm_group", "y.rows", product.y.rows, "x.rows", x.rows);
    detail::expect_equal("gemm_group", "y.cols", product.y.cols, "weight.rows", weight.rows);
    detail::expect_equal("gemm_group", "x.cols", x.cols, "weight.cols", weight.cols);
    detail::expect_equal("gemm_group", "y.dtype", product.y.dtype, "x.dtype", x.dtype);
    detail::expect_bias("gemm_group", product.bias, weight.rows, x.dtype);
    views.push_back({sizeof(nf4_product_t), product.y.data, product.y.ld, &weight, product.bias.data});
  }
  check(nf4_gemm_group(handle.get(), views.data(), views.size(), x.data, x.ld, x.rows, x.dtype, &options, stream));
}

// Bytes of workspace that a gemm_group of these products, each with a y of the same rows, makes use of.
inline std::size_t gemm_group_workspace(const Handle& handle, const std::vector<Product>& products) {
  std::vector<nf4_product_t> views;
  for (const Product& product : products) {
    views.push_back({sizeof(nf4_product_t), product.y.data, product.y.ld, &product.weight.get(), product.bias.data});
  }
  std::size_t bytes = 0;
  if (views.empty()) return bytes;
  const Matrix& y = products.front().y;
  check(nf4_gemm_group_workspace(handle.get(), views.data(), views.size(), y.rows, y.dtype, &bytes));
  return bytes;
}

// Which of `experts` experts each slot is of: by ids, or by ends and perhaps an order. See nf4_routing_t.
struct Routing : nf4_routing_t {
  Routing() : nf4_routing_t NF4_ROUTING_INIT {}

  // By the ids [tokens, top_k] of a router.
  static Routing of_ids(std::int64_t experts, Span<const std::int32_t> ids, std::int64_t top_k) {
    return of_ids(experts, ids.data, ids.size, NF4_I32, top_k);
  }
  static Routing of_ids(std::int64_t experts, Span<const std::int64_t> ids, std::int64_t top_k) {
    return of_ids(experts, ids.data, ids.size, NF4_I64, top_k);
  }

  // By what sort_experts writes.
  static Routing of_sorted(Span<const std::int32_t> order, Span<const std::int32_t> ends, std::int64_t top_k) {
    Routing routing;
    routing.experts = ends.size;
    routing.slots = order.size;
    routing.top_k = top_k;
    routing.order = order.data;
    routing.ends = ends.data;
    return routing;
  }

  Routing& scaled_by(Span<const float> scales) {
    detail::expect_size("Routing", "scale", scales.size, slots);
    scale = scales.data;
    return *this;
  }

 private:
  static Routing of_ids(std::int64_t experts, const void* ids, std::int64_t slots, nf4_dtype_t dtype,
                        std::int64_t top_k) {
    Routing routing;
    routing.experts = experts;
    routing.slots = slots;
    routing.top_k = top_k;
    routing.ids = ids;
    routing.ids_dtype = dtype;
    return routing;
  }
};

// y [S, N] = x [S/top_k, K] W_e^T + bias_e, times scale, for the expert e of each slot.
inline void gemm_experts(const Handle& handle, Matrix y, ConstMatrix x, const nf4_weight_t& weight,
                         const nf4_routing_t& routing, ConstData bias = {}, const Options& options = {},
                         nf4_stream_t stream = nullptr) {
  const std::int64_t rows = routing.experts > 0 ? weight.rows / routing.experts : 0;
  detail::expect_equal("gemm_experts", "y.rows", y.rows, "routing.slots", routing.slots);
  detail::expect_equal("gemm_experts", "y.cols", y.cols, "weight.rows / routing.experts", rows);
  detail::expect_equal("gemm_experts", "x.rows", x.rows, "routing.slots / routing.top_k",
                       routing.top_k > 0 ? routing.slots / routing.top_k : x.rows);
  detail::expect_equal("gemm_experts", "x.cols", x.cols, "weight.cols", weight.cols);
  detail::expect_equal("gemm_experts", "y.dtype", y.dtype, "x.dtype", x.dtype);
  detail::expect_bias("gemm_experts", bias, weight.rows, x.dtype);
  check(nf4_gemm_experts(handle.get(), y.data, y.ld, x.data, x.ld, x.dtype, &weight, bias.data, &routing, &options,
                         stream));
}

// Bytes of workspace that such a gemm_experts makes use of.
inline std::size_t gemm_experts_workspace(const Handle& handle, nf4_dtype_t dtype, const nf4_weight_t& weight,
                                          const nf4_routing_t& routing) {
  std::size_t bytes = 0;
  check(nf4_gemm_experts_workspace(handle.get(), dtype, &weight, &routing, &bytes));
  return bytes;
}

// order [S] and ends [E] = the slots of routing.ids, sorted by expert.
inline void sort_experts(const Handle& handle, Span<std::int32_t> order, Span<std::int32_t> ends,
                         const nf4_routing_t& routing, const Options& options = {}, nf4_stream_t stream = nullptr) {
  detail::expect_size("sort_experts", "order", order.size, routing.slots);
  detail::expect_size("sort_experts", "ends", ends.size, routing.experts);
  check(nf4_sort_experts(handle.get(), order.data, ends.data, &routing, &options, stream));
}

// ------------------------------------------------------------------------------------------------------ variants ---

struct Problem : nf4_problem_t {
  Problem() : nf4_problem_t NF4_PROBLEM_INIT {}
};

inline nf4_selection_t select(const Handle& handle, const nf4_problem_t& problem, const Options& options = {}) {
  nf4_selection_t selection{};
  selection.struct_size = sizeof selection;
  check(nf4_select(handle.get(), &problem, &options, &selection));
  return selection;
}

// The variants of `op`, in default order.
inline std::vector<nf4_variant_info_t> variants(const Handle& handle, nf4_op_t op) {
  std::size_t count = 0;
  check(nf4_variant_count(handle.get(), op, &count));
  std::vector<nf4_variant_info_t> infos(count);
  for (std::size_t i = 0; i < count; ++i) {
    infos[i].struct_size = sizeof infos[i];
    check(nf4_variant_info(handle.get(), op, i, &infos[i]));
  }
  return infos;
}

}  // namespace v1
}  // namespace nf4

#endif
