// The operations, with arguments of any kind: each call must succeed if and only if nf4.h allows its arguments, which
// this file works out for itself, write nothing when it fails, and touch nothing but its operands.
#include <optional>
#include <vector>

#include "input.hpp"

namespace nf4fuzz {
namespace {

constexpr const char* kVariants[] = {"pack.host",         "unpack.host",         "gemm.host",
                                     "pack_absmax.host",  "unpack_absmax.host",  "gemm_experts.host",
                                     "sort_experts.host", "gemm_transposed.host"};

// Options, and whether a call of `op` may be given them. A call that has nothing to do does not select a variant.
class Options {
 public:
  Options(Input& input, nf4_op_t op) {
    if (!input.rarely(3)) return;
    given_ = true;
    options_.struct_size = input.struct_size(sizeof options_);
    known_ = options_.struct_size == sizeof options_;
    if (input.rarely(2)) {
      const int32_t variant = input.rarely(4) ? input.enumerator(NF4_OP_GEMM_TRANSPOSED) : op;
      const bool real = variant >= NF4_OP_PACK && variant <= NF4_OP_GEMM_TRANSPOSED;
      options_.variant = real ? kVariants[variant] : "gemm.nonsense";
      known_ = known_ && real;
      fits_ = variant == op;
    }
    if (input.rarely(4)) {
      config_ = input.text(8);
      options_.config = config_.c_str();
      known_ = known_ && options_.variant != nullptr && options_.config[0] == '\0';
    }
    if (input.rarely(4)) {
      options_.workspace = workspace_ + input.size(1);
      known_ = known_ && options_.workspace == workspace_;
    }
    if (input.rarely(4)) {
      options_.workspace_size = input.size(SIZE_MAX);
      known_ = known_ && (options_.workspace != nullptr || options_.workspace_size == 0);
    }
  }

  const nf4_options_t* get() const { return given_ ? &options_ : nullptr; }
  bool valid(bool nothing_to_do) const { return known_ && (fits_ || nothing_to_do); }

 private:
  alignas(256) uint8_t workspace_[256];
  nf4_options_t options_ = NF4_OPTIONS_INIT;
  std::string config_;
  bool given_ = false;
  bool known_ = true;
  bool fits_ = true;
};

// What all operations take.
struct Common {
  nf4_handle_t handle;
  nf4_stream_t stream;
  bool valid;

  explicit Common(Input& input)
      : handle(input.rarely(64) ? nullptr : host_handle()),
        stream(input.rarely(64) ? reinterpret_cast<nf4_stream_t>(uintptr_t{256}) : nullptr),
        valid(handle != nullptr && stream == nullptr) {}
};

// A weight view with memory of its own; of `cols` columns, if that is given, and rows that are a multiple of
// `multiple`, as a rule.
class Weight {
 public:
  Weight(Input& input, bool codes_used, std::optional<int64_t> cols = {}, int64_t multiple = 1)
      : view_(make_view(input, cols, multiple)),
        matrix_(is_matrix(view_.rows, view_.cols)),
        elements_(matrix_ ? Wide{view_.rows} * view_.cols : 0),
        blocks_(is_blocksize(view_.blocksize) ? ceil_div(elements_, view_.blocksize) : 0),
        nested_(view_.absmax_dtype == NF4_U8),
        codes_(input, codes_used ? ceil_div(elements_, 2) : 0, 1),
        absmax_(input, blocks_, size_of(view_.absmax_dtype)),
        map_(input, nested_ && blocks_ > 0 ? 256 : 0, sizeof(float)),
        absmax2_(input, nested_ ? ceil_div(blocks_, std::max(view_.absmax_blocksize, 1)) : 0, sizeof(float)),
        offset_(input, nested_ && blocks_ > 0 ? 1 : 0, sizeof(float)),
        null_(input.rarely(64)) {
    view_.codes = codes_.get<uint8_t>();
    view_.absmax = absmax_.get<void>();
    view_.absmax_map = map_.get<float>();
    view_.absmax2 = absmax2_.get<float>();
    view_.absmax_offset = offset_.get<float>();
    sizes_valid_ = !null_ && view_.struct_size == sizeof view_ && matrix_ && is_blocksize(view_.blocksize) &&
                   (view_.flags & ~uint32_t{NF4_WEIGHT_CONSTANT}) == 0 &&
                   (nested_ ? is_blocksize(view_.absmax_blocksize) : is_float(view_.absmax_dtype));
    const bool second_level = !nested_ || (map_.valid() && absmax2_.valid() && offset_.valid());
    valid_ = sizes_valid_ && second_level && absmax_.valid() && (!codes_used || codes_.valid());
  }

  const nf4_weight_t* get() const { return null_ ? nullptr : &view_; }
  bool valid() const { return valid_; }
  bool sizes_valid() const { return sizes_valid_; }  // whatever its pointers are
  int32_t blocksize() const { return view_.blocksize; }
  int64_t rows() const { return view_.rows; }
  int64_t cols() const { return view_.cols; }
  Wide elements() const { return elements_; }
  Wide blocks() const { return blocks_; }

 private:
  static nf4_weight_t make_view(Input& input, std::optional<int64_t> cols, int64_t multiple) {
    nf4_weight_t view = NF4_WEIGHT_INIT;
    view.struct_size = input.struct_size(sizeof view);
    view.rows = input.extent();
    if (view.rows > 0 && view.rows <= 70) view.rows *= multiple;
    view.cols = cols && !input.rarely(16) ? *cols : input.extent();
    view.blocksize = input.blocksize();
    view.absmax_dtype = input.enumerator(NF4_U8);
    view.absmax_blocksize = input.blocksize();
    view.flags = input.rarely(64) ? 2 : input.rarely(2) ? NF4_WEIGHT_CONSTANT : 0;
    return view;
  }

  nf4_weight_t view_;
  bool matrix_;
  Wide elements_, blocks_;
  bool nested_;
  Operand codes_, absmax_, map_, absmax2_, offset_;
  bool null_;
  bool sizes_valid_, valid_;
};

// Elements from the first of the first row to the last of the last.
Wide span(Wide rows, Wide leading, Wide cols) { return rows > 0 && cols > 0 ? (rows - 1) * leading + cols : 0; }

void pack(Input& input) {
  const Common common(input);
  const nf4_dtype_t dtype = input.enumerator(NF4_BF16);
  const int64_t rows = input.extent();
  const int64_t cols = input.extent();
  const int64_t ldw = input.leading(cols);
  const int32_t blocksize = input.blocksize();
  const bool sizes = is_matrix(rows, cols) && is_leading(ldw, cols, rows) && is_blocksize(blocksize);
  const Wide elements = sizes ? Wide{rows} * cols : 0;
  const Operand codes(input, ceil_div(elements, 2), 1, true);
  const Operand absmax(input, ceil_div(elements, blocksize), sizeof(float), true);
  const Operand w(input, sizes ? span(rows, ldw, cols) : 0, size_of(dtype));
  const Options options(input, NF4_OP_PACK);
  const nf4_status_t status = nf4_pack(common.handle, codes.get<uint8_t>(), absmax.get<float>(), w.get<void>(), ldw,
                                       dtype, rows, cols, blocksize, options.get(), common.stream);
  check_status(status, common.valid && is_float(dtype) && sizes && codes.valid() && absmax.valid() && w.valid() &&
                           options.valid(elements == 0));
  FUZZ_CHECK(status == NF4_SUCCESS || (codes.untouched() && absmax.untouched()));
}

void unpack(Input& input) {
  const Common common(input);
  const nf4_dtype_t dtype = input.enumerator(NF4_BF16);
  const Weight weight(input, true);
  const int64_t ldw = input.leading(weight.cols());
  const bool sizes = is_matrix(weight.rows(), weight.cols()) && is_leading(ldw, weight.cols(), weight.rows());
  const Operand w(input, sizes ? span(weight.rows(), ldw, weight.cols()) : 0, size_of(dtype), true);
  const Options options(input, NF4_OP_UNPACK);
  const nf4_status_t status =
      nf4_unpack(common.handle, w.get<void>(), ldw, dtype, weight.get(), options.get(), common.stream);
  check_status(status, common.valid && is_float(dtype) && weight.valid() && sizes && w.valid() &&
                           options.valid(weight.elements() == 0));
  FUZZ_CHECK(status == NF4_SUCCESS || w.untouched());
}

void pack_absmax(Input& input) {
  const Common common(input);
  const int64_t count = input.extent();
  const int32_t blocksize = input.blocksize();
  const bool sizes = is_matrix(1, count) && is_blocksize(blocksize);
  const Wide elements = sizes ? count : 0;
  const Operand codes(input, elements, 1, true);
  const Operand absmax2(input, ceil_div(elements, blocksize), sizeof(float), true);
  const Operand offset(input, 1, sizeof(float), true);
  const Operand absmax(input, elements, sizeof(float));
  const Operand map(input, elements > 0 ? 256 : 0, sizeof(float));
  const Options options(input, NF4_OP_PACK_ABSMAX);
  const nf4_status_t status =
      nf4_pack_absmax(common.handle, codes.get<uint8_t>(), absmax2.get<float>(), offset.get<float>(),
                      absmax.get<float>(), count, map.get<float>(), blocksize, options.get(), common.stream);
  check_status(status, common.valid && sizes && codes.valid() && absmax2.valid() && offset.valid() && absmax.valid() &&
                           map.valid() && options.valid(false));
  FUZZ_CHECK(status == NF4_SUCCESS || (codes.untouched() && absmax2.untouched() && offset.untouched()));
}

void unpack_absmax(Input& input) {
  const Common common(input);
  const Weight weight(input, false);
  const Operand out(input, weight.blocks(), sizeof(float), true);
  const Options options(input, NF4_OP_UNPACK_ABSMAX);
  const nf4_status_t status =
      nf4_unpack_absmax(common.handle, out.get<float>(), weight.get(), options.get(), common.stream);
  check_status(status, common.valid && weight.valid() && out.valid() && options.valid(weight.blocks() == 0));
  FUZZ_CHECK(status == NF4_SUCCESS || out.untouched());
}

void product(Input& input, bool gemv) {
  const Common common(input);
  const nf4_dtype_t dtype = input.enumerator(NF4_BF16);
  const Weight weight(input, true);
  const int64_t n = weight.rows();
  const int64_t k = weight.cols();
  const int64_t m = gemv ? 1 : input.extent();
  const int64_t ldx = gemv ? k : input.leading(k);
  const int64_t ldy = gemv ? n : input.leading(n);
  const bool sizes =
      is_matrix(n, k) && is_matrix(m, k) && is_matrix(m, n) && is_leading(ldx, k, m) && is_leading(ldy, n, m);
  const bool empty = sizes && (m == 0 || n == 0);
  const Operand y(input, sizes ? span(m, ldy, n) : 0, size_of(dtype), true);
  const Operand x(input, sizes && !empty ? span(m, ldx, k) : 0, size_of(dtype));
  const Operand bias_memory(input, sizes && !empty ? n : 0, size_of(dtype));
  void* const bias = input.rarely(2) ? bias_memory.get<void>() : nullptr;
  const Options options(input, NF4_OP_GEMM);
  const nf4_status_t status = gemv ? nf4_gemv(common.handle, y.get<void>(), x.get<void>(), dtype, weight.get(), bias,
                                              options.get(), common.stream)
                                   : nf4_gemm(common.handle, y.get<void>(), ldy, x.get<void>(), ldx, m, dtype,
                                              weight.get(), bias, options.get(), common.stream);
  check_status(status, common.valid && is_float(dtype) && weight.valid() && sizes && y.valid() && x.valid() &&
                           (bias == nullptr || bias_memory.valid()) && options.valid(empty));
  FUZZ_CHECK(status == NF4_SUCCESS || y.untouched());
}

void transposed(Input& input) {
  const Common common(input);
  const nf4_dtype_t dtype = input.enumerator(NF4_BF16);
  const Weight weight(input, true);
  const int64_t n = weight.rows();
  const int64_t k = weight.cols();
  const int64_t m = input.extent();
  const int64_t ldx = input.leading(n);
  const int64_t ldy = input.leading(k);
  const bool fits = is_matrix(n, k) && is_matrix(m, k) && is_matrix(m, n);
  const bool sizes = fits && is_leading(ldx, n, m) && is_leading(ldy, k, m);
  const bool empty = sizes && (m == 0 || k == 0);
  const Operand y(input, sizes ? span(m, ldy, k) : 0, size_of(dtype), true);
  const Operand x(input, sizes && !empty ? span(m, ldx, n) : 0, size_of(dtype));
  const Options options(input, NF4_OP_GEMM_TRANSPOSED);
  const nf4_status_t status = nf4_gemm_transposed(common.handle, y.get<void>(), ldy, x.get<void>(), ldx, m, dtype,
                                                  weight.get(), options.get(), common.stream);
  check_status(status, common.valid && is_float(dtype) && weight.valid() && sizes && y.valid() && x.valid() &&
                           options.valid(empty));
  FUZZ_CHECK(status == NF4_SUCCESS || y.untouched());
  size_t bytes = 99;
  const bool known = weight.get() != nullptr && weight.sizes_valid();
  check_status(nf4_gemm_transposed_workspace(host_handle(), m, dtype, weight.get(), &bytes),
               is_float(dtype) && known && fits);
  FUZZ_CHECK(bytes == 0 || bytes == 99);
}

// One of the products of an x.
struct Factor {
  Weight weight;
  int64_t ldy;
  bool sizes;  // as nf4.h takes them
  bool empty;  // it has nothing to do
  Operand y, bias;
  bool biased;
  size_t struct_size;

  Factor(Input& input, int64_t m, int64_t ldx, nf4_dtype_t dtype, std::optional<int64_t> cols)
      : weight(input, true, cols),
        ldy(input.leading(weight.rows())),
        sizes(is_matrix(weight.rows(), weight.cols()) && is_matrix(m, weight.cols()) && is_matrix(m, weight.rows()) &&
              is_leading(ldx, weight.cols(), m) && is_leading(ldy, weight.rows(), m)),
        empty(sizes && (m == 0 || weight.rows() == 0)),
        y(input, sizes ? span(m, ldy, weight.rows()) : 0, size_of(dtype), true),
        bias(input, sizes && !empty ? weight.rows() : 0, size_of(dtype)),
        biased(input.rarely(2)),
        struct_size(input.struct_size(sizeof(nf4_product_t))) {}

  nf4_product_t view() const {
    return {struct_size, y.get<void>(), ldy, weight.get(), biased ? bias.get<void>() : nullptr};
  }
  bool valid() const {
    return struct_size == sizeof(nf4_product_t) && weight.valid() && sizes && y.valid() &&
           (view().bias == nullptr || bias.valid());
  }
};

void group(Input& input) {
  const Common common(input);
  const nf4_dtype_t dtype = input.enumerator(NF4_BF16);
  const int64_t m = input.extent();
  const int64_t k = input.extent();
  const int64_t ldx = input.leading(k);
  const size_t count = input.size(6);
  std::vector<std::unique_ptr<Factor>> factors;
  std::vector<nf4_product_t> products;
  bool valid = common.valid && (count == 0 || is_float(dtype));
  bool empty = true;
  for (size_t i = 0; i < count; ++i) {
    factors.push_back(std::make_unique<Factor>(input, m, ldx, dtype, k));
    products.push_back(factors.back()->view());
    valid = valid && factors.back()->valid() && factors.back()->weight.cols() == factors.front()->weight.cols();
    empty = empty && factors.back()->empty;
  }
  const int64_t cols = count > 0 ? factors.front()->weight.cols() : 0;
  const Operand x(input, valid && !empty ? span(m, ldx, cols) : 0, size_of(dtype));
  const Options options(input, NF4_OP_GEMM);
  const bool null = input.rarely(64);
  const nf4_status_t status = nf4_gemm_group(common.handle, null ? nullptr : products.data(), count, x.get<void>(), ldx,
                                             m, dtype, options.get(), common.stream);
  check_status(status, valid && (count == 0 || (!null && x.valid())) && options.valid(empty));
  for (const auto& factor : factors) FUZZ_CHECK(status == NF4_SUCCESS || factor->y.untouched());
}

// A routing with memory of its own. Ids and ends may hold anything, and so does order, which need not be a permutation.
class Routing {
 public:
  explicit Routing(Input& input)
      : view_(make_view(input)),
        sizes_(view_.experts >= 0 && view_.experts <= INT32_MAX && view_.slots >= 0 && view_.slots <= INT32_MAX &&
               view_.top_k >= 1 && view_.slots % view_.top_k == 0 && view_.reserved == 0),
        id_size_(view_.ids_dtype == NF4_I64 ? 8 : 4),
        by_ids_(!input.rarely(2)),
        ids_(input, sizes_ ? view_.slots : 0, id_size_),
        ends_(input, sizes_ ? view_.experts : 0, sizeof(int32_t)),
        order_(input, sizes_ ? view_.slots : 0, sizeof(int32_t)),
        scale_(input, sizes_ ? view_.slots : 0, sizeof(float)),
        null_(input.rarely(64)) {
    const bool other = input.rarely(32);  // ids besides ends, or none of them
    if (by_ids_ || other) view_.ids = ids_.get<void>();
    if (by_ids_ == other) view_.ends = ends_.get<int32_t>();
    if (input.rarely(by_ids_ ? 32 : 2)) view_.order = order_.get<int32_t>();
    if (input.rarely(2)) view_.scale = scale_.get<float>();
  }

  const nf4_routing_t* get() const { return null_ ? nullptr : &view_; }
  bool sizes_valid() const { return !null_ && view_.struct_size == sizeof view_ && sizes_; }
  // For a product: ids, or ends that may have an order.
  bool valid() const {
    const bool either = (view_.ids == nullptr) != (view_.ends == nullptr) ||
                        (view_.ids == nullptr && view_.ends == nullptr && view_.slots == 0);
    return sizes_valid() && either && (view_.order == nullptr || view_.ends != nullptr) && ids_valid(true) &&
           (view_.ends == nullptr || ends_.valid()) && (view_.order == nullptr || order_.valid()) &&
           (view_.scale == nullptr || scale_.valid());
  }
  // For a sort: ids, which may be null where there are no slots.
  bool sortable() const {
    return sizes_valid() && view_.ends == nullptr && view_.order == nullptr && ids_valid(false) &&
           (view_.ids != nullptr || view_.slots == 0);
  }
  int64_t experts() const { return view_.experts; }
  int64_t slots() const { return view_.slots; }
  int64_t rows_of_x() const { return sizes_ ? view_.slots / view_.top_k : 0; }

 private:
  static nf4_routing_t make_view(Input& input) {
    nf4_routing_t view = NF4_ROUTING_INIT;
    view.struct_size = input.struct_size(sizeof view);
    const int64_t top_k = 1 + static_cast<int64_t>(input.size(3));
    view.top_k = input.rarely(16) ? input.extent() : top_k;
    view.slots = input.rarely(16) ? input.extent() : top_k * static_cast<int64_t>(input.size(5));
    view.experts = input.rarely(16) ? input.extent() : static_cast<int64_t>(input.size(4));
    view.ids_dtype = input.rarely(32) ? input.enumerator(NF4_I64) : input.rarely(2) ? NF4_I32 : NF4_I64;
    view.reserved = input.rarely(64) ? 1 : 0;
    return view;
  }
  bool ids_valid(bool may_lack) const {
    if (may_lack && view_.ids == nullptr) return true;
    return (view_.ids_dtype == NF4_I32 || view_.ids_dtype == NF4_I64) && (view_.ids == nullptr || ids_.valid());
  }

  nf4_routing_t view_;
  bool sizes_;
  size_t id_size_;
  bool by_ids_;
  Operand ids_, ends_, order_, scale_;
  bool null_;
};

void experts(Input& input) {
  const Common common(input);
  const nf4_dtype_t dtype = input.enumerator(NF4_BF16);
  const Routing routing(input);
  const int64_t count = routing.experts();
  // Rows that the experts share, of columns that fill blocks, as a rule.
  const Weight weight(input, true, 32 << input.size(2), count > 0 && count <= 4 ? count : 1);
  const int64_t k = weight.cols();
  const bool shared = count > 0 ? weight.rows() % count == 0 : weight.rows() == 0;
  const int64_t n = shared && count > 0 ? weight.rows() / count : 0;
  const bool blocks = is_blocksize(weight.blocksize()) && Wide{n} * k % weight.blocksize() == 0;
  const int64_t m = routing.rows_of_x();
  const int64_t ldx = input.leading(k);
  const int64_t ldy = input.leading(n);
  const bool fits = shared && blocks && routing.sizes_valid() && is_matrix(weight.rows(), k) &&
                    is_matrix(routing.slots(), k) && is_matrix(routing.slots(), n);
  const bool sizes = fits && is_leading(ldx, k, m) && is_leading(ldy, n, routing.slots());
  const bool empty = sizes && (routing.slots() == 0 || n == 0);
  const Operand y(input, sizes ? span(routing.slots(), ldy, n) : 0, size_of(dtype), true);
  const Operand x(input, sizes && !empty ? span(m, ldx, k) : 0, size_of(dtype));
  const Operand bias_memory(input, sizes && !empty ? weight.rows() : 0, size_of(dtype));
  void* const bias = input.rarely(2) ? bias_memory.get<void>() : nullptr;
  const Options options(input, NF4_OP_GEMM_EXPERTS);
  const nf4_status_t status = nf4_gemm_experts(common.handle, y.get<void>(), ldy, x.get<void>(), ldx, dtype,
                                               weight.get(), bias, routing.get(), options.get(), common.stream);
  check_status(status, common.valid && is_float(dtype) && weight.valid() && routing.valid() && sizes && y.valid() &&
                           x.valid() && (bias == nullptr || bias_memory.valid()) && options.valid(empty));
  FUZZ_CHECK(status == NF4_SUCCESS || y.untouched());
  size_t bytes = 99;
  const bool known = weight.get() != nullptr && weight.sizes_valid();
  check_status(nf4_gemm_experts_workspace(host_handle(), dtype, weight.get(), routing.get(), &bytes),
               is_float(dtype) && known && fits);
  FUZZ_CHECK(bytes == 0 || bytes == 99);
}

void sort(Input& input) {
  const Common common(input);
  const Routing routing(input);
  const bool sizes = routing.sizes_valid();
  const Operand order(input, sizes ? routing.slots() : 0, sizeof(int32_t), true);
  const Operand ends(input, sizes ? routing.experts() : 0, sizeof(int32_t), true);
  const Options options(input, NF4_OP_SORT_EXPERTS);
  const nf4_status_t status = nf4_sort_experts(common.handle, order.get<int32_t>(), ends.get<int32_t>(), routing.get(),
                                               options.get(), common.stream);
  check_status(status, common.valid && routing.sortable() && order.valid() && ends.valid() &&
                           options.valid(routing.slots() == 0 && routing.experts() == 0));
  FUZZ_CHECK(status == NF4_SUCCESS || (order.untouched() && ends.untouched()));
}

}  // namespace
}  // namespace nf4fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace nf4fuzz;
  Input input(data, size);
  switch (input.enumerator(9)) {
    case 0:
      pack(input);
      break;
    case 1:
      unpack(input);
      break;
    case 2:
      pack_absmax(input);
      break;
    case 3:
      unpack_absmax(input);
      break;
    case 4:
      product(input, true);
      break;
    case 5:
      group(input);
      break;
    case 7:
      experts(input);
      break;
    case 8:
      sort(input);
      break;
    case 9:
      transposed(input);
      break;
    default:
      product(input, false);
  }
  return 0;
}
