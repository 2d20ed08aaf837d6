// nf4-bench-calls: what calls cost the CPU, by Google Benchmark: on the host backend, with sizes so small that little
// but the way through the library is left. What a launch costs is not in it.
#include <benchmark/benchmark.h>

#include <array>
#include <cstdint>
#include <stdexcept>

#include "nf4/nf4.hpp"

namespace {

constexpr int64_t kRows = 2, kCols = 64;

// A packed matrix of one block a row, and what its products need.
struct Layer {
  std::array<uint8_t, kRows * kCols / 2> codes{};
  std::array<float, kRows> absmax{1.0f, 1.0f};
  std::array<float, kCols> x{};
  std::array<float, kRows> y{};
  nf4_weight_t weight = NF4_WEIGHT_INIT;

  Layer() {
    weight.rows = kRows;
    weight.cols = kCols;
    weight.codes = codes.data();
    weight.absmax = absmax.data();
  }
};

void require(benchmark::State& state, nf4_status_t status) {
  if (status != NF4_SUCCESS) state.SkipWithError(nf4_last_error_message());
}

void create(benchmark::State& state) {
  for (auto _ : state) {
    nf4_handle_t handle = nullptr;
    require(state, nf4_create(&handle, NF4_HOST_DEVICE));
    nf4_destroy(handle);
  }
}
BENCHMARK(create);

void select_variant(benchmark::State& state) {
  const nf4::Handle handle(NF4_HOST_DEVICE);
  nf4_problem_t problem = NF4_PROBLEM_INIT;
  problem.n = kRows;
  problem.k = kCols;
  nf4_selection_t selection{};
  selection.struct_size = sizeof selection;
  for (auto _ : state) require(state, nf4_select(handle.get(), &problem, nullptr, &selection));
}
BENCHMARK(select_variant);

void gemm(benchmark::State& state) {
  const nf4::Handle handle(NF4_HOST_DEVICE);
  Layer layer;
  for (auto _ : state) {
    require(state, nf4_gemm(handle.get(), layer.y.data(), kRows, layer.x.data(), kCols, 1, NF4_F32, &layer.weight,
                            nullptr, nullptr, nullptr));
  }
}
BENCHMARK(gemm);

void refused_gemm(benchmark::State& state) {
  const nf4::Handle handle(NF4_HOST_DEVICE);
  Layer layer;
  for (auto _ : state) {
    const nf4_status_t status = nf4_gemm(handle.get(), layer.y.data(), kRows, layer.x.data(), kCols - 1, 1, NF4_F32,
                                         &layer.weight, nullptr, nullptr, nullptr);
    if (status != NF4_ERROR_INVALID_ARGUMENT) state.SkipWithError("ldx was not refused");
  }
}
BENCHMARK(refused_gemm);

}  // namespace

BENCHMARK_MAIN();
