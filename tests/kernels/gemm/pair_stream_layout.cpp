// What gemm.pair_stream lays out: for any sizes of W nothing in shared memory overlaps, each barrier is one team's and
// one producer group's, and all rows and columns are somebody's.
#include "pair_stream_layout.hpp"

#include <string>

#include "catch.hpp"

namespace nf4test {
namespace {

// The rows of each W of a group whose first W has n; empty for some n.
std::vector<int64_t> one(int64_t n) { return {n}; }
std::vector<int64_t> three(int64_t n) {
  return n % 8 == 0 ? std::vector<int64_t>{n, n / 8, n / 8} : std::vector<int64_t>{};
}
std::vector<int64_t> four(int64_t n) {
  return n % 8 == 1 ? std::vector<int64_t>{n, n, n + 70, 1} : std::vector<int64_t>{};
}

template <class Sizes>
void check_stream_layouts() {
  for (const auto group : {one, three, four}) {
    INFO(Sizes::kCols << " rows of x, " << Sizes::kProducers << " producers, " << group(8).size() << " or "
                      << group(9).size() << " W");
    check_layouts(nf4::kStreamConfigs,
                  [group](const nf4::Device& device, const nf4::StreamConfig& config, int64_t n,
                          int64_t k) -> std::optional<std::string> {
                    const std::vector<int64_t> rows = group(n);
                    if (rows.empty()) return std::nullopt;
                    nf4::StreamPlan layout{}, least{};
                    if (!nf4::lay_out_stream<Sizes>(rows, k, device, config, layout))
                      return no_room(nf4::lay_out_stream<nf4::StreamSizes<8, true>>(rows, k, device, {1, 1}, least));
                    return wrong_with<Sizes>(layout, config, device, rows, k);
                  });
  }
}

}  // namespace

TEST_CASE("pair_stream_layout: nothing overlaps, for any sizes") {
  check_stream_layouts<nf4::StreamSizes<1, true>>();
  check_stream_layouts<nf4::StreamSizes<2, true>>();
  check_stream_layouts<nf4::StreamSizes<4, true>>();
  check_stream_layouts<nf4::StreamSizes<8, true>>();
  check_stream_layouts<nf4::StreamSizes<1, false>>();
  check_stream_layouts<nf4::StreamSizes<2, false>>();
  check_stream_layouts<nf4::StreamSizes<4, false>>();
  check_stream_layouts<nf4::StreamSizes<8, false>>();
}

}  // namespace nf4test
