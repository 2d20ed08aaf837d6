// nf4_gemm_transposed: every variant, forced, against the float64 oracle.
#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "support/harness.hpp"
#include "support/operands.hpp"
#include "support/pairwise.hpp"

namespace nf4test {
namespace {

struct Case {
  nf4_dtype_t dtype;
  int32_t blocksize;
  nf4_dtype_t absmax_dtype;
  int64_t m, n, k;
  int64_t pad = 0;          // leading dimensions beyond the row, elements
  size_t element_skew = 0;  // x and y begin this many elements past an aligned address
  size_t byte_skew = 0;     // codes begin this many bytes past one

  std::string text() const {
    const std::pair<const char*, int64_t> all[] = {{"dtype", dtype},
                                                   {"blocksize", blocksize},
                                                   {"absmax", absmax_dtype},
                                                   {"m", m},
                                                   {"n", n},
                                                   {"k", k},
                                                   {"pad", pad},
                                                   {"skew", static_cast<int64_t>(element_skew)},
                                                   {"codes +", static_cast<int64_t>(byte_skew)}};
    std::string text;
    for (const auto& [name, value] : all) text += std::string(name) + " " + std::to_string(value) + " ";
    return text;
  }
};

// What a case's operands hold.
struct Values {
  std::vector<float> x;  // [m, n]
  WeightData weight;
};

Values random_values(std::mt19937& random, const Case& c) {
  return {uniform(random, static_cast<size_t>(c.m * c.n), -1.0f, 1.0f),
          random_weight(random, c.n, c.k, c.blocksize, c.absmax_dtype)};
}

// Operands in an arena, the call, and its result. Gaps between rows of x hold NaN: reading one shows.
class Run {
 public:
  Run(const Backend& backend, const Case& c, const Values& values)
      : backend_(backend), c_(c), values_(values), arena_(backend.on_host()) {
    const size_t skew = c.element_skew * size();
    std::vector<float> strided(static_cast<size_t>(c.m * ldx()), std::numeric_limits<float>::quiet_NaN());
    for (int64_t m = 0; m < c.m; ++m) std::copy_n(values.x.begin() + m * c.n, c.n, strided.begin() + m * ldx());
    x_ = arena_.add(raw(strided, c.dtype), skew);
    y_ = arena_.add_output(static_cast<size_t>(c.m * ldy()) * size(), skew);
    weight_ = std::make_unique<ArenaWeight>(arena_, values.weight, c.byte_skew);
    arena_.upload();
  }

  nf4_status_t call(const nf4_options_t* options) const {
    const nf4_weight_t weight = weight_->view();
    return nf4_gemm_transposed(backend_.handle(), arena_.at(y_), ldy(), arena_.at(x_), ldx(), c_.m, c_.dtype, &weight,
                               options, nullptr);
  }

  void download() { arena_.download(); }

  // Fails unless every output is within its bound, and nothing else was written.
  void check(const char* accuracy) {
    download();
    CHECK(arena_.trespass({y_}) == "");
    const nf4ref::TransposedProduct product{values_.weight.view(), arena_.before(x_), ldx(), c_.m, c_.dtype};
    nf4ref::Verdict verdict(c_.dtype, nf4ref::accuracy_g(accuracy, c_.dtype, c_.n));
    verdict.add_all(arena_.after(y_), ldy(), nf4ref::references(product), c_.m, c_.k);
    INFO(verdict.first_violation());
    CHECK(verdict.violations() == 0);
    for (int64_t m = 0; m + 1 < c_.m; ++m) {  // the gaps between rows still hold what they held
      const size_t gap = static_cast<size_t>(m * ldy() + c_.k) * size();
      REQUIRE(std::memcmp(arena_.after<char>(y_) + gap, arena_.before<char>(y_) + gap,
                          static_cast<size_t>(c_.pad) * size()) == 0);
    }
  }

  double y(int64_t m, int64_t k) const { return nf4ref::load(arena_.after(y_), c_.dtype, m * ldy() + k); }

 private:
  size_t size() const { return static_cast<size_t>(nf4ref::size_of(c_.dtype)); }
  int64_t ldx() const { return c_.n + c_.pad; }
  int64_t ldy() const { return c_.k + c_.pad; }

  const Backend& backend_;
  Case c_;
  const Values& values_;
  Arena arena_;
  Arena::Slot x_, y_;
  std::unique_ptr<ArenaWeight> weight_;
};

nf4_problem_t problem_of(const Case& c) {
  nf4_problem_t problem = NF4_PROBLEM_INIT;
  problem.op = NF4_OP_GEMM_TRANSPOSED;
  problem.dtype = c.dtype;
  problem.m = c.m;
  problem.n = c.n;
  problem.k = c.k;
  problem.blocksize = c.blocksize;
  problem.absmax_dtype = c.absmax_dtype;
  const auto size = static_cast<size_t>(nf4ref::size_of(c.dtype));
  size_t addresses = 16 | c.byte_skew | c.element_skew * size;
  if (c.m > 1) addresses |= static_cast<size_t>(c.n + c.pad) * size;
  problem.alignment = static_cast<int32_t>(addresses & (~addresses + 1));
  problem.strided = c.pad != 0;
  return problem;
}

bool runs(const Backend& backend, const Case& c, const nf4_variant_info_t& info) {
  const nf4_problem_t problem = problem_of(c);
  int32_t supported = 0;
  require_success(nf4_variant_supports(backend.handle(), info.name, &problem, &supported, nullptr, 0));
  return supported != 0;
}

// The case, or one that the variant takes.
Case adapted(const Backend& backend, Case c, const nf4_variant_info_t& info) {
  if (!runs(backend, c, info)) c.element_skew = c.byte_skew = 0;
  if (!runs(backend, c, info)) c.k = (c.k + 7) / 8 * 8;
  if (!runs(backend, c, info)) c.pad = c.n % 8 == 0 ? 8 : 8 - c.n % 8;  // rows of x that are aligned
  if (!runs(backend, c, info)) c.k = (c.k + 63) / 64 * 64;
  if (!runs(backend, c, info)) c.dtype = NF4_BF16;
  return c;
}

const std::vector<int64_t> kM = {1, 2, 7, 8, 9, 33, 64, 65, 300};
const std::vector<int64_t> kN = {1, 2, 31, 32, 33, 64, 257, 1000};
const std::vector<int64_t> kK = {1, 2, 31, 63, 64, 96, 97, 255, 256, 264, 776};

void check_matrix(const Backend& backend, unsigned seed) {
  const auto rows = pairwise(
      {kDtypes.size(), kBlocksizes.size(), kAbsmaxDtypes.size(), kM.size(), kN.size(), kK.size(), 2, 2, 2}, seed);
  for_each_config(backend, NF4_OP_GEMM_TRANSPOSED, [&](const nf4_variant_info_t& info, const nf4_options_t& options) {
    std::mt19937 random(seed);
    for (const auto& row : rows) {
      const Case c = adapted(backend,
                             {kDtypes[row[0]], kBlocksizes[row[1]], kAbsmaxDtypes[row[2]], kM[row[3]], kN[row[4]],
                              kK[row[5]], row[6] != 0 ? 8 : 0, row[7], row[8]},
                             info);
      INFO(c.text());
      REQUIRE(runs(backend, c, info));
      const Values values = random_values(random, c);
      Run run(backend, c, values);
      require_success(run.call(&options));
      run.check(info.accuracy);
    }
    WARN(info.name << " " << options.config << ": " << rows.size() << " cases of all pairs");
  });
}

// Each config on each of the cases that it takes, of which there must be one.
template <class Visit>
void for_each_case(const Backend& backend, const std::vector<Case>& cases, const Visit& visit) {
  for_each_config(backend, NF4_OP_GEMM_TRANSPOSED, [&](const nf4_variant_info_t& info, const nf4_options_t& options) {
    std::mt19937 random(19);
    int tried = 0;
    for (const Case& c : cases) {
      if (!runs(backend, c, info)) continue;
      ++tried;
      INFO(c.text());
      visit(c, random_values(random, c), info, options);
    }
    CHECK(tried > 0);
  });
}

// Codes of -1, 0 and 1, scales that are powers of two, small integers: every product and sum is exact, so is the result
// but for its one rounding.
void check_exact(const Backend& backend) {
  std::vector<Case> cases;
  for (const nf4_dtype_t dtype : kDtypes) {
    for (const int64_t k : {1, 33, 64, 200, 776}) {
      for (const int64_t m : {1, 5, 23}) cases.push_back({dtype, 64, NF4_F32, m, 264, k});
    }
  }
  for_each_case(backend, cases, [&](const Case& c, Values values, const auto&, const nf4_options_t& options) {
    std::mt19937 random(7);
    constexpr uint8_t kExact[] = {0, 7, 15};
    for (float& x : values.x) x = static_cast<float>(static_cast<int>(random() % 5) - 2);
    for (uint8_t& byte : values.weight.codes)
      byte = static_cast<uint8_t>(kExact[random() % 3] << 4 | kExact[random() % 3]);
    std::vector<float> absmax(static_cast<size_t>(values.weight.blocks()));
    for (float& a : absmax) a = std::ldexp(1.0f, static_cast<int>(random() % 3) - 1);
    values.weight.absmax = raw(absmax, NF4_F32);
    Run run(backend, c, values);
    require_success(run.call(&options));
    run.download();
    const nf4_weight_t weight = values.weight.view();
    int64_t wrong = 0;
    for (int64_t m = 0; m < c.m; ++m) {
      for (int64_t k = 0; k < c.k; ++k) {
        double sum = 0;
        for (int64_t n = 0; n < c.n; ++n) {
          sum += nf4ref::element(weight, n * c.k + k) * static_cast<double>(values.x[static_cast<size_t>(m * c.n + n)]);
        }
        float expected = 0;
        nf4ref::store(&expected, c.dtype, 0, static_cast<float>(sum));
        wrong += run.y(m, k) != static_cast<double>(nf4ref::load(&expected, c.dtype, 0));
      }
    }
    CHECK(wrong == 0);
  });
}

// NaN and Inf in weights and activations, zero blocks, subnormal scales, results beyond f16: the oracle knows what they
// give.
void check_special_values(const Backend& backend) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  std::vector<Case> cases;
  for (const nf4_dtype_t dtype : kDtypes) {
    for (const int64_t m : {1, 9}) cases.push_back({dtype, 64, NF4_F32, m, 40, 256});
  }
  for (const float special : {kNan, kInf, -kInf, 0.0f, -0.0f, 1e-40f, 60000.0f}) {
    INFO("special " << special);
    for_each_case(
        backend, cases,
        [&](const Case& c, const Values& values, const nf4_variant_info_t& info, const nf4_options_t& options) {
          Values changed = values;
          reinterpret_cast<float*>(changed.weight.absmax.data())[5] = special;
          Run in_weights(backend, c, changed);
          require_success(in_weights.call(&options));
          in_weights.check(info.accuracy);
          changed = values;
          changed.x[17] = special;
          Run in_x(backend, c, changed);
          require_success(in_x.call(&options));
          in_x.check(info.accuracy);
        });
  }
}

// W in several slabs, of which the last is narrow, and more rows than columns; more tiles than the GPU holds CTAs.
void check_slabs(const Backend& backend) {
  const std::vector<Case> cases = {{NF4_BF16, 64, NF4_U8, 3, 70000, 832, 8},
                                   {NF4_F32, 4096, NF4_F32, 2, 35000, 520},
                                   {NF4_F16, 32, NF4_F32, 5200, 136, 1664}};
  for_each_case(backend, cases,
                [&](const Case& c, const Values& values, const nf4_variant_info_t& info, const nf4_options_t& options) {
                  Run run(backend, c, values);
                  require_success(run.call(&options));
                  run.check(info.accuracy);
                });
}

// What selection takes when nothing is forced, with the workspace that it asks for and without.
void check_chosen(const Backend& backend) {
  std::mt19937 random(3);
  for (const nf4_dtype_t dtype : kDtypes) {
    for (const int64_t m : {1, 100}) {
      for (const int64_t k : {200, 33}) {
        const Case c{dtype, 64, NF4_U8, m, 130, k};
        INFO(c.text());
        const Values values = random_values(random, c);
        const nf4_weight_t weight = values.weight.view();
        nf4_options_t options = NF4_OPTIONS_INIT;
        require_success(nf4_gemm_transposed_workspace(backend.handle(), m, dtype, &weight, &options.workspace_size));
        const Scratch workspace(options.workspace_size);
        options.workspace = workspace.get();
        for (const nf4_options_t* given : {static_cast<const nf4_options_t*>(nullptr), &std::as_const(options)}) {
          Run run(backend, c, values);
          require_success(run.call(given));
          run.check("unpacked");  // the loosest of its classes
        }
      }
    }
  }
}

// Nothing to do, and nothing to add up.
void check_empty(const Backend& backend) {
  for_each_config(backend, NF4_OP_GEMM_TRANSPOSED, [&](const nf4_variant_info_t& info, const nf4_options_t& options) {
    std::mt19937 random(5);
    for (const auto& [m, n, k] : {std::array<int64_t, 3>{0, 3, 8}, {3, 8, 0}, {3, 0, 8}}) {
      const Case c{NF4_F32, 64, NF4_F32, m, n, k};
      const Values values = random_values(random, c);
      Run run(backend, c, values);
      const nf4_status_t status = run.call(&options);
      if (n == 0 && !runs(backend, c, info)) {
        check_failed(status, NF4_ERROR_UNSUPPORTED, "there is nothing to multiply (N = 0)");
        continue;
      }
      require_success(status);
      run.check(info.accuracy);
    }
  });
}

}  // namespace

NF4_ON_BOTH("transposed: all pairs of dtype, blocksize, scales, sizes and alignment", "", check_matrix(backend, 29))
NF4_ON_BOTH("transposed: exact where arithmetic is", "", check_exact(backend))
NF4_ON_BOTH("transposed: special values", "", check_special_values(backend))
NF4_ON_BOTH("transposed: no rows, no columns, nothing to add up", "", check_empty(backend))
NF4_ON_BOTH("transposed: what is chosen, with a workspace and without", "", check_chosen(backend))
NF4_ON_CUDA("transposed: W in several slabs, y in many tiles", "", check_slabs(backend))

TEST_CASE("transposed: a call writes no byte beyond the workspace that it asked for", "[gpu]") {
  REQUIRE_GPU();
  const Backend backend(0);
  constexpr size_t kGuard = 4096;
  const std::vector<Case> cases = {{NF4_BF16, 64, NF4_F32, 200, 72, 832}, {NF4_F32, 64, NF4_U8, 7, 4096, 4096}};
  for_each_case(backend, cases,
                [&](const Case& c, const Values& values, const nf4_variant_info_t& info, nf4_options_t options) {
                  options.workspace_size = workspace_needed(backend, problem_of(c), options);
                  const Scratch workspace(options.workspace_size + kGuard);
                  options.workspace = workspace.get();
                  Run run(backend, c, values);
                  require_success(run.call(&options));
                  run.check(info.accuracy);
                  CHECK(workspace.untouched_from(options.workspace_size));
                });
}

}  // namespace nf4test
