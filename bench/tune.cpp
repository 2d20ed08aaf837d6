#include "tune.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "measure.hpp"
#include "problems.hpp"
#include "progress.hpp"
#include "statistics.hpp"
#include "status.hpp"
#include "tune_state.hpp"
#include "tune_table.hpp"

namespace nf4bench {
namespace {

// What is this much slower than the best after a glance is dropped; noise is a few percent.
constexpr double kDropped = 1.15;
// One launch is enough of what is this much slower, if it takes a while.
constexpr double kHopeless = 4;
constexpr double kWhile = 1e-3;  // seconds

Choice selected(nf4_handle_t handle, const Problem& problem, size_t workspace_size) {
  const nf4_problem_t asked = descriptor(problem);
  nf4_options_t options = NF4_OPTIONS_INIT;
  options.workspace_size = workspace_size;
  nf4_selection_t selection = {};
  selection.struct_size = sizeof selection;
  check(nf4_select(handle, &asked, &options, &selection));
  return {selection.variant, selection.config};
}

// The device as rows name it: alone, and with all of its compute capability.
struct DeviceNames {
  std::string own, all;
};
DeviceNames device_names(nf4_handle_t handle) {
  nf4_device_info_t info = {};
  info.struct_size = sizeof info;
  check(nf4_device_info(handle, &info));
  const std::string own = info.name;
  const std::string all = info.device == NF4_HOST_DEVICE ? own : fmt::format("sm_{}", info.compute_capability);
  return {own.find(',') == std::string::npos ? own : all, all};
}

// The fastest of the trials that are not wrong, and that need no workspace if `modest`; 0 if there is none.
double fastest(const std::vector<Trial>& trials, bool modest) {
  double best = 0;
  for (const Trial& trial : trials) {
    const bool counts = trial.outcome != Trial::Outcome::failed && !(modest && trial.workspace);
    if (counts && (best == 0 || trial.microseconds < best)) best = trial.microseconds;
  }
  return best;
}

// Tries the variants of the library on one problem: all of them at a glance, then properly those that are not far
// behind, be it among all or among those that need no workspace, and what was selected before.
class Tryout {
 public:
  Tryout(Device& device, nf4_handle_t handle, const Problem& problem, const Options& options)
      : workload_(device, handle, problem, options.hot, options.pending),
        before_(selected(handle, problem, SIZE_MAX)) {}

  Measured run(const Contenders& contenders) {
    std::vector<Contender*> running;
    for (const auto& contender : contenders) {
      if (contender->supports(workload_.problem())) running.push_back(contender.get());
    }
    std::vector<Trial> trials;
    for (Contender* contender : running) {
      Pace pace = kGlance;
      if (const double best = fastest(trials, false); best > 0) {
        pace.hopeless_seconds = std::max(kHopeless * best * 1e-6, kWhile);
      }
      trials.push_back(measured(*contender, pace));
    }
    const double best = fastest(trials, false);
    const double best_modest = fastest(trials, true);
    for (size_t i = 0; i < trials.size(); ++i) {
      if (trials[i].outcome == Trial::Outcome::failed) continue;
      const double limit = kDropped * (trials[i].workspace ? best : std::max(best, best_modest));
      if (trials[i].microseconds <= limit || trials[i].before) {
        trials[i] = measured(*running[i], kBrisk);
      } else {
        trials[i].outcome = Trial::Outcome::dropped;
      }
    }
    return {workload_.problem(), trials};
  }

 private:
  Trial measured(Contender& contender, const Pace& pace) {
    const Row row = measure(workload_, contender, pace);
    Trial trial;
    trial.choice = {row.contender, row.config};
    trial.workspace = row.workspace > 0;
    trial.before = trial.choice == before_;
    trial.microseconds = std::round(row.median * 1e3) * 1e-3;  // as the state's file keeps it
    if (!row.check.ok) {
      trial.outcome = Trial::Outcome::failed;
      fmt::print(stderr, "\nFAILED: {}, {} {}: {}\n", describe(row.problem), row.contender, row.config, row.check.what);
    }
    return trial;
  }

  Workload workload_;
  Choice before_;
};

void print(const Measured& measured) {
  const double best = fastest(measured.trials, false);
  for (const Trial& trial : measured.trials) {
    if (trial.before && trial.outcome != Trial::Outcome::failed) {
      fmt::print("{}: {:.2f} us selected", describe(measured.problem), trial.microseconds);
    }
  }
  for (const Trial& trial : measured.trials) {
    if (trial.microseconds != best || trial.outcome == Trial::Outcome::failed) continue;
    fmt::print(", {:.2f} us {} {}\n", best, trial.choice.variant, trial.choice.config);
    break;
  }
  std::fflush(stdout);
}

// Measures what `state` lacks of `problems`; false if the limit came first.
bool measure_missing(Device& device, nf4_handle_t handle, const Options& options, TuneState& state) {
  std::vector<Problem> missing;
  for (const Problem& problem : problems_of(device, options)) {
    if (!state.has(problem)) missing.push_back(problem);
  }
  Progress progress(missing.size());
  for (size_t i = 0; i < missing.size(); ++i) {
    const Problem& problem = missing[i];
    if (progress.seconds() > options.limit) {
      progress.clear();
      fmt::print("{} problems are left; the same command goes on with them\n", missing.size() - i);
      return false;
    }
    if (state.has(problem)) continue;  // its shape is that of another layer
    progress.next(describe(problem));
    Contenders contenders;
    for (auto& contender : nf4_contenders(handle, problem.op, options.variants)) {
      if (contender->is_variant()) contenders.push_back(std::move(contender));
    }
    const Measured measured = Tryout(device, handle, problem, options).run(contenders);
    progress.clear();
    print(measured);
    state.append(measured);
  }
  return true;
}

void write(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  if (!(file << text << std::flush)) throw std::runtime_error("cannot write " + path);
}

// Loads the table as a user would, and holds what is selected against what was meant.
void verify(nf4_handle_t handle, const std::string& path, const std::vector<TableRow>& table,
            const std::vector<Measured>& measured, const std::string& device) {
  check(nf4_tuning_load(handle, path.c_str()));
  for (const Measured& one : measured) {
    for (const size_t workspace_size : {SIZE_MAX, size_t{0}}) {
      const TableRow* const meant = find_row(table, one.problem, device, workspace_size > 0);
      if (meant == nullptr || selected(handle, one.problem, workspace_size) == meant->choice) continue;
      throw std::logic_error(fmt::format("{}: the table was to select {} {}, and does not", describe(one.problem),
                                         meant->choice.variant, meant->choice.config));
    }
  }
  if (const double worst = worst_loss(table, measured, device); worst > kWorst) {
    throw std::logic_error(fmt::format("a choice of the table is {:.3f} times slower than the best", worst));
  }
}

void print_gains(const std::vector<TableRow>& table, const std::vector<Measured>& measured, const std::string& device) {
  fmt::print("\n{:>6} {:>8}  row\n", "gain", "problems");
  for (const TableRow& row : table) {
    if (row.microseconds > 0) fmt::print("{:>5.2f}x {:>8}  {}\n", row.gain, row.problems.size(), table_line(row));
  }
  fmt::print("{} rows. At worst a measured problem takes {:.3f} times as long as with the best choice.\n", table.size(),
             worst_loss(table, measured, device));
}

}  // namespace

bool tune(Device& device, nf4_handle_t handle, const Options& options, const std::string& commit) {
  const auto [name, class_name] = device_names(handle);
  TuneState state(options.state, name, commit);
  if (!measure_missing(device, handle, options, state)) return false;

  std::vector<TableRow> table = make_table(name, state.measured());
  const std::string comment = fmt::format("{}, commit {}, by nf4-bench tune", name, commit);
  const std::string unverified = options.table + ".part";
  write(unverified, table_text(table, comment));
  verify(handle, unverified, table, state.measured(), name);
  std::filesystem::rename(unverified, options.table);
  print_gains(table, state.measured(), name);
  if (!options.builtin.empty()) {
    // What was measured on one device is nearer to its kin than the rows for all others are.
    for (TableRow& row : table) row.device = row.device == name ? class_name : row.device;
    write(options.builtin, table_text(table, comment));
  }
  fmt::print("{}\n", options.table);
  return std::none_of(state.measured().begin(), state.measured().end(), [](const Measured& one) {
    return std::any_of(one.trials.begin(), one.trials.end(),
                       [](const Trial& trial) { return trial.outcome == Trial::Outcome::failed; });
  });
}

}  // namespace nf4bench
