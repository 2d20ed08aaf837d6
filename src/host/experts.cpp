// Products with routed experts: slots are sorted by expert, and each expert that has any is a product.
#include <algorithm>
#include <cstring>

#include "check.hpp"
#include "gemm/experts.hpp"
#include "host.hpp"
#include "product.hpp"

namespace nf4 {
namespace {

// A stable counting sort. Slots of no expert come last.
void sort_slots(const Routing& routing, int32_t* order, int32_t* ends) {
  std::fill_n(ends, routing.experts, 0);
  for (int64_t slot = 0; slot < routing.slots; ++slot) {
    if (const int64_t expert = routed_expert(routing, slot); expert != kNoExpert) ++ends[expert];
  }
  int32_t next = 0;  // where the slots of an expert begin, and at last those of none
  for (int64_t expert = 0; expert < routing.experts; ++expert) {
    const int32_t count = ends[expert];
    ends[expert] = next;
    next += count;
  }
  for (int64_t slot = 0; slot < routing.slots; ++slot) {
    const int64_t expert = routed_expert(routing, slot);
    order[expert != kNoExpert ? ends[expert]++ : next++] = static_cast<int32_t>(slot);
  }
}

// The product of `count` slots with an expert.
HostProduct product_of(const GemmExpertsArgs& args, int64_t expert, const int32_t* slots, int64_t count) {
  const int64_t first = expert * args.n;
  const auto* const bias = static_cast<const uint8_t*>(args.bias);
  return {args.y,
          args.ldy,
          args.x,
          args.ldx,
          count,
          args.dtype,
          args.weight,
          first,
          args.n,
          bias != nullptr ? bias + first * static_cast<int64_t>(size_of(args.dtype)) : nullptr,
          slots,
          args.routing.top_k,
          args.routing.scale};
}

void write_zeros(const GemmExpertsArgs& args, const int32_t* slots, int64_t count) {
  const size_t size = size_of(args.dtype);
  for (int64_t i = 0; i < count; ++i) {
    std::memset(static_cast<uint8_t*>(args.y) + static_cast<size_t>(slots[i] * args.ldy) * size, 0,
                static_cast<size_t>(args.n) * size);
  }
}

// Doubles that the product of one expert takes, whatever the routing.
int64_t largest_product(const GemmExpertsArgs& args, const Device& device) {
  return std::max(host_product_scratch(product_of(args, 0, nullptr, 1), device),
                  host_product_scratch(product_of(args, 0, nullptr, args.routing.slots), device));
}

}  // namespace

// That of a product, then slots, order and ends.
int64_t host_gemm_experts_scratch(const GemmExpertsArgs& args, const Device& device) {
  return largest_product(args, device) + (2 * args.routing.slots + args.routing.experts + 1) / 2;
}

int host_gemm_experts(const GemmExpertsArgs& args, const Device& device, int, Stream) {
  auto* const scratch = static_cast<double*>(args.workspace);
  auto* const slots = reinterpret_cast<int32_t*>(scratch + largest_product(args, device));
  Routing routing = args.routing;
  if (routing.ends == nullptr) {
    int32_t* const order = slots + routing.slots;
    int32_t* const ends = order + routing.slots;
    sort_slots(routing, order, ends);
    routing.order = order;
    routing.ends = ends;
  }
  for (int64_t position = 0; position < routing.slots;) {
    const ExpertRun run = run_at(routing, position, routing.slots);
    int64_t count = 0;
    for (; position < run.end; ++position) {
      if (const int64_t slot = slot_at(routing, position); slot >= 0) slots[count++] = static_cast<int32_t>(slot);
    }
    if (run.expert == kNoExpert) {
      write_zeros(args, slots, count);
    } else if (count > 0) {
      host_product(product_of(args, run.expert, slots, count), device, scratch);
    }
  }
  return 0;
}

int host_sort_experts(const SortExpertsArgs& args, const Device&, int, Stream) {
  sort_slots(args.routing, args.order, args.ends);
  return 0;
}

}  // namespace nf4
