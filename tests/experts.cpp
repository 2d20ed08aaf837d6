// nf4_gemm_experts and nf4_sort_experts: every variant, forced, against the float64 oracle and a sort of the standard
// library.
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "support/harness.hpp"
#include "support/pairwise.hpp"
#include "support/routing.hpp"

namespace nf4test {
namespace {

struct Case {
  nf4_dtype_t dtype;
  int32_t blocksize;
  nf4_dtype_t absmax_dtype;
  bool bias, scaled;
  Form form;
  int64_t experts, tokens, top_k, n, k;
  bool row_each = false;    // of x, for each slot: then the call's top_k is 1
  int64_t hit = INT64_MAX;  // only the first so many experts have slots
  unsigned strays = 0;      // of 100 slots, those of no expert
  int64_t pad = 0;          // leading dimensions beyond the row, elements
  size_t element_skew = 0;  // x, y and bias begin this many elements past an aligned address
  size_t byte_skew = 0;     // codes begin this many bytes past one

  int64_t slots() const { return tokens * top_k; }
  int64_t rows_of_x() const { return row_each ? slots() : tokens; }
  std::string text() const {
    const std::pair<const char*, int64_t> all[] = {{"dtype", dtype},
                                                   {"blocksize", blocksize},
                                                   {"absmax", absmax_dtype},
                                                   {"bias", bias},
                                                   {"scale", scaled},
                                                   {"form", static_cast<int64_t>(form)},
                                                   {"experts", experts},
                                                   {"tokens", tokens},
                                                   {"top_k", top_k},
                                                   {"n", n},
                                                   {"k", k},
                                                   {"row each", row_each},
                                                   {"hit", hit},
                                                   {"strays", strays},
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
  std::vector<float> x, bias;
  WeightData weight;
  RoutingData routing;
};

Values random_values(std::mt19937& random, const Case& c) {
  Values values{
      uniform(random, static_cast<size_t>(c.rows_of_x() * c.k), -1.0f, 1.0f),
      uniform(random, static_cast<size_t>(c.experts * c.n), -1.0f, 1.0f),
      random_weight(random, c.experts * c.n, c.k, c.blocksize, c.absmax_dtype),
      random_routing(random, c.experts, c.tokens, c.top_k, c.form, std::min(c.hit, c.experts), c.strays, c.scaled)};
  if (c.row_each) values.routing.top_k = 1;
  return values;
}

// Operands in an arena, the call, and its result. Gaps between rows of x hold NaN, and so do the rows of slots of no
// expert, where they are theirs alone.
class Run {
 public:
  Run(const Backend& backend, const Case& c, const Values& values)
      : backend_(backend), c_(c), values_(values), arena_(backend.on_host()) {
    const auto size = static_cast<size_t>(nf4ref::size_of(c.dtype));
    const size_t skew = c.element_skew * size;
    const std::vector<int64_t> expert = values.routing.expert();
    std::vector<float> strided(static_cast<size_t>(c.rows_of_x() * ldx()), std::numeric_limits<float>::quiet_NaN());
    for (int64_t row = 0; row < c.rows_of_x(); ++row) {
      if (c.row_each && expert[static_cast<size_t>(row)] < 0) continue;
      std::copy_n(values.x.begin() + row * c.k, c.k, strided.begin() + row * ldx());
    }
    x_ = arena_.add(raw(strided, c.dtype), skew);
    if (c.bias) bias_ = arena_.add(raw(values.bias, c.dtype), skew);
    y_ = arena_.add_output(static_cast<size_t>(c.slots() * ldy()) * size, skew);
    weight_ = std::make_unique<ArenaWeight>(arena_, values.weight, c.byte_skew);
    routing_ = std::make_unique<ArenaRouting>(arena_, values.routing);
    arena_.upload();
  }

  nf4_status_t call(const nf4_options_t* options, nf4_stream_t stream = nullptr) const {
    const nf4_weight_t weight = weight_->view();
    const nf4_routing_t routing = routing_->view();
    return nf4_gemm_experts(backend_.handle(), arena_.at(y_), ldy(), arena_.at(x_), ldx(), c_.dtype, &weight,
                            arena_.at(bias_), &routing, options, stream);
  }

  void download() { arena_.download(); }

  // Fails unless every output is within its bound, zeros are zeros, and nothing else was written.
  void check(const char* accuracy) {
    download();
    CHECK(arena_.trespass({y_}) == "");
    const std::vector<int64_t> expert = values_.routing.expert();
    check_against(accuracy, expert, arena_.after(y_));
    for (int64_t slot = 0; slot + 1 < c_.slots(); ++slot) {  // the gaps between rows still hold what they held
      REQUIRE(std::memcmp(byte(slot, c_.n), arena_.before<char>(y_) + (byte(slot, c_.n) - arena_.after<char>(y_)),
                          static_cast<size_t>(c_.pad * nf4ref::size_of(c_.dtype))) == 0);
    }
  }

  // The same for what a later call wrote of other experts.
  void check_against(const char* accuracy, const std::vector<int64_t>& expert, const void* y) const {
    const float* scale = values_.routing.scale.empty() ? nullptr : values_.routing.scale.data();
    const nf4ref::RoutedProduct routed{
        {values_.weight.view(), arena_.before(x_), ldx(), c_.rows_of_x(), c_.dtype, arena_.before(bias_)},
        c_.experts,
        c_.slots(),
        values_.routing.top_k,
        expert.data(),
        scale};
    nf4ref::Verdict verdict(c_.dtype, nf4ref::accuracy_g(accuracy, c_.dtype, c_.k));
    verdict.add_all(y, ldy(), nf4ref::references(routed), c_.slots(), c_.n);
    INFO(verdict.first_violation());
    CHECK(verdict.violations() == 0);
    int64_t not_zero = 0;
    for (int64_t slot = 0; slot < c_.slots(); ++slot) {
      for (int64_t n = 0; expert[static_cast<size_t>(slot)] < 0 && n < c_.n; ++n)
        not_zero += nf4ref::load(y, c_.dtype, slot * ldy() + n) != 0.0f;
    }
    CHECK(not_zero == 0);
  }

  double y(int64_t slot, int64_t n) const { return nf4ref::load(arena_.after(y_), c_.dtype, slot * ldy() + n); }
  std::vector<uint8_t> row(int64_t slot) const {
    return {byte(slot, 0), byte(slot, 0) + c_.n * nf4ref::size_of(c_.dtype)};
  }
  std::string trespass() const { return arena_.trespass({y_}); }
  Arena& arena() { return arena_; }
  const Arena::Slot& y_slot() const { return y_; }
  const ArenaRouting& routing() const { return *routing_; }

 private:
  int64_t ldx() const { return c_.k + c_.pad; }
  int64_t ldy() const { return c_.n + c_.pad; }
  const char* byte(int64_t slot, int64_t n) const {
    return arena_.after<char>(y_) + (slot * ldy() + n) * nf4ref::size_of(c_.dtype);
  }

  const Backend& backend_;
  Case c_;
  const Values& values_;
  Arena arena_;
  Arena::Slot x_, y_, bias_;
  std::unique_ptr<ArenaWeight> weight_;
  std::unique_ptr<ArenaRouting> routing_;
};

nf4_problem_t problem_of(const Case& c) {
  nf4_problem_t problem = NF4_PROBLEM_INIT;
  problem.op = NF4_OP_GEMM_EXPERTS;
  problem.dtype = c.dtype;
  problem.m = c.slots();
  problem.n = c.n;
  problem.k = c.k;
  problem.blocksize = c.blocksize;
  problem.absmax_dtype = c.absmax_dtype;
  const auto size = static_cast<size_t>(nf4ref::size_of(c.dtype));
  size_t addresses = 16 | c.byte_skew | c.element_skew * size;
  if (c.rows_of_x() > 1) addresses |= static_cast<size_t>(c.k + c.pad) * size;
  problem.alignment = static_cast<int32_t>(addresses & (~addresses + 1));
  problem.strided = c.pad != 0;
  problem.experts = c.experts;
  problem.top_k = c.row_each ? 1 : c.top_k;
  problem.sorted = c.form == Form::sorted || c.form == Form::rows;
  return problem;
}

bool runs(const Backend& backend, const Case& c, const nf4_variant_info_t& info) {
  const nf4_problem_t problem = problem_of(c);
  int32_t supported = 0;
  require_success(nf4_variant_supports(backend.handle(), info.name, &problem, &supported, nullptr, 0));
  return supported != 0;
}

// The case, or the nearest to it that the variant takes.
Case adapted(const Backend& backend, Case c, const nf4_variant_info_t& info) {
  if (!runs(backend, c, info)) c.element_skew = c.byte_skew = 0;
  if (!runs(backend, c, info)) c.k = (c.k + 63) / 64 * 64;
  if (!runs(backend, c, info)) c.dtype = c.dtype == NF4_F32 ? NF4_BF16 : c.dtype;
  if (!runs(backend, c, info)) c.blocksize = std::max(c.blocksize, 64);
  c.n = whole_blocks(c.n, c.k, c.blocksize);
  return c;
}

void check_matrix(const Backend& backend, unsigned seed) {
  const std::vector<int64_t> experts = {1, 2, 5, 16, 64};
  const std::vector<int64_t> tokens = {1, 2, 3, 7, 16, 33};
  const std::vector<int64_t> top_ks = {1, 2, 4};
  const std::vector<int64_t> ns = {1, 3, 16, 33};
  const std::vector<int64_t> ks = {1, 31, 64, 96, 704, 768, 1408, 2880};
  const std::vector<unsigned> strays = {0, 30};
  const auto rows =
      pairwise({kDtypes.size(), kBlocksizes.size(), kAbsmaxDtypes.size(), 2, 2, kForms.size(), experts.size(),
                tokens.size(), top_ks.size(), ns.size(), ks.size(), 2, strays.size(), 2, 2, 2},
               seed);
  for_each_config(backend, NF4_OP_GEMM_EXPERTS, [&](const nf4_variant_info_t& info, const nf4_options_t& options) {
    std::mt19937 random(seed);
    int64_t cases = 0;
    for (const auto& row : rows) {
      Case c{kDtypes[row[0]],
             kBlocksizes[row[1]],
             kAbsmaxDtypes[row[2]],
             row[3] != 0,
             row[4] != 0,
             kForms[row[5]],
             experts[row[6]],
             tokens[row[7]],
             top_ks[row[8]],
             ns[row[9]],
             ks[row[10]],
             row[11] != 0,
             INT64_MAX,
             strays[row[12]],
             row[13] != 0 ? 8 : 0,
             static_cast<size_t>(row[14]),
             static_cast<size_t>(row[15])};
      c.n = whole_blocks(c.n, c.k, c.blocksize);
      c = adapted(backend, c, info);
      while (c.experts > 1 && c.experts * c.n * c.k > 1 << 21) c.experts /= 2;
      while (c.tokens > 1 && c.slots() * c.n * c.k > 1 << 22) c.tokens /= 2;
      INFO(c.text());
      REQUIRE(runs(backend, c, info));
      const Values values = random_values(random, c);
      Run run(backend, c, values);
      require_success(run.call(&options));
      run.check(info.accuracy);
      ++cases;
    }
    WARN(info.name << " " << options.config << ": " << cases << " cases of all pairs");
  });
}

// Who is routed where: one expert has all slots, all have some, none has any; one expert and 512; no slots.
void check_routings(const Backend& backend) {
  for_each_config(backend, NF4_OP_GEMM_EXPERTS, [&](const nf4_variant_info_t& info, const nf4_options_t& options) {
    std::mt19937 random(41);
    int tried = 0;
    for (const Form form : kForms) {
      for (const nf4_dtype_t dtype : {NF4_F32, NF4_BF16}) {
        for (const auto& [experts, hit, tokens, top_k] : std::vector<std::array<int64_t, 4>>{{1, 1, 1, 1},
                                                                                             {1, 1, 40, 1},
                                                                                             {8, 1, 20, 2},
                                                                                             {8, 8, 40, 2},
                                                                                             {8, 0, 5, 2},
                                                                                             {512, 512, 4, 8},
                                                                                             {512, 3, 70, 1},
                                                                                             {8, 8, 0, 2}}) {
          const Case c{dtype,  64,    NF4_F32, true, true,  form, experts,
                       tokens, top_k, 5,       64,   false, hit,  experts == 8 && hit == 8 ? 20u : 0u};
          if (!runs(backend, c, info)) continue;
          ++tried;
          INFO(c.text());
          const Values values = random_values(random, c);
          Run run(backend, c, values);
          require_success(run.call(&options));
          run.check(info.accuracy);
        }
      }
    }
    CHECK(tried > 0);
  });
}

// By whichever variant is selected, without a workspace and with the one that it asks for, within the widest bound.
void check_selected(const Backend& backend) {
  std::mt19937 random(43);
  for (const nf4_dtype_t dtype : kDtypes) {
    for (const Form form : kForms) {
      for (const int64_t tokens : {1, 8, 64, 400}) {
        const Case c{dtype, 64, NF4_F32, true, true, form, 8, tokens, 2, 48, 128};
        INFO(c.text());
        // Of all that may be selected, those that a run of one variant does not test too.
        double widest = 0;
        const char* accuracy = "exact";
        size_t variants = 0;
        require_success(nf4_variant_count(backend.handle(), NF4_OP_GEMM_EXPERTS, &variants));
        for (size_t v = 0; v < variants; ++v) {
          nf4_variant_info_t info{};
          info.struct_size = sizeof info;
          require_success(nf4_variant_info(backend.handle(), NF4_OP_GEMM_EXPERTS, v, &info));
          const double g = nf4ref::accuracy_g(info.accuracy, dtype, c.k);
          if (g > widest && runs(backend, c, info)) {
            accuracy = info.accuracy;
            widest = g;
          }
        }
        const Values values = random_values(random, c);
        Run run(backend, c, values);
        nf4_weight_t weight = values.weight.view();
        const nf4_routing_t routing = run.routing().view();
        size_t bytes = 1;
        require_success(nf4_gemm_experts_workspace(backend.handle(), dtype, &weight, &routing, &bytes));
        const Scratch workspace(backend.on_host() ? 0 : bytes);
        nf4_options_t options = NF4_OPTIONS_INIT;
        options.workspace = workspace.get();
        options.workspace_size = workspace.size();
        for (const nf4_options_t* given : {static_cast<const nf4_options_t*>(nullptr), &std::as_const(options)}) {
          run.arena().poison(run.y_slot());
          require_success(run.call(given));
          run.check(accuracy);
        }
      }
    }
  }
}

// A slot's row does not depend on the form of the routing, nor on the slots beside it.
void check_forms(const Backend& backend) {
  for_each_config(backend, NF4_OP_GEMM_EXPERTS, [&](const nf4_variant_info_t& info, const nf4_options_t& options) {
    std::mt19937 random(47);
    Case c{NF4_BF16, 64, NF4_F32, true, true, Form::ids64, 6, 19, 2, 24, 320, true, INT64_MAX, 10};
    if (!runs(backend, c, info)) return;
    Values values = random_values(random, c);
    Run by_ids(backend, c, values);
    require_success(by_ids.call(&options));
    by_ids.check(info.accuracy);
    const auto same_rows = [&](const Case& other, const Values& others, const std::vector<int32_t>& slots) {
      Run run(backend, other, others);
      require_success(run.call(&options));
      run.check(info.accuracy);
      int64_t differing = 0;
      for (size_t i = 0; i < slots.size(); ++i) differing += run.row(static_cast<int64_t>(i)) != by_ids.row(slots[i]);
      CHECK(differing == 0);
    };
    std::vector<int32_t> all(static_cast<size_t>(c.slots()));
    std::iota(all.begin(), all.end(), 0);
    for (const Form form : {Form::ids32, Form::sorted}) {
      Values in_form = values;
      in_form.routing.form = form;
      for (int64_t& id : in_form.routing.ids) id = id < 0 || id >= c.experts ? -1 : id;
      same_rows(c, in_form, all);
    }
    // Rows of x that lie sorted, and a tenth of them.
    Values sorted = values;
    sorted.routing.form = Form::rows;
    const std::vector<int32_t> order = values.routing.order();
    for (size_t i = 0; i < order.size(); ++i) {
      const auto slot = static_cast<size_t>(order[i]);
      sorted.routing.ids[i] = values.routing.ids[slot];
      sorted.routing.scale[i] = values.routing.scale[slot];
      std::copy_n(values.x.begin() + order[i] * c.k, c.k, sorted.x.begin() + static_cast<int64_t>(i) * c.k);
    }
    same_rows(c, sorted, order);
    const bool by_tiles = std::string_view(info.accuracy) == "exact";  // the host's, which multiplies one row otherwise
    if (by_tiles) return;
    Case few = c;
    few.tokens = 2;
    Values beginning = values;
    beginning.routing.ids.resize(static_cast<size_t>(few.slots()));
    beginning.routing.scale.resize(static_cast<size_t>(few.slots()));
    beginning.x.resize(static_cast<size_t>(few.slots() * c.k));
    same_rows(few, beginning, {0, 1, 2, 3});
  });
}

// Experts of no slot, one, and around the sizes of tiles, of rows that are no multiple of a tile's. A slot's bits are
// those that it has where few others are, in a narrower tile.
void check_tiles(const Backend& backend) {
  for_each_config(backend, NF4_OP_GEMM_EXPERTS, [&](const nf4_variant_info_t& info, const nf4_options_t& options) {
    constexpr int kCounts[] = {0, 1, 127, 128, 0, 129, 257, 64, 65, 0};
    std::mt19937 random(83);
    std::vector<int64_t> ids;
    for (size_t expert = 0; expert < std::size(kCounts); ++expert)
      ids.insert(ids.end(), static_cast<size_t>(kCounts[expert]), static_cast<int64_t>(expert));
    ids.insert(ids.end(), 3, -1);
    for (const Form form : kForms) {
      const Case c{NF4_BF16, 64, NF4_F32, true, true, form, 10, static_cast<int64_t>(ids.size()), 1, 130, 192, true};
      if (!runs(backend, c, info)) continue;
      INFO(c.text());
      if (form != Form::rows) std::shuffle(ids.begin(), ids.end(), random);
      if (form == Form::rows) {
        std::stable_sort(ids.begin(), ids.end(),
                         [](int64_t a, int64_t b) { return static_cast<uint64_t>(a) < static_cast<uint64_t>(b); });
      }
      Values values = random_values(random, c);
      values.routing.ids = ids;
      Run run(backend, c, values);
      require_success(run.call(&options));
      run.check(info.accuracy);

      Case few = c;
      few.tokens = 20;
      Values some = values;
      some.routing.ids.clear();
      some.routing.scale.clear();
      some.x.clear();
      std::vector<int64_t> slots;
      for (size_t i = 0; slots.size() < 20; i += ids.size() / 20) {
        slots.push_back(static_cast<int64_t>(i));
        some.routing.ids.push_back(ids[i]);
        some.routing.scale.push_back(values.routing.scale[i]);
        const auto x = values.x.begin() + static_cast<int64_t>(i) * c.k;
        some.x.insert(some.x.end(), x, x + c.k);
      }
      Run again(backend, few, some);
      require_success(again.call(&options));
      again.check(info.accuracy);
      if (backend.on_host()) continue;  // which multiplies one row otherwise
      int64_t differing = 0;
      for (size_t i = 0; i < slots.size(); ++i) differing += again.row(static_cast<int64_t>(i)) != run.row(slots[i]);
      CHECK(differing == 0);
    }
  });
}

// Codes of -1, 0 and 1, scales that are powers of two, small integers: every product and sum is exact.
void check_exact(const Backend& backend) {
  for_each_config(backend, NF4_OP_GEMM_EXPERTS, [&](const nf4_variant_info_t& info, const nf4_options_t& options) {
    std::mt19937 random(53);
    int tried = 0;
    for (const nf4_dtype_t dtype : kDtypes) {
      for (const int64_t k : {64, 192, 1408, 2880}) {
        const Case c{dtype, 64, NF4_F32, true, true, Form::ids64, 5, 9, 2, 11, k};
        if (!runs(backend, c, info)) continue;
        ++tried;
        INFO(c.text());
        Values values = random_values(random, c);
        for (float& x : values.x) x = static_cast<float>(static_cast<int>(random() % 5) - 2);
        for (float& b : values.bias) b = static_cast<float>(static_cast<int>(random() % 17) - 8);
        for (float& s : values.routing.scale) s = std::ldexp(1.0f, static_cast<int>(random() % 5) - 2);
        constexpr uint8_t kExact[] = {0, 7, 15};
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
        for (int64_t slot = 0; slot < c.slots(); ++slot) {
          const int64_t first = values.routing.ids[static_cast<size_t>(slot)] * c.n;
          for (int64_t n = 0; n < c.n; ++n) {
            double sum = static_cast<double>(values.bias[static_cast<size_t>(first + n)]);
            for (int64_t j = 0; j < k; ++j) {
              sum += nf4ref::element(weight, (first + n) * k + j) *
                     static_cast<double>(values.x[static_cast<size_t>(slot / 2 * k + j)]);
            }
            sum *= static_cast<double>(values.routing.scale[static_cast<size_t>(slot)]);
            float expected = 0;
            nf4ref::store(&expected, dtype, 0, static_cast<float>(sum));
            wrong += run.y(slot, n) != static_cast<double>(nf4ref::load(&expected, dtype, 0));
          }
        }
        CHECK(wrong == 0);
      }
    }
    CHECK(tried > 0);
  });
}

// What ends and order must not hold gives rows of any value, and writes nothing else.
void check_malformed(const Backend& backend) {
  const std::vector<std::vector<int32_t>> bad_ends = {
      {9, 4, 2}, {-1, -5, 3}, {INT_MAX, INT_MAX, INT_MAX}, {INT_MIN, 0, 100}, {0, 0, 0}};
  const std::vector<std::vector<int32_t>> bad_orders = {
      {0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, {-1, 10, INT_MAX, INT_MIN, 3, 4, 5, 6, 7, 8}, {9, 8, 7, 6, 5, 4, 3, 2, 1, 0}};
  for_each_config(backend, NF4_OP_GEMM_EXPERTS, [&](const nf4_variant_info_t& info, const nf4_options_t& options) {
    std::mt19937 random(59);
    const Case c{NF4_BF16, 64, NF4_F32, true, true, Form::sorted, 3, 5, 2, 16, 128};
    if (!runs(backend, c, info)) return;
    const WeightData weight = random_weight(random, c.experts * c.n, c.k, 64, NF4_F32);
    for (const auto& ends : bad_ends) {
      for (const auto& order : bad_orders) {
        Arena arena(backend.on_host());
        const Arena::Slot x =
            arena.add(raw(uniform(random, static_cast<size_t>(c.tokens * c.k), -1.0f, 1.0f), c.dtype));
        // What no end or order names is not written, and is downloaded all the same.
        const Arena::Slot y = arena.add(std::vector<uint8_t>(static_cast<size_t>(c.slots() * c.n * 2), 0xff));
        const ArenaWeight in_arena(arena, weight);
        const Arena::Slot ends_slot = arena.add(ends), order_slot = arena.add(order);
        arena.upload();
        nf4_routing_t routing = NF4_ROUTING_INIT;
        routing.experts = c.experts;
        routing.slots = c.slots();
        routing.top_k = c.top_k;
        routing.ends = arena.at<int32_t>(ends_slot);
        routing.order = arena.at<int32_t>(order_slot);
        const nf4_weight_t view = in_arena.view();
        require_success(nf4_gemm_experts(backend.handle(), arena.at(y), c.n, arena.at(x), c.k, c.dtype, &view, nullptr,
                                         &routing, &options, nullptr));
        arena.download();
        CHECK(arena.trespass({y}) == "");
      }
    }
  });
}

// Without columns a row is its bias times its scale, or zeros.
void check_no_columns(const Backend& backend) {
  for_each_config(backend, NF4_OP_GEMM_EXPERTS, [&](const nf4_variant_info_t& info, const nf4_options_t& options) {
    std::mt19937 random(61);
    for (const bool bias : {true, false}) {
      for (const Form form : kForms) {
        const Case c{NF4_F32, 64, NF4_F32, bias, true, form, 3, 4, 2, 5, 0, false, INT64_MAX, 30};
        if (!runs(backend, c, info)) continue;
        INFO(c.text());
        const Values values = random_values(random, c);
        Run run(backend, c, values);
        require_success(run.call(&options));
        run.check(info.accuracy);
      }
    }
  });
}

void check_sort(const Backend& backend) {
  for_each_config(backend, NF4_OP_SORT_EXPERTS, [&](const nf4_variant_info_t&, const nf4_options_t& options) {
    std::mt19937 random(67);
    for (const Form form : {Form::ids32, Form::ids64}) {
      for (const auto& [experts, hit, tokens] : std::vector<std::array<int64_t, 3>>{{1, 1, 1},
                                                                                    {1, 1, 3000},
                                                                                    {8, 8, 1024},
                                                                                    {8, 8, 1025},
                                                                                    {512, 512, 5000},
                                                                                    {512, 1, 100},
                                                                                    {128, 0, 50},
                                                                                    {5, 5, 0},
                                                                                    {0, 0, 7},
                                                                                    {3000, 3000, 40}}) {
        INFO("form " << static_cast<int>(form) << " experts " << experts << " hit " << hit << " slots " << tokens);
        const RoutingData data = random_routing(random, experts, tokens, 1, form, hit, 10, false);
        Arena arena(backend.on_host());
        const ArenaRouting routing(arena, data);
        const Arena::Slot order = arena.add_output(data.ids.size() * sizeof(int32_t));
        const Arena::Slot ends = arena.add_output(static_cast<size_t>(experts) * sizeof(int32_t));
        arena.upload();
        const nf4_routing_t view = routing.view();
        require_success(nf4_sort_experts(backend.handle(), arena.at<int32_t>(order), arena.at<int32_t>(ends), &view,
                                         &options, nullptr));
        arena.download();
        CHECK(arena.trespass({order, ends}) == "");
        const auto read = [&](const Arena::Slot& slot, size_t count) {
          const auto* const values = arena.after<int32_t>(slot);
          return std::vector<int32_t>(values, values + count);
        };
        CHECK(read(order, data.ids.size()) == data.order());
        CHECK(read(ends, static_cast<size_t>(experts)) == data.ends());
      }
    }
  });
}

constexpr unsigned kSeed = 20261129;

}  // namespace

NF4_ON_BOTH("experts: all pairs against the oracle", "", check_matrix(backend, kSeed))
NF4_ON_BOTH("experts: every kind of routing", "[small]", check_routings(backend))
NF4_ON_BOTH("experts: what is selected, with a workspace and without", "", check_selected(backend))
NF4_ON_BOTH("experts: a row's bits depend on its own operands", "", check_forms(backend))
NF4_ON_BOTH("experts: as many slots as a tile has, fewer and more", "", check_tiles(backend))
NF4_ON_BOTH("experts: exact where arithmetic is", "", check_exact(backend))
NF4_ON_BOTH("experts: ends and orders that are none write nothing else", "[small]", check_malformed(backend))
NF4_ON_BOTH("experts: a product over no columns is the bias", "[small]", check_no_columns(backend))
NF4_ON_BOTH("experts: sorted slots are those of a stable sort", "[small]", check_sort(backend))

// The host makes an expert's product as it makes any: the bits are those of nf4_gemm on its rows.
TEST_CASE("experts: each expert's product is that of nf4_gemm, host") {
  const Backend backend(NF4_HOST_DEVICE);
  std::mt19937 random(71);
  for (const nf4_dtype_t dtype : kDtypes) {
    for (const int64_t tokens : {1, 3, 300}) {
      const Case c{dtype, 64, NF4_F32, true, false, Form::rows, 3, tokens, 1, 40, 704};
      INFO(c.text());
      const Values values = random_values(random, c);
      Run run(backend, c, values);
      require_success(run.call(nullptr));
      run.download();
      const std::vector<int32_t> ends = values.routing.ends();
      const auto size = static_cast<size_t>(nf4ref::size_of(dtype));
      const std::vector<uint8_t> x = raw(values.x, dtype), bias = raw(values.bias, dtype);
      int64_t differing = 0;
      for (int64_t e = 0, first = 0; e < c.experts; first = ends[static_cast<size_t>(e++)]) {
        nf4_weight_t weight = values.weight.view();
        weight.rows = c.n;
        weight.codes += e * c.n * c.k / 2;
        weight.absmax = static_cast<const float*>(weight.absmax) + e * c.n * c.k / 64;
        const int64_t m = ends[static_cast<size_t>(e)] - first;
        std::vector<uint8_t> y(static_cast<size_t>(m * c.n) * size);
        require_success(nf4_gemm(backend.handle(), y.data(), c.n, x.data() + static_cast<size_t>(first * c.k) * size,
                                 c.k, m, dtype, &weight, bias.data() + static_cast<size_t>(e * c.n) * size, nullptr,
                                 nullptr));
        for (int64_t i = 0; i < m; ++i) {
          const auto row = y.begin() + i * c.n * nf4ref::size_of(dtype);
          differing += std::vector<uint8_t>(row, row + c.n * nf4ref::size_of(dtype)) != run.row(first + i);
        }
      }
      CHECK(differing == 0);
    }
  }
}

// Expert e of the stack, so far back that 32 bits do not count its weights. What no slot is of is never touched, so
// most of this memory does not exist.
TEST_CASE("experts: the last of 2^31 weights and more, host") {
  const Backend backend(NF4_HOST_DEVICE);
  constexpr int64_t kN = 64, kK = 64, kExperts = (int64_t{1} << 19) + 3;
  constexpr int64_t kBlocks = kExperts * kN * kK / 64;
  const std::unique_ptr<uint8_t, decltype(&std::free)> codes(
      static_cast<uint8_t*>(std::calloc(static_cast<size_t>(kExperts * kN * kK / 2), 1)), &std::free);
  const std::unique_ptr<float, decltype(&std::free)> absmax(
      static_cast<float*>(std::calloc(static_cast<size_t>(kBlocks), sizeof(float))), &std::free);
  REQUIRE((codes != nullptr && absmax != nullptr));
  const std::vector<int64_t> ids = {kExperts - 1, 0, int64_t{1} << 19};
  for (const int64_t expert : ids) {
    for (int64_t i = expert * kN * kK; i < (expert + 1) * kN * kK; ++i)
      codes.get()[i / 2] |= static_cast<uint8_t>((i % 2 == 0 ? 0xf0 : 0x0f));  // 1
    for (int64_t n = 0; n < kN; ++n) absmax.get()[expert * kN + n] = static_cast<float>(expert % 7 + 1);
  }
  nf4_weight_t weight = NF4_WEIGHT_INIT;
  weight.rows = kExperts * kN;
  weight.cols = kK;
  weight.codes = codes.get();
  weight.absmax = absmax.get();
  nf4_routing_t routing = NF4_ROUTING_INIT;
  routing.experts = kExperts;
  routing.slots = static_cast<int64_t>(ids.size());
  routing.ids = ids.data();
  const std::vector<float> x(ids.size() * kK, 1.0f);
  std::vector<float> y(ids.size() * kN);
  require_success(nf4_gemm_experts(backend.handle(), y.data(), kN, x.data(), kK, NF4_F32, &weight, nullptr, &routing,
                                   nullptr, nullptr));
  for (size_t slot = 0; slot < ids.size(); ++slot) {
    const auto begin = y.begin() + static_cast<int64_t>(slot) * kN;
    CHECK(std::vector<float>(begin, begin + kN) ==
          std::vector<float>(kN, static_cast<float>(kK * (ids[slot] % 7 + 1))));
  }
}

#if NF4_HAVE_CUDA
TEST_CASE("experts: a captured call serves every routing, CUDA", "[gpu]") {
  REQUIRE_GPU();
  const Backend backend(0);
  for_each_config(backend, NF4_OP_GEMM_EXPERTS, [&](const nf4_variant_info_t& info, const nf4_options_t& options) {
    std::mt19937 random(73);
    const Case c{NF4_BF16, 64, NF4_F32, true, true, Form::ids64, 8, 150, 2, 80, 256};
    if (!runs(backend, c, info)) return;
    const Values values = random_values(random, c);
    Run run(backend, c, values);
    cudaStream_t stream = nullptr;
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    require_success(run.call(&options, stream));
    check_cuda(cudaStreamEndCapture(stream, &graph));
    check_cuda(cudaGraphInstantiate(&executable, graph, 0));
    for (const auto& [hit, strays] :
         std::vector<std::pair<int64_t, unsigned>>{{8, 0}, {1, 0}, {3, 50}, {0, 0}, {8, 10}}) {
      RoutingData routing = random_routing(random, c.experts, c.tokens, c.top_k, c.form, hit, strays);
      check_cuda(cudaMemcpy(run.arena().at(run.routing().ids()), routing.ids.data(),
                            routing.ids.size() * sizeof(int64_t), cudaMemcpyHostToDevice));
      run.arena().poison(run.y_slot());
      check_cuda(cudaGraphLaunch(executable, stream));
      check_cuda(cudaStreamSynchronize(stream));
      run.arena().download(run.y_slot());
      INFO("hit " << hit << " strays " << strays);
      run.check_against(info.accuracy, routing.expert(), run.arena().after(run.y_slot()));
    }
    check_cuda(cudaGraphExecDestroy(executable));
    check_cuda(cudaGraphDestroy(graph));
    check_cuda(cudaStreamDestroy(stream));
  });
}
#endif

}  // namespace nf4test
