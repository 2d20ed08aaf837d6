#include "sweep.hpp"

#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <stdexcept>

#include "measure.hpp"

namespace nf4bench {
namespace {

std::vector<Layer> chosen_layers(const Device& device, const Options& options) {
  std::vector<Layer> out = options.shapes;
  const bool by_default = options.shapes.empty() && options.models.empty();
  if (by_default && device.is_host()) return {{"", "", 1024, 4096}};
  for (const Layer& layer : layers()) {
    const auto named = [&](const std::string& model) { return model == "all" || model == layer.model; };
    if (by_default || std::any_of(options.models.begin(), options.models.end(), named)) out.push_back(layer);
  }
  return out;
}

// Only products have an M, and the operations on scales are there for nested ones.
std::vector<Problem> problems_of(const Device& device, const Options& options) {
  std::vector<Problem> out;
  for (const nf4_op_t op : options.ops) {
    const bool of_absmax = op == NF4_OP_PACK_ABSMAX || op == NF4_OP_UNPACK_ABSMAX;
    const bool nested = of_absmax || (options.nested && op != NF4_OP_PACK);
    for (const Layer& layer : chosen_layers(device, options)) {
      for (const nf4_dtype_t dtype : options.dtypes) {
        for (const int32_t blocksize : options.blocksizes) {
          for (const int64_t m : options.m) {
            out.push_back(
                {op, of_absmax ? NF4_F32 : dtype, m, layer.n, layer.k, blocksize, nested, std::string(layer.name)});
            if (op != NF4_OP_GEMM) {
              out.back().m = 1;
              break;
            }
          }
        }
        if (of_absmax) break;  // one dtype is all they have
      }
    }
  }
  return out;
}

// A line on a terminal that each row overwrites.
class Progress {
 public:
  explicit Progress(size_t total) : total_(total) {}
  void next(const std::string& what) {
    ++done_;
    if (shown_) fmt::print(stderr, "\r\x1b[K[{}/{}] {}", done_, total_, what);
  }
  void clear() const {
    if (shown_) fmt::print(stderr, "\r\x1b[K");
  }

 private:
  bool shown_ = isatty(STDERR_FILENO) != 0;
  size_t total_;
  size_t done_ = 0;
};

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

  Progress progress(entries.size());
  std::optional<Workload> workload;
  std::vector<Row> rows;
  for (const Entry& entry : entries) {
    const std::string name =
        describe(*entry.problem) + ", " + entry.contender->name() + " " + entry.contender->config();
    benchmark::RegisterBenchmark(name.c_str(),
                                 [&, entry, name](benchmark::State& state) {
                                   progress.next(name);
                                   if (!workload)
                                     workload.emplace(device, handle, *entry.problem, options.hot, options.pending);
                                   const Row row = measure(*workload, *entry.contender);
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
