// Routings of slots to experts, in each of the forms that nf4_routing_t has.
#pragma once

#include <algorithm>
#include <climits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "operands.hpp"

namespace nf4test {

enum class Form { ids32, ids64, sorted, rows };  // sorted: order and ends; rows: ends alone, of slots that lie sorted

inline const std::vector<Form> kForms = {Form::ids32, Form::ids64, Form::sorted, Form::rows};

// The host data of a routing. `ids` are as a router gives them, and may be no expert's.
struct RoutingData {
  int64_t experts, top_k;
  Form form;
  std::vector<int64_t> ids;
  std::vector<float> scale;  // empty: none

  int64_t slots() const { return static_cast<int64_t>(ids.size()); }
  bool by_ids() const { return form == Form::ids32 || form == Form::ids64; }

  // The expert of each slot, -1 for none.
  std::vector<int64_t> expert() const {
    std::vector<int64_t> all = ids;
    for (int64_t& id : all) id = id >= 0 && id < experts ? id : -1;
    return all;
  }
  // The slots by expert, those of none last.
  std::vector<int32_t> order() const {
    const std::vector<int64_t> of = expert();
    const auto key = [&](int32_t slot) {
      const int64_t e = of[static_cast<size_t>(slot)];
      return e < 0 ? experts : e;
    };
    std::vector<int32_t> slots_in_order(ids.size());
    std::iota(slots_in_order.begin(), slots_in_order.end(), 0);
    std::stable_sort(slots_in_order.begin(), slots_in_order.end(),
                     [&](int32_t a, int32_t b) { return key(a) < key(b); });
    return slots_in_order;
  }
  std::vector<int32_t> ends() const {
    std::vector<int32_t> all;
    const std::vector<int64_t> of = expert();
    int32_t end = 0;
    for (int64_t e = 0; e < experts; ++e) {
      end += static_cast<int32_t>(std::count(of.begin(), of.end(), e));
      all.push_back(end);
    }
    return all;
  }
};

// A number that is no expert's. The low bits of those that only 64 bits hold are.
inline int64_t no_expert(std::mt19937& random, int64_t experts, Form form) {
  const int64_t narrow[] = {-1, experts, INT_MIN, INT_MAX};
  const int64_t wide[] = {INT64_MIN, INT64_MAX, int64_t{1} << 32, -(int64_t{1} << 32), -1, experts};
  return form == Form::ids64 ? wide[random() % 6] : narrow[random() % 4];
}

// Each slot's expert is drawn from the first `hit` of them, and `strays` of 100 slots have none.
inline RoutingData random_routing(std::mt19937& random, int64_t experts, int64_t tokens, int64_t top_k, Form form,
                                  int64_t hit, unsigned strays = 0, bool scaled = true) {
  RoutingData data{experts, top_k, form, {}, {}};
  for (int64_t slot = 0; slot < tokens * top_k; ++slot) {
    const bool none = hit == 0 || random() % 100 < strays;
    data.ids.push_back(none ? no_expert(random, experts, form) : static_cast<int64_t>(random() % hit));
  }
  if (form == Form::rows) {
    std::vector<int64_t> sorted;
    for (const int32_t slot : data.order()) sorted.push_back(data.ids[static_cast<size_t>(slot)]);
    data.ids = sorted;
  }
  if (scaled) data.scale = uniform(random, data.ids.size(), -2.0f, 2.0f);
  return data;
}

// A routing in an arena, as the call gets it.
class ArenaRouting {
 public:
  ArenaRouting(Arena& arena, const RoutingData& data) : arena_(arena), data_(data) {
    if (data.form == Form::ids32) ids_ = arena.add(std::vector<int32_t>(data.ids.begin(), data.ids.end()));
    if (data.form == Form::ids64) ids_ = arena.add(data.ids);
    if (!data.by_ids()) ends_ = arena.add(data.ends());
    if (data.form == Form::sorted) order_ = arena.add(data.order());
    if (!data.scale.empty()) scale_ = arena.add(data.scale);
  }

  nf4_routing_t view() const {
    nf4_routing_t routing = NF4_ROUTING_INIT;
    routing.experts = data_.experts;
    routing.slots = data_.slots();
    routing.top_k = data_.top_k;
    routing.ids = arena_.at(ids_);
    routing.ids_dtype = data_.form == Form::ids32 ? NF4_I32 : NF4_I64;
    routing.ends = arena_.at<int32_t>(ends_);
    routing.order = arena_.at<int32_t>(order_);
    routing.scale = arena_.at<float>(scale_);
    return routing;
  }
  const Arena::Slot& ids() const { return ids_; }

 private:
  const Arena& arena_;
  const RoutingData& data_;
  Arena::Slot ids_, ends_, order_, scale_;
};

// Rows of an expert's W: `n`, or the next more that end at the end of a block.
inline int64_t whole_blocks(int64_t n, int64_t k, int32_t blocksize) {
  const int64_t multiple = blocksize / std::gcd(k, int64_t{blocksize});
  return (n + multiple - 1) / multiple * multiple;
}

}  // namespace nf4test
