// One call of any operation, with random operands in an arena: for tests that ask how calls behave rather than what
// they compute, on shapes small enough to be run many times or under compute-sanitizer.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "operands.hpp"
#include "registry.hpp"
#include "routing.hpp"

namespace nf4test {

struct Shape {
  int64_t m, n, k;  // m rows of x count for a product alone; pack_absmax takes n * k scales, sort_experts n * k slots
  int32_t blocksize = 64;
  nf4_dtype_t absmax_dtype = NF4_F32;
  bool aligned = true;  // else every operand begins one element past an aligned address
  int products = 1;     // of x, each by a W with 5 rows more than the one before
  int64_t experts = 3;  // of n rows, or so many more that none begins inside of a block
  int64_t top_k = 2;
  Form form = Form::ids64;

  int64_t rows(int product) const { return n + 5 * product; }
  std::string text() const {
    return "m " + std::to_string(m) + " n " + std::to_string(n) + " k " + std::to_string(k) + " blocksize " +
           std::to_string(blocksize) + " absmax " + std::to_string(absmax_dtype) + (aligned ? "" : " unaligned") +
           (products > 1 ? " products " + std::to_string(products) : "") + " experts " + std::to_string(experts) +
           " top_k " + std::to_string(top_k) + " form " + std::to_string(static_cast<int>(form));
  }
};

inline constexpr nf4_op_t kAllOps[] = {NF4_OP_PACK,         NF4_OP_UNPACK,         NF4_OP_GEMM,
                                       NF4_OP_PACK_ABSMAX,  NF4_OP_UNPACK_ABSMAX,  NF4_OP_GEMM_EXPERTS,
                                       NF4_OP_SORT_EXPERTS, NF4_OP_GEMM_TRANSPOSED};

// The dtypes that an operation is called with; the scales of the absmax operations are fp32, and slots have none.
inline std::vector<nf4_dtype_t> dtypes_of(nf4_op_t op) {
  const bool one = op == NF4_OP_PACK_ABSMAX || op == NF4_OP_UNPACK_ABSMAX || op == NF4_OP_SORT_EXPERTS;
  return one ? std::vector<nf4_dtype_t>{NF4_F32} : kDtypes;
}

class Call {
 public:
  // The same arguments give the same operands, on the host and on a GPU.
  Call(bool on_host, nf4_op_t op, nf4_dtype_t dtype, const Shape& shape)
      : op_(op), dtype_(dtype), shape_(shape), arena_(on_host) {
    std::mt19937 random(29);
    switch (op) {
      case NF4_OP_PACK:
        prepare_pack(random);
        break;
      case NF4_OP_UNPACK:
        prepare_unpack(random);
        break;
      case NF4_OP_GEMM:
        prepare_gemm(random);
        break;
      case NF4_OP_PACK_ABSMAX:
        prepare_pack_absmax(random);
        break;
      case NF4_OP_GEMM_EXPERTS:
        prepare_gemm_experts(random);
        break;
      case NF4_OP_SORT_EXPERTS:
        prepare_sort_experts(random);
        break;
      case NF4_OP_GEMM_TRANSPOSED:
        prepare_gemm_transposed(random);
        break;
      default:
        prepare_unpack_absmax(random);
    }
    arena_.upload();
    for (Factor& factor : factors_) {
      factor.view = factor.weight->view();
      products_.push_back(
          {sizeof(nf4_product_t), arena_.at(factor.y), factor.view.rows, &factor.view, arena_.at(factor.bias)});
    }
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  nf4_status_t run(const Backend& backend, const nf4_options_t* options, nf4_stream_t stream = nullptr) const {
    return call_(backend.handle(), options, stream);
  }

  // All outputs, once the call is done.
  std::vector<uint8_t> outputs() {
    std::vector<uint8_t> bytes;
    for (const Arena::Slot& slot : outputs_) {
      arena_.download(slot);
      const auto* data = arena_.after<uint8_t>(slot);
      bytes.insert(bytes.end(), data, data + slot.size);
    }
    return bytes;
  }

  // Makes the outputs NaN again.
  void poison() {
    for (const Arena::Slot& slot : outputs_) arena_.poison(slot);
  }

  // Fails unless the outputs are what they should be, a product within its bound, all else what the host backend
  // computes, to the bit; and if anything else was written.
  void check(const char* accuracy) {
    arena_.download();
    CHECK(arena_.trespass(outputs_) == "");
    const std::vector<uint8_t> found = outputs();
    if (op_ == NF4_OP_GEMM) {
      for (const Factor& factor : factors_) {
        const nf4ref::Product product{factor.data.view(),        arena_.before(x_), shape_.k, shape_.m, dtype_,
                                      arena_.before(factor.bias)};
        nf4ref::Verdict verdict(dtype_, nf4ref::accuracy_g(accuracy, dtype_, shape_.k));
        verdict.add_all(arena_.after(factor.y), factor.data.rows, nf4ref::references(product), shape_.m,
                        factor.data.rows);
        INFO("W of " << factor.data.rows << " rows: " << verdict.first_violation());
        CHECK(verdict.violations() == 0);
      }
    } else if (op_ == NF4_OP_GEMM_EXPERTS) {
      const std::vector<int64_t> expert = routing_.expert();
      const nf4ref::RoutedProduct routed{
          {data_.view(), arena_.before(x_), shape_.k, shape_.m, dtype_, arena_.before(bias_)},
          shape_.experts,
          routing_.slots(),
          shape_.top_k,
          expert.data(),
          routing_.scale.data()};
      nf4ref::Verdict verdict(dtype_, nf4ref::accuracy_g(accuracy, dtype_, shape_.k));
      verdict.add_all(arena_.after(outputs_.front()), rows_of_expert(), nf4ref::references(routed), routing_.slots(),
                      rows_of_expert());
      INFO(verdict.first_violation());
      CHECK(verdict.violations() == 0);
    } else if (op_ == NF4_OP_GEMM_TRANSPOSED) {
      const nf4ref::TransposedProduct product{data_.view(), arena_.before(x_), shape_.n, shape_.m, dtype_};
      nf4ref::Verdict verdict(dtype_, nf4ref::accuracy_g(accuracy, dtype_, shape_.n));
      verdict.add_all(arena_.after(outputs_.front()), shape_.k, nf4ref::references(product), shape_.m, shape_.k);
      INFO(verdict.first_violation());
      CHECK(verdict.violations() == 0);
    } else {
      const Backend host(NF4_HOST_DEVICE);
      Call twin(true, op_, dtype_, shape_);
      require_success(twin.run(host, nullptr));
      CHECK(found == twin.outputs());
    }
  }

 private:
  using Function = std::function<nf4_status_t(nf4_handle_t, const nf4_options_t*, nf4_stream_t)>;

  size_t size_of_dtype() const { return static_cast<size_t>(nf4ref::size_of(dtype_)); }
  size_t elements() const { return static_cast<size_t>(shape_.n * shape_.k); }
  size_t blocks_of(size_t count) const {
    return (count + static_cast<size_t>(shape_.blocksize) - 1) / static_cast<size_t>(shape_.blocksize);
  }
  size_t skew(size_t element) const { return shape_.aligned ? 0 : element; }

  Arena::Slot add_output(size_t count, size_t element) {
    outputs_.push_back(arena_.add_output(count * element, skew(element)));
    return outputs_.back();
  }
  Arena::Slot add_values(std::mt19937& random, size_t count, float low, float high, nf4_dtype_t dtype) {
    return arena_.add(raw(uniform(random, count, low, high), dtype), skew(static_cast<size_t>(nf4ref::size_of(dtype))));
  }
  void add_weight(std::mt19937& random) {
    data_ = random_weight(random, shape_.n, shape_.k, shape_.blocksize, shape_.absmax_dtype);
    weight_ = std::make_unique<ArenaWeight>(arena_, data_, skew(1));
  }

  void prepare_pack(std::mt19937& random) {
    const Arena::Slot w = add_values(random, elements(), -1.0f, 1.0f, dtype_);
    const Arena::Slot codes = add_output((elements() + 1) / 2, 1);
    const Arena::Slot absmax = add_output(blocks_of(elements()), sizeof(float));
    call_ = [=, this](nf4_handle_t handle, const nf4_options_t* options, nf4_stream_t stream) {
      return nf4_pack(handle, arena_.at<uint8_t>(codes), arena_.at<float>(absmax), arena_.at(w), shape_.k, dtype_,
                      shape_.n, shape_.k, shape_.blocksize, options, stream);
    };
  }

  void prepare_unpack(std::mt19937& random) {
    add_weight(random);
    const Arena::Slot w = add_output(elements(), size_of_dtype());
    call_ = [=, this](nf4_handle_t handle, const nf4_options_t* options, nf4_stream_t stream) {
      const nf4_weight_t view = weight_->view();
      return nf4_unpack(handle, arena_.at(w), shape_.k, dtype_, &view, options, stream);
    };
  }

  void prepare_gemm(std::mt19937& random) {
    x_ = add_values(random, static_cast<size_t>(shape_.m * shape_.k), -1.0f, 1.0f, dtype_);
    for (int i = 0; i < shape_.products; ++i) {
      const int64_t rows = shape_.rows(i);
      Factor& factor =
          factors_.emplace_back(random_weight(random, rows, shape_.k, shape_.blocksize, shape_.absmax_dtype));
      for (float& value : factor.data.map) value *= static_cast<float>(4 + i) / 4;  // whose is whose must show
      for (float& value : factor.data.offset) value *= static_cast<float>(4 + i) / 4;
      factor.weight = std::make_unique<ArenaWeight>(arena_, factor.data, skew(1));
      factor.bias = add_values(random, static_cast<size_t>(rows), -1.0f, 1.0f, dtype_);
      factor.y = add_output(static_cast<size_t>(shape_.m * rows), size_of_dtype());
    }
    call_ = [this](nf4_handle_t handle, const nf4_options_t* options, nf4_stream_t stream) {
      const nf4_product_t& first = products_.front();
      return products_.size() > 1 ? nf4_gemm_group(handle, products_.data(), products_.size(), arena_.at(x_), shape_.k,
                                                   shape_.m, dtype_, options, stream)
                                  : nf4_gemm(handle, first.y, first.ldy, arena_.at(x_), shape_.k, shape_.m, dtype_,
                                             first.weight, first.bias, options, stream);
    };
  }

  void prepare_gemm_transposed(std::mt19937& random) {
    add_weight(random);
    x_ = add_values(random, static_cast<size_t>(shape_.m * shape_.n), -1.0f, 1.0f, dtype_);
    const Arena::Slot y = add_output(static_cast<size_t>(shape_.m * shape_.k), size_of_dtype());
    call_ = [=, this](nf4_handle_t handle, const nf4_options_t* options, nf4_stream_t stream) {
      const nf4_weight_t view = weight_->view();
      return nf4_gemm_transposed(handle, arena_.at(y), shape_.k, arena_.at(x_), shape_.n, shape_.m, dtype_, &view,
                                 options, stream);
    };
  }

  void prepare_pack_absmax(std::mt19937& random) {
    const Arena::Slot absmax = add_values(random, elements(), 0.01f, 0.05f, NF4_F32);
    const Arena::Slot map = arena_.add(dynamic_map(), skew(sizeof(float)));
    const Arena::Slot codes = add_output(elements(), 1);
    const Arena::Slot absmax2 = add_output(blocks_of(elements()), sizeof(float));
    const Arena::Slot offset = add_output(1, sizeof(float));
    call_ = [=, this](nf4_handle_t handle, const nf4_options_t* options, nf4_stream_t stream) {
      return nf4_pack_absmax(handle, arena_.at<uint8_t>(codes), arena_.at<float>(absmax2), arena_.at<float>(offset),
                             arena_.at<float>(absmax), shape_.n * shape_.k, arena_.at<float>(map), shape_.blocksize,
                             options, stream);
    };
  }

  void prepare_unpack_absmax(std::mt19937& random) {
    add_weight(random);
    const Arena::Slot out = add_output(blocks_of(elements()), sizeof(float));
    call_ = [=, this](nf4_handle_t handle, const nf4_options_t* options, nf4_stream_t stream) {
      const nf4_weight_t view = weight_->view();
      return nf4_unpack_absmax(handle, arena_.at<float>(out), &view, options, stream);
    };
  }

  int64_t rows_of_expert() const { return whole_blocks(shape_.n, shape_.k, shape_.blocksize); }

  void prepare_gemm_experts(std::mt19937& random) {
    const int64_t rows = rows_of_expert();
    data_ = random_weight(random, shape_.experts * rows, shape_.k, shape_.blocksize, shape_.absmax_dtype);
    weight_ = std::make_unique<ArenaWeight>(arena_, data_, skew(1));
    routing_ = random_routing(random, shape_.experts, shape_.m, shape_.top_k, shape_.form, shape_.experts, 10);
    arena_routing_ = std::make_unique<ArenaRouting>(arena_, routing_);
    x_ = add_values(random, static_cast<size_t>(shape_.m * shape_.k), -1.0f, 1.0f, dtype_);
    bias_ = add_values(random, static_cast<size_t>(shape_.experts * rows), -1.0f, 1.0f, dtype_);
    const Arena::Slot y = add_output(static_cast<size_t>(routing_.slots() * rows), size_of_dtype());
    call_ = [=, this](nf4_handle_t handle, const nf4_options_t* options, nf4_stream_t stream) {
      const nf4_weight_t view = weight_->view();
      const nf4_routing_t routing = arena_routing_->view();
      return nf4_gemm_experts(handle, arena_.at(y), rows, arena_.at(x_), shape_.k, dtype_, &view, arena_.at(bias_),
                              &routing, options, stream);
    };
  }

  void prepare_sort_experts(std::mt19937& random) {
    const Form form = shape_.form == Form::ids32 ? Form::ids32 : Form::ids64;
    routing_ = random_routing(random, shape_.experts, shape_.n * shape_.k, 1, form, shape_.experts, 10, false);
    arena_routing_ = std::make_unique<ArenaRouting>(arena_, routing_);
    const Arena::Slot order = add_output(routing_.ids.size(), sizeof(int32_t));
    const Arena::Slot ends = add_output(static_cast<size_t>(shape_.experts), sizeof(int32_t));
    call_ = [=, this](nf4_handle_t handle, const nf4_options_t* options, nf4_stream_t stream) {
      const nf4_routing_t routing = arena_routing_->view();
      return nf4_sort_experts(handle, arena_.at<int32_t>(order), arena_.at<int32_t>(ends), &routing, options, stream);
    };
  }

  // What x is multiplied by.
  struct Factor {
    explicit Factor(WeightData the_data) : data(std::move(the_data)) {}

    WeightData data;
    std::unique_ptr<ArenaWeight> weight{};
    nf4_weight_t view{};
    Arena::Slot bias{}, y{};
  };

  nf4_op_t op_;
  nf4_dtype_t dtype_;
  Shape shape_;
  Arena arena_;
  WeightData data_{};  // unpacked, or of the experts
  std::unique_ptr<ArenaWeight> weight_;
  RoutingData routing_{};
  std::unique_ptr<ArenaRouting> arena_routing_;
  std::deque<Factor> factors_;
  std::vector<nf4_product_t> products_;  // by the factors
  Arena::Slot x_, bias_;
  std::vector<Arena::Slot> outputs_;
  Function call_;
};

// Every variant and config of `op`, with each dtype, on those of the shapes that it takes: makes the call, then
// visit(call, info, options). Of the shapes with several products, one that launches them one by one is tried on the
// first alone. Fails if a config takes none.
template <class Visit>
void for_each_call(const Backend& backend, nf4_op_t op, const std::vector<Shape>& shapes, const Visit& visit) {
  for_each_config(backend, op, [&](const nf4_variant_info_t& info, const nf4_options_t& options) {
    const bool groups = nf4::find_variant(info.name)->launch_group != nullptr;
    int taken = 0;
    for (const nf4_dtype_t dtype : dtypes_of(op)) {
      bool grouped = false;
      for (const Shape& shape : shapes) {
        if (shape.products > 1 && grouped && !groups) continue;
        grouped = grouped || shape.products > 1;
        INFO("dtype " << dtype << " " << shape.text());
        Call call(backend.on_host(), op, dtype, shape);
        const nf4_status_t status = call.run(backend, &options);
        if (status == NF4_ERROR_UNSUPPORTED) continue;
        require_success(status);
        ++taken;
        visit(call, info, options);
      }
    }
    CHECK(taken > 0);
  });
}

// Shapes that between them reach every kernel of every variant of `op`: each blocksize, aligned and not, rows that fill
// words and rows that do not, one row of x and several, plain and nested scales, one W and several.
inline std::vector<Shape> small_shapes(nf4_op_t op) {
  if (op == NF4_OP_GEMM) {
    return {{1, 17, 64},
            {1, 5, 192, 128, NF4_U8},
            {1, 3, 64, 32, NF4_F16},
            {1, 3, 33, 32, NF4_F16, false},
            {3, 17, 128},
            {3, 4, 64, 256, NF4_BF16, false},
            {9, 18, 64},
            {9, 18, 64, 4096, NF4_U8},
            {1, 17, 256},
            {2, 17, 256},
            {2, 5, 192, 128, NF4_U8},
            {3, 17, 256},
            {3, 5, 192, 128, NF4_BF16},
            {5, 33, 256},
            {5, 5, 192, 128, NF4_U8},
            {9, 33, 256},
            {20, 18, 256},
            {20, 5, 192, 128, NF4_U8},
            {40, 18, 256},
            {40, 5, 192, 128, NF4_F16},
            {9, 5, 128, 32},
            {20, 5, 128, 32, NF4_U8},
            {40, 5, 128, 32},
            {130, 3, 64},
            {130, 3, 128, 32, NF4_U8},
            {1, 14, 256, 64, NF4_U8, true, 5},
            {1, 30, 192, 64, NF4_F32, true, 3},
            {2, 14, 64, 64, NF4_F32, true, 2},
            {2, 14, 64, 64, NF4_U8, true, 2},
            {3, 14, 64, 64, NF4_F32, true, 2},
            {3, 14, 192, 128, NF4_U8, true, 3},
            {5, 30, 64, 64, NF4_F32, true, 2},
            {5, 30, 64, 64, NF4_U8, true, 2},
            {9, 30, 256, 64, NF4_F32, true, 2},
            {20, 14, 192, 64, NF4_U8, true, 2}};
  }
  if (op == NF4_OP_GEMM_EXPERTS) {
    return {{1, 17, 64},
            {9, 17, 64, 64, NF4_U8, true, 1, 4, 2, Form::sorted},
            {20, 5, 192, 128, NF4_F32, true, 1, 2, 1, Form::rows},
            {5, 9, 2112, 64, NF4_BF16, true, 1, 3, 2, Form::ids32},
            {3, 3, 33, 32, NF4_F16, false, 1, 3, 2, Form::ids64},
            {40, 3, 64, 256, NF4_F32, false, 1, 1, 1, Form::sorted},
            {90, 130, 128, 32, NF4_U8, true, 1, 1, 1, Form::rows},
            {150, 9, 64, 64, NF4_F32, true, 1, 1, 1, Form::ids32}};
  }
  if (op == NF4_OP_SORT_EXPERTS) {
    return {{1, 1, 1},
            {1, 3, 21, 64, NF4_F32, true, 1, 5, 1, Form::ids32},
            {1, 25, 43, 64, NF4_F32, false, 1, 40, 1, Form::ids64}};
  }
  if (op == NF4_OP_GEMM_TRANSPOSED) {
    return {{1, 17, 64},
            {3, 33, 264, 64, NF4_U8},
            {20, 70, 520, 4096, NF4_F16},
            {9, 40, 40, 32, NF4_BF16},
            {130, 40, 192, 32, NF4_U8},
            {20, 136, 128},
            {5, 9, 33, 32, NF4_F32, false}};
  }
  std::vector<Shape> shapes;
  for (const int32_t blocksize : kBlocksizes) {
    const nf4_dtype_t absmax_dtype = kAbsmaxDtypes[shapes.size() / 2 % kAbsmaxDtypes.size()];
    for (const bool aligned : {true, false}) {
      shapes.push_back({1, 3, blocksize / 2 + 24, blocksize, absmax_dtype, aligned});
    }
  }
  return shapes;
}

}  // namespace nf4test
