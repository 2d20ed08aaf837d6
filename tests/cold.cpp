// Products of a layer that no cache holds, launched one after the other: copies come from memory, in whatever order it
// has them, and a kernel begins while the one before ends. Each launch must give the same bits, and the right ones. A
// kernel that now and then reads what has not come yet passes all tests on small shapes, and fails here.
#include <cstring>

#include "support/calls.hpp"

namespace nf4test {
namespace {

struct Layer {
  int64_t n, k;
  std::vector<int64_t> rows;  // of x
  int launches;               // of each
  nf4_dtype_t absmax_dtype;
};

void check_cold(const Backend& backend, const Layer& layer) {
  std::mt19937 random(41);
  const WeightData data = random_weight(random, layer.n, layer.k, 64, layer.absmax_dtype);
  Arena arena(backend.on_host());
  const ArenaWeight weight(arena, data, 0);
  const int64_t most = *std::max_element(layer.rows.begin(), layer.rows.end());
  const Arena::Slot x = arena.add(raw(uniform(random, static_cast<size_t>(most * layer.k), -1.0f, 1.0f), NF4_BF16));
  std::vector<Arena::Slot> outputs;
  for (const int64_t m : layer.rows)
    outputs.push_back(arena.add_output(static_cast<size_t>(layer.launches * m * layer.n) * sizeof(uint16_t)));
  arena.upload();
  nf4_weight_t view = weight.view();
  view.flags = NF4_WEIGHT_CONSTANT;

  // Of each row of x, for every so many rows of W.
  const int64_t step = std::max<int64_t>(1, layer.n / 61);
  const nf4ref::Product product{data.view(), arena.before(x), layer.k, most, NF4_BF16, nullptr};
  std::vector<nf4ref::Reference> references;
  for (int64_t i = 0; i < most; ++i) {
    for (int64_t n = 0; n < layer.n; n += step) references.push_back(nf4ref::partial_sum(product, i, n, 0, 1));
  }

  int64_t launched = 0;
  for_each_config(backend, NF4_OP_GEMM, [&](const nf4_variant_info_t& info, const nf4_options_t& options) {
    int taken = 0;
    for (size_t r = 0; r < layer.rows.size(); ++r) {
      const int64_t m = layer.rows[r];
      const int64_t size = m * layer.n;
      INFO(m << " rows of x");
      arena.poison(outputs[r]);
      nf4_status_t status = NF4_SUCCESS;
      for (int l = 0; l < layer.launches && status == NF4_SUCCESS; ++l) {
        status = nf4_gemm(backend.handle(), arena.at<uint16_t>(outputs[r]) + l * size, layer.n, arena.at(x), layer.k, m,
                          NF4_BF16, &view, nullptr, &options, nullptr);
      }
      if (status == NF4_ERROR_UNSUPPORTED) continue;
      require_success(status);
      ++taken;
      launched += layer.launches;

      arena.download(outputs[r]);
      const auto* const first = arena.after<uint16_t>(outputs[r]);
      int differing = 0;
      for (int l = 1; l < layer.launches; ++l)
        differing += std::memcmp(first + l * size, first, static_cast<size_t>(size) * sizeof *first) != 0;
      CHECK(differing == 0);
      nf4ref::Verdict verdict(NF4_BF16, nf4ref::accuracy_g(info.accuracy, NF4_BF16, layer.k));
      auto reference = references.begin();
      for (int64_t i = 0; i < m; ++i) {
        for (int64_t n = 0; n < layer.n; n += step)
          verdict.add(double{nf4ref::from_bf16(first[i * layer.n + n])}, *reference++);
      }
      INFO(verdict.first_violation());
      CHECK(verdict.violations() == 0);
    }
    CHECK(taken > 0);
  });
  if (launched > 0) WARN(launched << " launches");
}

}  // namespace

TEST_CASE("cold: products of a layer, host") {
  check_cold(Backend(NF4_HOST_DEVICE), {70, 192, {1, 3, 16}, 3, NF4_F32});
  check_cold(Backend(NF4_HOST_DEVICE), {70, 192, {1, 3, 16}, 3, NF4_U8});
}
NF4_ON_CUDA("cold: products of a large layer", "[soak]",
            check_cold(backend, {20480, 8192, {1, 2, 4, 8, 16, 32, 64, 128}, 50, NF4_F32}))  // 94 MB of weights
// Rows for which gemm.pair_stream has tiles of 112, and so, with 16 rows of x, a ring of 7 stages: its barriers are
// then the most, and the map of nested scales lies behind them.
NF4_ON_CUDA("cold: products of a nested layer whose rings are odd", "[soak]",
            check_cold(backend, {13824, 2048, {1, 8, 16, 32, 64}, 8, NF4_U8}))

}  // namespace nf4test
