#include "report/summary.hpp"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "formatted.hpp"
#include "report/kinds.hpp"
#include "report/statistics.hpp"

namespace nf4bench {
namespace {

constexpr size_t kNarrowest = 11;  // of a column

std::string speedup(const std::vector<Row>& rows, const std::vector<const Row*>& selected, std::string_view peer) {
  std::vector<double> ratios;
  for (const Row* ours : selected) {
    const Row* const theirs = fastest(rows, ours->problem, [&](const Row& row) { return row.contender == peer; });
    if (theirs != nullptr) ratios.push_back(theirs->median / ours->median);
  }
  return ratios.empty() ? "-" : nf4::formatted("{:.2f} ({})", geometric_mean(ratios), ratios.size());
}

// How many times as long as the fastest variant, at worst, and where.
std::string worst_choice(const std::vector<Row>& rows, const std::vector<const Row*>& selected) {
  double worst = 0;
  const Row* where = nullptr;
  for (const Row* ours : selected) {
    const auto forced = [](const Row& row) { return !row.is_peer && row.is_variant; };
    const Row* const best = fastest(rows, ours->problem, forced);
    if (best != nullptr && ours->median / best->median > worst) {
      worst = ours->median / best->median;
      where = ours;
    }
  }
  return where == nullptr ? "-" : nf4::formatted("{:.2f} ({}x{})", worst, where->problem.n, where->problem.k);
}

}  // namespace

std::string summary(const std::vector<Row>& rows, const std::vector<std::string>& peers) {
  const std::vector<Problem> kinds = kinds_of(rows, kSelected);
  const bool variants = std::any_of(rows.begin(), rows.end(), [](const Row& row) { return row.is_variant; });
  if (kinds.empty() || (peers.empty() && !variants)) return "";

  std::string out = nf4::formatted("\nTimes as fast as, geometric mean (shapes)\n{:<{}}", "", kTitleWidth);
  for (const std::string& peer : peers) out += nf4::formatted("  {:>{}}", peer, std::max(kNarrowest, peer.size()));
  out += variants ? "  time over best variant, at worst\n" : "\n";
  for (const Problem& kind : kinds) {
    std::vector<const Row*> selected;
    for (const Row& row : rows) {
      if (row.contender == kSelected && row.median > 0 && kind_of(row.problem) == kind) selected.push_back(&row);
    }
    out += nf4::formatted("{:<{}}", title(kind), kTitleWidth);
    for (const std::string& peer : peers) {
      out += nf4::formatted("  {:>{}}", speedup(rows, selected, peer), std::max(kNarrowest, peer.size()));
    }
    out += variants ? nf4::formatted("  {}\n", worst_choice(rows, selected)) : "\n";
  }
  return out;
}

}  // namespace nf4bench
