#include "sweep.hpp"

#include <optional>
#include <stdexcept>

#include "measure.hpp"
#include "problems.hpp"
#include "progress.hpp"

namespace nf4bench {

void sweep(Device& device, nf4_handle_t handle, const Options& options, const Contenders& contenders, Report& report) {
  const std::vector<Problem> problems = problems_of(device, options);
  struct Entry {
    const Problem* problem;
    Contender* contender;
    bool last_of_problem;
  };
  std::vector<Entry> entries;
  for (const Problem& problem : problems) {
    const size_t before = entries.size();
    for (const auto& contender : contenders) {
      if (contender->supports(problem)) entries.push_back({&problem, contender.get(), false});
    }
    if (entries.size() > before) entries.back().last_of_problem = true;
  }
  if (entries.empty()) throw std::invalid_argument("none of the variants supports any of the problems");

  const Pace& pace = options.sweep == Options::Sweep::full ? kBrisk : kThorough;
  Progress progress(entries.size());
  std::optional<Workload> workload;
  std::vector<Row> rows;
  for (const Entry& entry : entries) {
    if (!workload && progress.seconds() > options.limit) {
      if (entry.last_of_problem) report.add_not_measured(*entry.problem);
      continue;
    }
    progress.next(describe(*entry.problem) + ", " + entry.contender->name() + " " + entry.contender->config());
    if (!workload) workload.emplace(device, handle, *entry.problem, options.hot, options.pending);
    rows.push_back(measure(*workload, *entry.contender, pace));
    if (!entry.last_of_problem) continue;
    progress.clear();
    report.add(rows);
    rows.clear();
    workload.reset();
  }
}

}  // namespace nf4bench
