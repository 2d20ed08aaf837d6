#include "report/summary.hpp"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "formatted.hpp"
#include "report/statistics.hpp"

namespace nf4bench {
namespace {

constexpr size_t kNarrowest = 11;  // of a column

// The problem without its shape: what a line is about.
Problem kind_of(Problem problem) {
  problem.n = problem.k = 0;
  problem.layer.clear();
  if (!problem.parts.empty()) problem.parts = {0};
  return problem;
}

std::string title(const Problem& kind) {
  const std::string m = is_product(kind.op) ? nf4::formatted(" M={}{}", kind.m, experts_text(kind)) : std::string();
  return nf4::formatted("{}{}{}, {}, blocksize {}{}", op_name(kind.op), m, kind.parts.empty() ? "" : ", groups",
                        dtype_name(kind.dtype), kind.blocksize, kind.nested ? ", nested" : "");
}

// The time of the fastest row on `problem` that counts; 0 if there is none.
template <typename Counts>
double fastest(const std::vector<Row>& rows, const Problem& problem, const Counts& counts) {
  double best = 0;
  for (const Row& row : rows) {
    const bool one_of_them = row.median > 0 && row.problem == problem && counts(row);
    if (one_of_them && (best == 0 || row.median < best)) best = row.median;
  }
  return best;
}

std::string speedup(const std::vector<Row>& rows, const std::vector<const Row*>& selected, std::string_view peer) {
  std::vector<double> ratios;
  for (const Row* ours : selected) {
    const double theirs = fastest(rows, ours->problem, [&](const Row& row) { return row.contender == peer; });
    if (theirs > 0) ratios.push_back(theirs / ours->median);
  }
  return ratios.empty() ? "-" : nf4::formatted("{:.2f} ({})", geometric_mean(ratios), ratios.size());
}

// How many times as long as the fastest variant, at worst, and where.
std::string worst_choice(const std::vector<Row>& rows, const std::vector<const Row*>& selected) {
  double worst = 0;
  const Row* where = nullptr;
  for (const Row* ours : selected) {
    const auto forced = [](const Row& row) { return !row.is_peer && row.is_variant; };
    const double best = fastest(rows, ours->problem, forced);
    if (best > 0 && ours->median / best > worst) {
      worst = ours->median / best;
      where = ours;
    }
  }
  return where == nullptr ? "-" : nf4::formatted("{:.2f} ({}x{})", worst, where->problem.n, where->problem.k);
}

}  // namespace

std::string summary(const std::vector<Row>& rows, const std::vector<std::string>& peers) {
  std::vector<Problem> kinds;
  for (const Row& row : rows) {
    const Problem kind = kind_of(row.problem);
    const bool known = std::find(kinds.begin(), kinds.end(), kind) != kinds.end();
    if (row.contender == kSelected && row.median > 0 && !known) kinds.push_back(kind);
  }
  const bool variants = std::any_of(rows.begin(), rows.end(), [](const Row& row) { return row.is_variant; });
  if (kinds.empty() || (peers.empty() && !variants)) return "";

  constexpr size_t kTitle = 40;
  std::string out = nf4::formatted("\nTimes as fast as, geometric mean (shapes)\n{:<{}}", "", kTitle);
  for (const std::string& peer : peers) out += nf4::formatted("  {:>{}}", peer, std::max(kNarrowest, peer.size()));
  out += variants ? "  time over best variant, at worst\n" : "\n";
  for (const Problem& kind : kinds) {
    std::vector<const Row*> selected;
    for (const Row& row : rows) {
      if (row.contender == kSelected && row.median > 0 && kind_of(row.problem) == kind) selected.push_back(&row);
    }
    out += nf4::formatted("{:<{}}", title(kind), kTitle);
    for (const std::string& peer : peers) {
      out += nf4::formatted("  {:>{}}", speedup(rows, selected, peer), std::max(kNarrowest, peer.size()));
    }
    out += variants ? nf4::formatted("  {}\n", worst_choice(rows, selected)) : "\n";
  }
  return out;
}

}  // namespace nf4bench
