#include "report/regret_table.hpp"

#include <algorithm>
#include <string_view>

#include "contenders/contender.hpp"
#include "formatted.hpp"
#include "report/kinds.hpp"
#include "report/statistics.hpp"

namespace nf4bench {
namespace {

struct Regret {
  const Row* selected;
  const Row* best;

  double value() const { return selected->median / best->median; }
};

bool less(const Regret& a, const Regret& b) { return a.value() < b.value(); }

std::vector<Regret> regrets_of(const std::vector<Row>& rows, const Problem& kind) {
  std::vector<Regret> out;
  for (const Row& row : rows) {
    if (row.contender != kSelected || row.median == 0 || kind_of(row.problem) != kind) continue;
    out.push_back({&row, fastest(rows, row.problem, [](const Row&) { return true; })});
  }
  return out;
}

std::string layer_of(const Problem& problem) {
  return problem.layer.empty() ? nf4::formatted("{}x{}", problem.n, problem.k) : problem.layer;
}

// Variant and config; of the selected one its config tells both.
std::string choice_of(const Row& row) {
  if (row.contender == kSelected) return row.config;
  return row.contender + (row.config.empty() ? "" : " ") + row.config;
}

}  // namespace

std::string regret_table(const std::vector<Row>& rows) {
  struct Line {
    Problem kind;
    std::vector<double> values;
    Regret worst;
  };
  std::vector<Line> lines;
  size_t layer_width = std::string_view("layer").size();
  size_t selected_width = std::string_view("selected").size();
  for (const Problem& kind : kinds_of(rows, kSelected)) {
    const std::vector<Regret> regrets = regrets_of(rows, kind);
    Line line{kind, {}, *std::max_element(regrets.begin(), regrets.end(), less)};
    for (const Regret& regret : regrets) line.values.push_back(regret.value());
    layer_width = std::max(layer_width, layer_of(line.worst.selected->problem).size());
    selected_width = std::max(selected_width, choice_of(*line.worst.selected).size());
    lines.push_back(std::move(line));
  }
  if (lines.empty()) return "";

  std::string out = nf4::formatted("\nTime of what is selected over that of the best\n{:<{}}  problems   mean  worst",
                                   "", kTitleWidth);
  out += nf4::formatted("  {:<{}}  {:<{}}  best\n", "layer", layer_width, "selected", selected_width);
  for (const auto& [kind, values, worst] : lines) {
    out += nf4::formatted("{:<{}}  {:>8} {:>6.3f} {:>6.3f}  {:<{}}  {:<{}}  {}\n", title(kind), kTitleWidth,
                          values.size(), geometric_mean(values), worst.value(), layer_of(worst.selected->problem),
                          layer_width, choice_of(*worst.selected), selected_width, choice_of(*worst.best));
  }
  const auto by_worst = [](const Line& a, const Line& b) { return less(a.worst, b.worst); };
  const Regret worst = std::max_element(lines.begin(), lines.end(), by_worst)->worst;
  return out + nf4::formatted("The worst: {:.3f}, {}: selected {}, {:.2f} us; best {}, {:.2f} us\n", worst.value(),
                              describe(worst.selected->problem), choice_of(*worst.selected), worst.selected->median,
                              choice_of(*worst.best), worst.best->median);
}

}  // namespace nf4bench
