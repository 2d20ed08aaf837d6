#include "sweep.hpp"

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <optional>
#include <stdexcept>

#include "measure.hpp"
#include "report/progress.hpp"
#include "suite.hpp"

namespace nf4bench {
namespace {

// The report is ours; Google Benchmark runs the rows.
class NoReporter final : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>&) override {}
};

}  // namespace

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
    const std::string name =
        describe(*entry.problem) + ", " + entry.contender->name() + " " + entry.contender->config();
    benchmark::RegisterBenchmark(name.c_str(),
                                 [&, entry, name](benchmark::State& state) {
                                   if (!workload && progress.seconds() > options.limit) {
                                     if (entry.last_of_problem) report.add_not_measured(*entry.problem);
                                     return state.SkipWithError("no time left");
                                   }
                                   progress.next(name);
                                   if (!workload)
                                     workload.emplace(device, handle, *entry.problem, options.hot, options.pending);
                                   const Row row = measure(*workload, *entry.contender, pace);
                                   if (!row.check.ok) state.SkipWithError(row.check.what.c_str());
                                   for (auto _ : state) state.SetIterationTime(row.median * 1e-6);
                                   rows.push_back(row);
                                   if (!entry.last_of_problem) return;
                                   progress.clear();
                                   report.add(rows);
                                   rows.clear();
                                   workload.reset();
                                 })
        ->Iterations(1)
        ->UseManualTime();
  }
  NoReporter reporter;
  benchmark::RunSpecifiedBenchmarks(&reporter, ".*");
}

}  // namespace nf4bench
