// nf4_gemm_group: every variant, forced, against the float64 oracle, on products that it may launch together and on
// such as it may not.
#include <cstring>
#include <deque>

#include "support/harness.hpp"
#include "support/operands.hpp"

namespace nf4test {
namespace {

struct Factor {
  int64_t rows;
  int32_t blocksize = 64;
  nf4_dtype_t absmax_dtype = NF4_F32;
  bool bias = true;
  size_t skew = 0;  // bytes by which codes and y lie off a multiple of 256
  bool constant = false;
};

struct Group {
  nf4_dtype_t dtype;
  int64_t m, k;
  std::vector<Factor> factors;
  int64_t pad = 0;  // leading dimensions beyond the row, elements

  std::string text() const {
    std::string text = "dtype " + std::to_string(dtype) + " m " + std::to_string(m) + " k " + std::to_string(k) +
                       " pad " + std::to_string(pad) + ", W of";
    for (const Factor& f : factors) {
      text += " " + std::to_string(f.rows) + "/" + std::to_string(f.blocksize) + "/" + std::to_string(f.absmax_dtype) +
              "+" + std::to_string(f.skew) + (f.constant ? " constant" : "");
    }
    return text;
  }
};

// Operands in an arena, the call, and its results.
class Run {
 public:
  Run(const Backend& backend, const Group& group, std::mt19937& random)
      : backend_(backend), group_(group), arena_(backend.on_host()), size_(nf4ref::size_of(group.dtype)) {
    std::vector<float> x(static_cast<size_t>(group.m * ldx()), std::numeric_limits<float>::quiet_NaN());
    for (int64_t m = 0; m < group.m; ++m) {
      const std::vector<float> row = uniform(random, static_cast<size_t>(group.k), -1.0f, 1.0f);
      std::copy(row.begin(), row.end(), x.begin() + m * ldx());
    }
    x_ = arena_.add(raw(x, group.dtype));
    for (const Factor& factor : group.factors) {
      data_.push_back(random_weight(random, factor.rows, group.k, factor.blocksize, factor.absmax_dtype));
      const float own = static_cast<float>(3 + data_.size()) / 4;  // whose map and offset are whose must show
      for (float& value : data_.back().map) value *= own;
      for (float& value : data_.back().offset) value *= own;
      weights_.push_back(std::make_unique<ArenaWeight>(arena_, data_.back(), factor.skew));
      const auto bias = raw(uniform(random, static_cast<size_t>(factor.rows), -1.0f, 1.0f), group.dtype);
      biases_.push_back(factor.bias ? arena_.add(bias) : Arena::Slot{});
      outputs_.push_back(
          arena_.add_output(static_cast<size_t>(group.m * (factor.rows + group.pad) * size_), factor.skew));
    }
    arena_.upload();
  }

  nf4_status_t call(const nf4_options_t* options) const {
    std::vector<nf4_weight_t> views;
    for (const auto& weight : weights_) views.push_back(weight->view());
    std::vector<nf4_product_t> products;
    for (size_t i = 0; i < views.size(); ++i) {
      views[i].flags = group_.factors[i].constant ? NF4_WEIGHT_CONSTANT : 0;
      products.push_back({sizeof(nf4_product_t), arena_.at(outputs_[i]), ldy(i), &views[i], arena_.at(biases_[i])});
    }
    return nf4_gemm_group(backend_.handle(), products.data(), products.size(), arena_.at(x_), ldx(), group_.m,
                          group_.dtype, options, nullptr);
  }

  // Fails unless every output is within its bound, and nothing else was written.
  void check(double g) {
    arena_.download();
    CHECK(arena_.trespass(outputs_) == "");
    for (size_t i = 0; i < data_.size(); ++i) {
      INFO("product " << i);
      const nf4ref::Product product{data_[i].view(), arena_.before(x_), ldx(),
                                    group_.m,        group_.dtype,      arena_.before(biases_[i])};
      nf4ref::Verdict verdict(group_.dtype, g);
      verdict.add_all(arena_.after(outputs_[i]), ldy(i), nf4ref::references(product), group_.m, data_[i].rows);
      INFO(verdict.first_violation());
      CHECK(verdict.violations() == 0);
      for (int64_t m = 0; m + 1 < group_.m; ++m) {  // the gaps between rows still hold what they held
        const auto gap = static_cast<size_t>((m * ldy(i) + data_[i].rows) * size_);
        REQUIRE(std::memcmp(arena_.after<char>(outputs_[i]) + gap, arena_.before<char>(outputs_[i]) + gap,
                            static_cast<size_t>(group_.pad * size_)) == 0);
      }
    }
  }

  std::vector<uint8_t> bytes() {
    std::vector<uint8_t> all;
    for (const Arena::Slot& slot : outputs_) {
      arena_.download(slot);
      const auto* const data = arena_.after<uint8_t>(slot);
      all.insert(all.end(), data, data + slot.size);
    }
    return all;
  }

 private:
  int64_t ldx() const { return group_.k + group_.pad; }
  int64_t ldy(size_t i) const { return data_[i].rows + group_.pad; }

  const Backend& backend_;
  const Group& group_;
  Arena arena_;
  int64_t size_;
  Arena::Slot x_;
  std::deque<WeightData> data_;  // which the arena's weights refer to
  std::vector<std::unique_ptr<ArenaWeight>> weights_;
  std::vector<Arena::Slot> biases_, outputs_;
};

// Rows that fill tiles and rows that do not, products of one row and of none, more than a launch takes, such as no
// launch takes together, and such as are aligned differently, any of them the worst, some of constant weights.
std::vector<Group> groups(nf4_dtype_t dtype, int64_t m) {
  return {
      {dtype, m, 320, {{64}, {16}, {16}}},
      {dtype, m, 320, {{70, 64, NF4_U8}, {1, 64, NF4_U8, false}, {33, 64, NF4_U8}}, 8},
      {dtype, m, 2112, {{300, 128, NF4_BF16}, {41, 128, NF4_BF16, false}}},
      {dtype, m, 64, {{5000}, {3000, 64, NF4_F32, false}}},
      {dtype, m, 64, {{2500, 4096, NF4_U8}, {1500, 4096, NF4_U8}, {700, 4096, NF4_U8}, {7, 4096, NF4_U8}}},
      {dtype, m, 192, {{17}, {0}, {5}, {40}, {16}, {3}, {64}}, 8},
      {dtype, m, 192, {{17}, {9, 128}, {20, 128}, {30, 128, NF4_U8}, {12, 128, NF4_U8}}},
      {dtype, m, 192, {{48}}},
      {dtype,
       m,
       320,
       {{64, 64, NF4_F32, true, 0, true}, {48, 64, NF4_F32, true, 4}, {16, 64, NF4_F32, true, 16, true}}},
      {dtype, m, 320, {{64, 64, NF4_F32, true, 8}, {48, 64, NF4_F32, true, 0, true}}},
      {dtype, m, 320, {{64, 64, NF4_U8, true, 32, true}, {48, 64, NF4_U8, true, 16}}},
  };
}

void check_groups(const Backend& backend) {
  const auto rows_of_x =
      backend.on_host() ? std::vector<int64_t>{1, 5} : std::vector<int64_t>{1, 2, 3, 8, 13, 21, 50, 130};
  for_each_config(backend, NF4_OP_GEMM, [&](const nf4_variant_info_t& info, const nf4_options_t& options) {
    std::mt19937 random(31);
    int tried = 0;
    for (const nf4_dtype_t dtype : kDtypes) {
      for (const int64_t m : rows_of_x) {
        for (const Group& group : groups(dtype, m)) {
          INFO(group.text());
          Run run(backend, group, random);
          const nf4_status_t status = run.call(&options);
          if (status == NF4_ERROR_UNSUPPORTED) continue;
          require_success(status);
          ++tried;
          run.check(nf4ref::accuracy_g(info.accuracy, dtype, group.k));
          const std::vector<uint8_t> first = run.bytes();
          require_success(run.call(&options));
          CHECK(run.bytes() == first);
        }
      }
    }
    CHECK(tried > 0);
  });
}

// By whichever variants are selected, within the widest bound of those that may be.
void check_selected(const Backend& backend) {
  std::mt19937 random(37);
  for (const nf4_dtype_t dtype : kDtypes) {
    for (const int64_t m : {1, 2, 4, 8, 16, 40, 200}) {
      for (const Group& group : groups(dtype, m)) {
        INFO(group.text());
        Run run(backend, group, random);
        require_success(run.call(nullptr));
        double widest = 0;
        for_each_variant(backend, NF4_OP_GEMM, [&](const nf4_variant_info_t& info) {
          widest = std::max(widest, nf4ref::accuracy_g(info.accuracy, dtype, group.k));
        });
        if (widest > 0) run.check(widest);  // else NF4_TEST_VARIANT names no product
      }
    }
  }
}

}  // namespace

NF4_ON_BOTH("gemm_group: every variant against the oracle", "", check_groups(backend))
NF4_ON_BOTH("gemm_group: what is selected", "", check_selected(backend))

TEST_CASE("gemm_group: what is wrong with a product is told of that product") {
  const Backend backend(NF4_HOST_DEVICE);
  const std::vector<uint8_t> codes(64, 0x77);
  const std::vector<float> absmax(2, 1.0f), x(64, 1.0f);
  std::vector<float> y(4, 5.0f);
  nf4_weight_t weight = NF4_WEIGHT_INIT;
  weight.rows = 2;
  weight.cols = 64;
  weight.codes = codes.data();
  weight.absmax = absmax.data();
  nf4_weight_t narrow = weight;
  narrow.cols = 32;
  const nf4_product_t good{sizeof(nf4_product_t), y.data(), 2, &weight, nullptr};
  std::vector<nf4_product_t> products(2, good);
  const auto call = [&] {
    return nf4_gemm_group(backend.handle(), products.data(), products.size(), x.data(), 64, 1, NF4_F32, nullptr,
                          nullptr);
  };
  const auto check_wrong = [&](nf4_status_t status, const std::string& message) {
    check_failed(call(), status, message);
    CHECK(y == std::vector<float>(4, 5.0f));  // the product before was not made either
    products[1] = good;
  };
  products[1].struct_size = 3;
  check_wrong(NF4_ERROR_STRUCT_SIZE, "products[1]: product->struct_size is 3");
  products[1].weight = nullptr;
  check_wrong(NF4_ERROR_INVALID_ARGUMENT, "products[1]: weight is null");
  products[1].ldy = 1;
  check_wrong(NF4_ERROR_INVALID_ARGUMENT, "products[1]: ldy is 1; expected weight->rows (2) or more");
  products[1].y = nullptr;
  check_wrong(NF4_ERROR_INVALID_ARGUMENT, "products[1]: y is null");
  products[1].weight = &narrow;
  check_wrong(NF4_ERROR_INVALID_ARGUMENT, "products[1]: weight->cols is 32; expected that of products[0], 64");
  check_failed(nf4_gemm_group(backend.handle(), nullptr, 1, x.data(), 64, 1, NF4_F32, nullptr, nullptr),
               NF4_ERROR_INVALID_ARGUMENT, "products is null");
  check_failed(nf4_gemm_group(nullptr, products.data(), 2, x.data(), 64, 1, NF4_F32, nullptr, nullptr),
               NF4_ERROR_INVALID_ARGUMENT, "handle is null");
  require_success(nf4_gemm_group(backend.handle(), nullptr, 0, x.data(), 64, 1, NF4_F32, nullptr, nullptr));
}

}  // namespace nf4test
