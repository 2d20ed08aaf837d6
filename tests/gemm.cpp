// nf4_gemm and nf4_gemv: every variant, forced, against the float64 oracle.
#include <cstdlib>
#include <cstring>
#include <functional>

#include "support/operands.hpp"
#include "support/pairwise.hpp"

namespace nf4test {
namespace {

struct Case {
  nf4_dtype_t dtype;
  int32_t blocksize;
  nf4_dtype_t absmax_dtype;
  bool bias;
  int64_t m, n, k;
  int64_t pad;          // leading dimensions beyond the row, elements
  size_t element_skew;  // x, y and bias begin this many elements past an aligned address
  size_t byte_skew;     // codes begin this many bytes past one

  std::string text() const {
    return "dtype " + std::to_string(dtype) + " blocksize " + std::to_string(blocksize) + " absmax " +
           std::to_string(absmax_dtype) + " bias " + std::to_string(bias) + " m " + std::to_string(m) + " n " +
           std::to_string(n) + " k " + std::to_string(k) + " pad " + std::to_string(pad) + " skew " +
           std::to_string(element_skew) + "/" + std::to_string(byte_skew);
  }
};

// What a case's operands hold. Gaps between rows of x hold NaN: reading one shows.
struct Values {
  std::vector<float> x;     // [m, k]
  std::vector<float> bias;  // [n]
  WeightData weight;
};

Values random_values(std::mt19937& random, const Case& c) {
  return {uniform(random, static_cast<size_t>(c.m * c.k), -1.0f, 1.0f),
          uniform(random, static_cast<size_t>(c.n), -1.0f, 1.0f),
          random_weight(random, c.n, c.k, c.blocksize, c.absmax_dtype)};
}

// Operands in an arena, the call, and its result.
class Run {
 public:
  Run(const Backend& backend, const Case& c, const Values& values)
      : backend_(backend), c_(c), values_(values), arena_(backend.on_host()) {
    const auto size = static_cast<size_t>(nf4ref::size_of(c.dtype));
    const size_t skew = c.element_skew * size;
    std::vector<float> strided(static_cast<size_t>(c.m * ldx()), std::numeric_limits<float>::quiet_NaN());
    for (int64_t m = 0; m < c.m; ++m) {
      std::copy_n(values.x.begin() + m * c.k, c.k, strided.begin() + m * ldx());
    }
    x_ = arena_.add(raw(strided, c.dtype), skew);
    if (c.bias) bias_ = arena_.add(raw(values.bias, c.dtype), skew);
    y_ = arena_.add_output(static_cast<size_t>(c.m * ldy()) * size, skew);
    weight_ = std::make_unique<ArenaWeight>(arena_, values.weight, c.byte_skew);
    arena_.upload();
  }

  nf4_status_t call(const nf4_options_t& options, nf4_stream_t stream = nullptr) const {
    const nf4_weight_t weight = weight_->view();
    return nf4_gemm(backend_.handle(), arena_.at(y_), ldy(), arena_.at(x_), ldx(), c_.m, c_.dtype, &weight,
                    arena_.at(bias_), &options, stream);
  }

  void download() { arena_.download(); }

  // Fails unless every output is within its bound, and nothing else was written.
  void check(const char* accuracy) {
    download();
    CHECK(arena_.trespass({y_}) == "");
    const nf4ref::Product product{values_.weight.view(), arena_.before(x_), ldx(), c_.m, c_.dtype,
                                  arena_.before(bias_)};
    nf4ref::Verdict verdict(c_.dtype, nf4ref::accuracy_g(accuracy, c_.dtype, c_.k));
    verdict.add_all(arena_.after(y_), ldy(), nf4ref::references(product), c_.m, c_.n);
    INFO(verdict.first_violation());
    CHECK(verdict.violations() == 0);
    check_gaps();
  }

  // The gaps between rows of y still hold what they held.
  void check_gaps() const {
    const auto size = static_cast<size_t>(nf4ref::size_of(c_.dtype));
    for (int64_t m = 0; m + 1 < c_.m; ++m) {
      const size_t gap = static_cast<size_t>(m * ldy() + c_.n) * size;
      const size_t length = static_cast<size_t>(c_.pad) * size;
      REQUIRE(std::memcmp(arena_.after<char>(y_) + gap, arena_.before<char>(y_) + gap, length) == 0);
    }
  }

  double y(int64_t m, int64_t n) const { return nf4ref::load(arena_.after(y_), c_.dtype, m * ldy() + n); }

  std::vector<uint8_t> y_bytes() const {
    const auto* bytes = arena_.after<uint8_t>(y_);
    return {bytes, bytes + y_.size};
  }

 private:
  int64_t ldx() const { return c_.k + c_.pad; }
  int64_t ldy() const { return c_.n + c_.pad; }

  const Backend& backend_;
  Case c_;
  const Values& values_;
  Arena arena_;
  Arena::Slot x_, y_, bias_;
  std::unique_ptr<ArenaWeight> weight_;
};

bool runs(const Backend& backend, const Case& c, const nf4_variant_info_t& info) {
  nf4_problem_t problem = NF4_PROBLEM_INIT;
  problem.dtype = c.dtype;
  problem.m = c.m;
  problem.n = c.n;
  problem.k = c.k;
  problem.blocksize = c.blocksize;
  problem.absmax_dtype = c.absmax_dtype;
  const auto size = static_cast<size_t>(nf4ref::size_of(c.dtype));
  size_t addresses = 16 | c.byte_skew | c.element_skew * size;
  if (c.m > 1) addresses |= static_cast<size_t>(c.k + c.pad) * size;
  problem.alignment = static_cast<int32_t>(addresses & (~addresses + 1));
  problem.strided = c.pad != 0;
  int32_t supported = 0;
  require_success(nf4_variant_supports(backend.handle(), info.name, &problem, &supported, nullptr, 0));
  return supported != 0;
}

const std::vector<int64_t> kM = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 65, 128, 512};
const std::vector<int64_t> kN = {1, 3, 15, 16, 17, 63, 64, 65};
const std::vector<int64_t> kK = {1, 2, 31, 33, 63, 65, 320, 3420, 4096, 5376, 14336, 28672};

// Rows of W for which the host's product with one row of x is made by tables.
constexpr int64_t kManyRows = 300;

// The case, or the nearest to it that the variant takes: what it may lack is given up in turn.
Case adapted(const Backend& backend, Case c, const nf4_variant_info_t& info) {
  const std::function<void()> concessions[] = {
      [&] { c.element_skew = c.byte_skew = 0; },
      [&] { c.k = (c.k + 63) / 64 * 64; },
      [&] { c.dtype = c.dtype == NF4_F32 ? NF4_BF16 : c.dtype; },
      [&] { c.blocksize = std::max(c.blocksize, 64); },
      [&] { c.m = std::min<int64_t>(c.m, 8); },
      [&] { c.m = 1; },
  };
  for (const auto& concede : concessions) {
    if (!runs(backend, c, info)) concede();
  }
  return c;
}

void check_matrix(const Backend& backend, unsigned seed) {
  const auto rows = pairwise(
      {kDtypes.size(), kBlocksizes.size(), kAbsmaxDtypes.size(), 2, kM.size(), kN.size(), kK.size(), 2, 2, 2}, seed);
  for_each_config(backend, NF4_OP_GEMM, [&](const nf4_variant_info_t& info, const nf4_options_t& options) {
    std::mt19937 random(seed);
    int64_t cases = 0;
    for (const auto& row : rows) {
      Case c{kDtypes[row[0]],
             kBlocksizes[row[1]],
             kAbsmaxDtypes[row[2]],
             row[3] != 0,
             kM[row[4]],
             kN[row[5]],
             kK[row[6]],
             row[7] != 0 ? 8 : 0,
             static_cast<size_t>(row[8]),
             static_cast<size_t>(row[9])};
      c = adapted(backend, c, info);
      INFO(c.text());
      REQUIRE(runs(backend, c, info));
      const Values values = random_values(random, c);
      Run run(backend, c, values);
      require_success(run.call(options));
      run.check(info.accuracy);
      ++cases;
    }
    WARN(info.name << " " << options.config << ": " << cases << " cases of all pairs");
  });
}

// Every config against the oracle, on those of the cases that it takes.
void check_cases(const Backend& backend, const std::vector<Case>& cases) {
  for_each_config(backend, NF4_OP_GEMM, [&](const nf4_variant_info_t& info, const nf4_options_t& options) {
    std::mt19937 random(19);
    int tried = 0;
    for (const Case& c : cases) {
      if (!runs(backend, c, info)) continue;
      ++tried;
      INFO(c.text());
      const Values values = random_values(random, c);
      Run run(backend, c, values);
      require_success(run.call(options));
      run.check(info.accuracy);
    }
    CHECK(tried > 0);
  });
}

// Many rows: a block of threads walks over more than one tile, or group of tiles, of them.
void check_tall(const Backend& backend) {
  std::vector<Case> cases;
  for (const nf4_dtype_t dtype : {NF4_F16, NF4_BF16}) {
    for (const int64_t m : {1, 8, 21}) {
      cases.push_back({dtype, 64, NF4_U8, true, m, 37001, 64, 8, 0, 0});
      cases.push_back({dtype, 64, NF4_U8, true, m, 5003, 704, 8, 0, 0});
    }
  }
  for (const int64_t m : {1, 2, 7}) {
    cases.push_back({NF4_F32, 32, NF4_U8, true, m, 5003, 342, 8, 0, 1});  // rows begin anywhere in a block
    cases.push_back({NF4_F32, 64, NF4_F32, true, m, 2003, 5376, 0, 0, 0});
  }
  cases.push_back({NF4_F32, 64, NF4_F32, false, 3, 17001, 8192, 0, 0, 0});  // more sums than fit into shared memory
  check_cases(backend, cases);
}

// Few rows and all of the ways through K: less than a warp's share, more than a block's, and a last share that is
// partial.
void check_small(const Backend& backend) {
  std::vector<Case> cases;
  for (const int64_t m : {1, 7, 19}) {
    for (const int64_t k : {64, 2112, 9280}) {
      cases.push_back({NF4_BF16, 64, k == 64 ? NF4_U8 : NF4_F32, true, m, 40, k, 8, 0, 0});
    }
  }
  check_cases(backend, cases);
}

// Many rows of x: passes of all widths, the last of them partly filled, and tiles of W that end past its rows. And one
// row, for variants that take no more.
void check_wide(const Backend& backend) {
  std::vector<Case> cases;
  for (const int64_t m : {1, 30, 60, 100}) {
    cases.push_back({NF4_BF16, 64, NF4_F32, true, m, 300, 2304, 8, 0, 0});
    cases.push_back({NF4_F16, 64, NF4_U8, false, m, 300, 2112, 0, 0, 0});
  }
  check_cases(backend, cases);
}

// One row of x by many rows of W: rows that the host multiplies in eights and rows that it does not, a last eight that
// is partial, rows that begin anywhere in a block.
void check_one_row(const Backend& backend) {
  check_cases(backend, {
                           {NF4_F32, 32, NF4_U8, true, 1, kManyRows, 342, 8, 0, 1},
                           {NF4_F32, 64, NF4_F32, false, 1, kManyRows, 3420, 0, 1, 0},
                           {NF4_F16, 4096, NF4_F16, true, 1, kManyRows, 94, 0, 0, 0},
                           {NF4_BF16, 128, NF4_BF16, true, 1, kManyRows, 2, 0, 0, 0},
                           {NF4_BF16, 64, NF4_U8, false, 1, kManyRows, 4096, 0, 0, 0},
                           {NF4_F32, 64, NF4_F32, true, 1, 20001, 96, 0, 0, 0},
                       });
}

// Codes of -1, 0 and 1, scales that are powers of two, small integers: every product and sum is exact, so is the result
// but for its one rounding.
void check_exact(const Backend& backend) {
  for_each_config(backend, NF4_OP_GEMM, [&](const nf4_variant_info_t& info, const nf4_options_t& options) {
    std::mt19937 random(7);
    int tried = 0;  // of the cases below; a variant that took none would pass unseen
    for (const nf4_dtype_t dtype : kDtypes) {
      for (const int64_t k : {1, 33, 64, 192, 3420, 14336}) {
        for (const int64_t m : {1, 5, 23}) {
          const Case c{dtype, 64, NF4_F32, true, m, m == 1 ? kManyRows : 67, k, 0, 0, 0};
          if (!runs(backend, c, info)) continue;
          ++tried;
          Values values = random_values(random, c);
          for (float& x : values.x) x = static_cast<float>(static_cast<int>(random() % 5) - 2);
          for (float& b : values.bias) b = static_cast<float>(static_cast<int>(random() % 17) - 8);
          constexpr uint8_t kExact[] = {0, 7, 15};
          for (uint8_t& byte : values.weight.codes)
            byte = static_cast<uint8_t>(kExact[random() % 3] << 4 | kExact[random() % 3]);
          std::vector<float> absmax(static_cast<size_t>(values.weight.blocks()));
          for (float& a : absmax) a = std::ldexp(1.0f, static_cast<int>(random() % 3) - 1);
          values.weight.absmax = raw(absmax, NF4_F32);
          INFO(c.text());
          Run run(backend, c, values);
          require_success(run.call(options));
          run.download();
          const nf4_weight_t weight = values.weight.view();
          int64_t wrong = 0;
          for (int64_t i = 0; i < m; ++i) {
            for (int64_t n = 0; n < c.n; ++n) {
              double sum = static_cast<double>(values.bias[static_cast<size_t>(n)]);
              for (int64_t j = 0; j < k; ++j) {
                sum +=
                    nf4ref::element(weight, n * k + j) * static_cast<double>(values.x[static_cast<size_t>(i * k + j)]);
              }
              float expected = 0;
              nf4ref::store(&expected, dtype, 0, static_cast<float>(sum));
              wrong += run.y(i, n) != static_cast<double>(nf4ref::load(&expected, dtype, 0));
            }
          }
          CHECK(wrong == 0);
        }
      }
    }
    CHECK(tried > 0);
  });
}

// Codes of -1 and 1, values of x with 17 bits, and sums of them with fewer than 24: exact in fp32 in any order, but not
// with inputs cut to 11 bits, as tensor cores take f32.
void check_all_bits(const Backend& backend) {
  int tried = 0;
  for_each_config(backend, NF4_OP_GEMM, [&](const nf4_variant_info_t& info, const nf4_options_t& options) {
    std::mt19937 random(23);
    for (const int64_t m : {1, 5, 150}) {
      const Case c{NF4_F32, 64, NF4_F32, false, m, 67, 64, 0, 0, 0};
      if (!runs(backend, c, info)) continue;
      ++tried;
      INFO(c.text());
      Values values = random_values(random, c);
      for (float& x : values.x) x = 1.0f + static_cast<float>(random() % 65536) * 0x1p-16f;
      for (uint8_t& byte : values.weight.codes)
        byte = static_cast<uint8_t>((random() % 2 == 0 ? 0x00 : 0xf0) | (random() % 2 == 0 ? 0x00 : 0x0f));
      values.weight.absmax = raw(std::vector<float>(static_cast<size_t>(values.weight.blocks()), 1.0f), NF4_F32);
      Run run(backend, c, values);
      require_success(run.call(options));
      run.download();
      const nf4_weight_t weight = values.weight.view();
      int64_t wrong = 0;
      for (int64_t i = 0; i < m; ++i) {
        for (int64_t n = 0; n < c.n; ++n) {
          double sum = 0;
          for (int64_t j = 0; j < c.k; ++j) {
            const float x = values.x[static_cast<size_t>(i * c.k + j)];
            sum += nf4ref::element(weight, n * c.k + j) * static_cast<double>(x);
          }
          wrong += run.y(i, n) != sum;
        }
      }
      CHECK(wrong == 0);
    }
  });
  if (tried == 0 && std::getenv("NF4_TEST_VARIANT") != nullptr)
    return skip("NF4_TEST_VARIANT names none that takes f32");
  CHECK(tried > 0);
}

// NaN and Inf in weights and activations, zero blocks, subnormal scales, results beyond f16: the oracle knows what they
// give.
void check_special_values(const Backend& backend) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  for_each_config(backend, NF4_OP_GEMM, [&](const nf4_variant_info_t& info, const nf4_options_t& options) {
    std::mt19937 random(11);
    int tried = 0;  // of the cases below; a variant that took none would pass unseen
    for (const nf4_dtype_t dtype : kDtypes) {
      for (const float special : {kNan, kInf, -kInf, 0.0f, -0.0f, 1e-40f, 60000.0f}) {
        for (const int64_t m : {1, 5, 9}) {
          const Case c{dtype, 64, NF4_F32, false, m, m == 1 ? kManyRows : 40, 256, 0, 0, 0};
          if (!runs(backend, c, info)) continue;
          ++tried;
          INFO(c.text() << " special " << special);
          Values values = random_values(random, c);
          auto* absmax = reinterpret_cast<float*>(values.weight.absmax.data());
          absmax[5] = absmax[42] = special;  // rows 1 and 10
          Run in_weights(backend, c, values);
          require_success(in_weights.call(options));
          in_weights.check(info.accuracy);

          values = random_values(random, c);
          values.x[17] = special;  // row 0
          Run in_x(backend, c, values);
          require_success(in_x.call(options));
          in_x.check(info.accuracy);
        }
      }
    }
    CHECK(tried > 0);
  });
}

// Scaling by a power of two, and moving rows about, changes no bit but those that say so.
void check_metamorphic(const Backend& backend) {
  for_each_config(backend, NF4_OP_GEMM, [&](const nf4_variant_info_t& info, const nf4_options_t& options) {
    std::mt19937 random(13);
    int tried = 0;  // of the cases below; a variant that took none would pass unseen
    for (const nf4_dtype_t dtype : kDtypes) {
      for (const int64_t m : {1, 5, 20}) {
        const Case c{dtype, 64, NF4_F32, false, m, m == 1 ? kManyRows : 48, 1024, 0, 0, 0};
        if (!runs(backend, c, info)) continue;
        ++tried;
        Values values = random_values(random, c);
        for (float& x : values.x) {
          if (std::abs(x) < 0x1p-12f) x = 0.0f;  // a quarter of which f16 could not hold
        }
        const auto result = [&](const Values& changed) {
          Run run(backend, c, changed);
          require_success(run.call(options));
          run.download();
          std::vector<double> y;
          for (int64_t i = 0; i < m; ++i) {
            for (int64_t n = 0; n < c.n; ++n) y.push_back(run.y(i, n));
          }
          return y;
        };
        const std::vector<double> y = result(values);

        Values scaled = values;
        auto* absmax = reinterpret_cast<float*>(scaled.weight.absmax.data());
        for (int64_t i = 0; i < scaled.weight.blocks(); ++i) absmax[i] *= 8.0f;
        for (float& x : scaled.x) x *= 0.25f;
        std::vector<double> expected = y;
        for (double& value : expected) value *= 2.0;
        std::vector<double> doubled = result(scaled);
        for (size_t i = 0; i < y.size(); ++i) {
          // A subnormal f16 holds fewer bits than its double.
          if (dtype == NF4_F16 && std::abs(y[i]) < 0x1p-14 && std::abs(doubled[i] - expected[i]) <= 0x1p-24)
            doubled[i] = expected[i];
        }
        CHECK(doubled == expected);

        Values turned = values;  // rows of W in reverse
        for (int64_t n = 0; n < c.n; ++n) {
          std::copy_n(values.weight.codes.begin() + (c.n - 1 - n) * c.k / 2, c.k / 2,
                      turned.weight.codes.begin() + n * c.k / 2);
          std::copy_n(values.weight.absmax.begin() + (c.n - 1 - n) * c.k / 64 * 4, c.k / 64 * 4,
                      turned.weight.absmax.begin() + n * c.k / 64 * 4);
        }
        for (int64_t i = 0; i < m; ++i)
          std::reverse_copy(y.begin() + i * c.n, y.begin() + (i + 1) * c.n, expected.begin() + i * c.n);
        CHECK(result(turned) == expected);
      }
    }
    CHECK(tried > 0);
  });
}

void check_repeatable(const Backend& backend) {
  for_each_config(backend, NF4_OP_GEMM, [&](const nf4_variant_info_t& info, const nf4_options_t& options) {
    std::mt19937 random(17);
    int tried = 0;  // of the cases below; a variant that took none would pass unseen
    for (const int64_t m : {1, 5, 20}) {
      const Case c{NF4_BF16, 64, NF4_F32, false, m, 300, 4096, 0, 0, 0};
      if (!runs(backend, c, info)) continue;
      ++tried;
      const Values values = random_values(random, c);
      Run run(backend, c, values);
      require_success(run.call(options));
      run.download();
      const std::vector<uint8_t> first = run.y_bytes();
      int differing = 0;
      for (int repeat = 0; repeat < 100; ++repeat) {
        require_success(run.call(options));
        run.download();
        differing += run.y_bytes() != first;
      }
      CHECK(differing == 0);
    }
    CHECK(tried > 0);
  });
}

constexpr unsigned kSeed = 20261122;

}  // namespace

NF4_ON_BOTH("gemm: all pairs against the oracle", "", check_matrix(backend, kSeed))
NF4_ON_CUDA("gemm: many rows", "", check_tall(backend))
NF4_ON_BOTH("gemm: every way through K", "[deep]", check_small(backend))
NF4_ON_BOTH("gemm: many rows of x", "[deep]", check_wide(backend))
TEST_CASE("gemm: one row of x by many rows of W, host") { check_one_row(Backend(NF4_HOST_DEVICE)); }
NF4_ON_BOTH("gemm: exact where arithmetic is", "", check_exact(backend))
NF4_ON_BOTH("gemm: f32 keeps all of its bits", "[small]", check_all_bits(backend))
NF4_ON_BOTH("gemm: special values", "", check_special_values(backend))
NF4_ON_BOTH("gemm: scaled and permuted operands", "", check_metamorphic(backend))
NF4_ON_BOTH("gemm: the same bits on every run", "", check_repeatable(backend))

}  // namespace nf4test
