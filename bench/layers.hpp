// The linear layers of the models that the benchmark is about, one by one and in groups that multiply the same x.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace nf4bench {

struct Layer {
  std::string_view model;
  std::string_view name;
  int64_t n;
  int64_t k;
  std::vector<int64_t> parts{};  // of a group: the rows of each layer, n in all
};

std::span<const Layer> layers();
std::span<const Layer> groups();

// Layers of other models, by which the tuning table was never made: what is selected there is what users get.
constexpr std::string_view kHeldOut = "heldout";
std::span<const Layer> held_out_layers();

}  // namespace nf4bench
