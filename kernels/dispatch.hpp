// From run-time values to template parameters, each spelled once for all kernels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <type_traits>
#include <utility>

#include "format/dtype.hpp"
#include "format/number.hpp"

namespace nf4 {

// Calls f with a value-initialized T of `dtype`, one of f32, f16 and bf16.
template <class F>
auto with_dtype(Dtype dtype, F&& f) {
  switch (dtype) {
    case Dtype::f16:
      return f(f16{});
    case Dtype::bf16:
      return f(bf16{});
    default:
      return f(float{});
  }
}

// The same for the types that tensor cores take, f16 and bf16.
template <class F>
auto with_16bit(Dtype dtype, F&& f) {
  return dtype == Dtype::bf16 ? f(bf16{}) : f(f16{});
}

// Calls pass(m0, rows) for rows m0 on of the m that x has, until all are done or one fails: pass finds in `rows` how
// many are left, and leaves there how many it took. Returns the first error, a cudaError_t.
template <class Pass>
int in_passes(int64_t m, const Pass& pass) {
  for (int64_t m0 = 0; m0 < m;) {
    int64_t rows = m - m0;
    if (const int error = pass(m0, rows); error != 0) return error;
    m0 += rows;
  }
  return 0;
}

template <int V>
using Constant = std::integral_constant<int, V>;

// Calls f(Constant<Low>{}) ... f(Constant<High>{}) for the one that equals `value`; Low if none does.
template <int Low, int High, class F>
auto with_constant(int value, F&& f) {
  if constexpr (Low < High) {
    if (value != Low) return with_constant<Low + 1, High>(value, std::forward<F>(f));
  }
  return f(Constant<Low>{});
}

// Calls f(Constant<i>{}) for the index `config` of Configs; f reads Configs[i] as a compile-time value.
template <const auto& Configs, class F>
auto with_config(int config, F&& f) {
  return with_constant<0, static_cast<int>(std::size(Configs)) - 1>(config, std::forward<F>(f));
}

template <const auto& Configs>
std::string config_text(int config) {
  return Configs[config].text();
}

}  // namespace nf4
