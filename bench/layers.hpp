// The linear layers of the models that the benchmark is about.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace nf4bench {

struct Layer {
  std::string_view model;
  std::string_view name;
  int64_t n;
  int64_t k;
};

std::span<const Layer> layers();

}  // namespace nf4bench
