#include "tune/regret.hpp"

#include <algorithm>
#include <stdexcept>

#include "context.hpp"
#include "report/progress.hpp"
#include "report/regret_table.hpp"
#include "report/report.hpp"
#include "suite.hpp"
#include "tune/tryout.hpp"

namespace nf4bench {
namespace {

// As rows of a sweep: what is selected, under that name; what was faster, the fastest first; and what was wrong.
std::vector<Row> rows_of(const std::vector<Attempt>& attempts) {
  std::vector<Row> selected, faster, wrong;
  for (const Attempt& attempt : attempts) {
    if (!attempt.selected) continue;
    Row row = attempt.row;
    row.config = row.contender + (row.config.empty() ? "" : " ") + row.config;
    row.contender = kSelected;
    selected.push_back(std::move(row));
  }
  for (const auto& [row, is_selected, dropped] : attempts) {
    if (is_selected) continue;
    if (!row.check.ok) wrong.push_back(row);
    const bool beats =
        std::any_of(selected.begin(), selected.end(), [&](const Row& s) { return row.median < s.median; });
    if (row.check.ok && !dropped && beats) faster.push_back(row);
  }
  std::sort(faster.begin(), faster.end(), [](const Row& a, const Row& b) { return a.median < b.median; });
  std::vector<Row> out = std::move(selected);
  out.insert(out.end(), faster.begin(), faster.end());
  out.insert(out.end(), wrong.begin(), wrong.end());
  return out;
}

}  // namespace

size_t measure_regret(Device& device, nf4_handle_t handle, const RegretOptions& options) {
  // What can be refused is refused before anything is measured.
  std::vector<Problem> problems = suite(device, options.suite);
  std::erase_if(problems, [&](const Problem& problem) { return variants_for(handle, {}, problem).empty(); });
  if (problems.empty()) throw std::invalid_argument("none of the variants supports any of the problems");
  check_writable(options.csv);
  check_writable(options.json);
  OutputFile csv(options.csv);
  OutputFile json(options.json);

  Report report(describe_run(device, options.commit, false, false), std::move(csv), std::move(json));
  Progress progress(problems.size());
  for (const Problem& problem : problems) {
    if (progress.seconds() > options.limit) {
      report.add_not_measured(problem);
      continue;
    }
    progress.next(describe(problem));
    const std::vector<Attempt> attempts = try_all(device, handle, variants_for(handle, {}, problem), problem);
    progress.clear();
    report.add(rows_of(attempts));
  }
  report.finish(regret_table(report.rows()));
  return report.failures();
}

}  // namespace nf4bench
