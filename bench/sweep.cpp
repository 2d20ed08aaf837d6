#include "sweep.hpp"

#include <algorithm>
#include <stdexcept>

#include "context.hpp"
#include "formatted.hpp"
#include "measure.hpp"
#include "report/progress.hpp"
#include "report/summary.hpp"
#include "suite.hpp"
#include "variants.hpp"

namespace nf4bench {
namespace {

Context context_of(Device& device, const SweepOptions& options, const Contenders& contenders) {
  Context context = describe_run(device, options.commit, options.hot, options.pending);
  for (const auto& contender : contenders) {
    std::vector<std::string>& peers = context.peers;
    const bool named = std::find(peers.begin(), peers.end(), contender->name()) != peers.end();
    if (contender->is_peer() && !named) peers.push_back(contender->name());
  }
  return context;
}

// The library's contenders for all operations asked for, and the peers.
Contenders contenders_of(Device& device, nf4_handle_t handle, const SweepOptions& options, std::string& note) {
  check_variants(handle, options.suite.ops, options.variants, true);
  Contenders out;
  for (const nf4_op_t op : options.suite.ops) {
    for (auto& contender : nf4_contenders(handle, op, options.variants)) out.push_back(std::move(contender));
  }
  if (!device.is_host()) {
    for (auto& peer : cuda_peers(device, handle, options.peers, note)) out.push_back(std::move(peer));
    return out;
  }
  for (const auto& [option, path] :
       {std::pair("--peer", options.peers.bitsandbytes), std::pair("--cublas", options.peers.cublas)}) {
    if (!path.empty())
      throw std::invalid_argument(
          nf4::formatted("{} is {}; expected none on the host, where it cannot run", option, path));
  }
  for (auto& peer : host_peers(note)) out.push_back(std::move(peer));
  return out;
}

std::vector<Contender*> supporters(const Contenders& contenders, const Problem& problem) {
  std::vector<Contender*> out;
  for (const auto& contender : contenders) {
    if (contender->supports(problem)) out.push_back(contender.get());
  }
  return out;
}

std::string title(const Problem& problem, const Contender& contender) {
  return describe(problem) + ", " + contender.name() + " " + contender.config();
}

}  // namespace

void measure_all(Device& device, nf4_handle_t handle, const SweepOptions& options, const std::vector<Problem>& problems,
                 const Contenders& contenders, Report& report) {
  size_t steps = 0;
  for (const Problem& problem : problems) steps += supporters(contenders, problem).size();
  Progress progress(steps);
  for (const Problem& problem : problems) {
    const std::vector<Contender*> running = supporters(contenders, problem);
    if (running.empty()) continue;
    if (progress.seconds() > options.limit) {
      report.add_not_measured(problem);
      continue;
    }
    Workload workload(device, handle, problem, options.hot, options.pending);
    std::vector<Row> rows;
    for (Contender* contender : running) {
      progress.next(title(problem, *contender));
      rows.push_back(measure(workload, *contender, options.suite.full ? kBrisk : kThorough));
    }
    progress.clear();
    report.add(rows);
  }
}

size_t sweep(Device& device, nf4_handle_t handle, const SweepOptions& options) {
  // What can be refused is refused before anything is measured.
  std::string note;
  const Contenders contenders = contenders_of(device, handle, options, note);
  const std::vector<Problem> problems = suite(device, options.suite);
  const auto has_supporters = [&](const Problem& problem) { return !supporters(contenders, problem).empty(); };
  if (std::none_of(problems.begin(), problems.end(), has_supporters)) {
    throw std::invalid_argument("none of the variants supports any of the problems");
  }
  check_writable(options.csv);
  check_writable(options.json);
  OutputFile csv(options.csv);
  OutputFile json(options.json);

  Report report(context_of(device, options, contenders), std::move(csv), std::move(json));
  if (!note.empty()) say("without dense products: {}\n", note);
  measure_all(device, handle, options, problems, contenders, report);
  report.finish(summary(report.rows(), report.context().peers));
  return report.failures();
}

}  // namespace nf4bench
