#include "tune/tune.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <stdexcept>

#include "formatted.hpp"
#include "measure.hpp"
#include "report/output.hpp"
#include "report/progress.hpp"
#include "report/statistics.hpp"
#include "status.hpp"
#include "suite.hpp"
#include "tune/state.hpp"
#include "tune/table.hpp"
#include "variants.hpp"

namespace nf4bench {
namespace {

// What is this much slower than the best after a glance is dropped; noise is a few percent.
constexpr double kDropped = 1.15;
// One launch is enough of what is this much slower, if it takes a while.
constexpr double kHopeless = 4;
constexpr double kWhile = 1e-3;  // seconds

Choice selected(nf4_handle_t handle, const Problem& problem, size_t workspace_size) {
  const nf4_selection_t selection = select(handle, problem, workspace_size);
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
  const std::string all = info.device == NF4_HOST_DEVICE ? own : nf4::formatted("sm_{}", info.compute_capability);
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
  // Of cold, constant weights.
  Tryout(Device& device, nf4_handle_t handle, const Problem& problem)
      : workload_(device, handle, problem, false, false), before_(selected(handle, problem, SIZE_MAX)) {}

  Measured run(const Contenders& contenders) {
    std::vector<Trial> trials;
    for (const auto& contender : contenders) {
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
        trials[i] = measured(*contenders[i], kBrisk);
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

// The variants to try on `problem`.
Contenders variants_for(nf4_handle_t handle, const std::vector<std::string>& names, const Problem& problem) {
  Contenders out = nf4_contenders(handle, problem.op, names);
  std::erase_if(out, [&](auto& contender) { return !contender->is_variant() || !contender->supports(problem); });
  return out;
}

std::string outcome_text(const Measured& measured) {
  std::string out;
  const double best = fastest(measured.trials, false);
  for (const Trial& trial : measured.trials) {
    if (trial.before && trial.outcome != Trial::Outcome::failed) {
      out += nf4::formatted("{}: {:.2f} us selected", describe(measured.problem), trial.microseconds);
    }
  }
  for (const Trial& trial : measured.trials) {
    if (trial.microseconds != best || trial.outcome == Trial::Outcome::failed) continue;
    out += nf4::formatted(", {:.2f} us {} {}\n", best, trial.choice.variant, trial.choice.config);
    break;
  }
  return out;
}

// Measures what `state` lacks of `problems`; false if the limit came first.
bool measure_missing(Device& device, nf4_handle_t handle, const TuneOptions& options,
                     const std::vector<Problem>& problems, TuneState& state) {
  std::vector<Problem> missing;
  for (const Problem& problem : problems) {
    if (!state.has(problem)) missing.push_back(problem);
  }
  Progress progress(missing.size());
  for (size_t i = 0; i < missing.size(); ++i) {
    const Problem& problem = missing[i];
    if (progress.seconds() > options.limit) {
      progress.clear();
      say("{} problems are left; the same command goes on with them\n", missing.size() - i);
      return false;
    }
    if (state.has(problem)) continue;  // its shape is that of another layer
    progress.next(describe(problem));
    const Contenders contenders = variants_for(handle, options.variants, problem);
    const Measured measured = Tryout(device, handle, problem).run(contenders);
    progress.clear();
    state.append(measured);
    write_stdout(outcome_text(measured));
  }
  return true;
}

// A file of this process alone, for what takes a path.
class TemporaryFile {
 public:
  explicit TemporaryFile(std::string_view text) {
    const int file = mkstemp(path_.data());
    if (file < 0) throw std::runtime_error(nf4::formatted("cannot write {}: {}", path_, std::strerror(errno)));
    close(file);
    OutputFile(path_).write(text);
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }

  const char* path() const { return path_.c_str(); }

 private:
  std::string path_ = (std::filesystem::temp_directory_path() / "nf4-tuning.XXXXXX").string();
};

// Loads the table as a user would, and holds what is selected against what was meant.
void verify(nf4_handle_t handle, std::string_view text, const std::vector<TableRow>& table,
            const std::vector<Measured>& measured, const std::string& device) {
  check(nf4_tuning_load(handle, TemporaryFile(text).path()));
  for (const Measured& one : measured) {
    for (const size_t workspace_size : {SIZE_MAX, size_t{0}}) {
      const TableRow* const meant = find_row(table, one.problem, device, workspace_size > 0);
      if (meant == nullptr || selected(handle, one.problem, workspace_size) == meant->choice) continue;
      throw std::logic_error(nf4::formatted("{}: the table was to select {} {}, and does not", describe(one.problem),
                                            meant->choice.variant, meant->choice.config));
    }
  }
  if (const double worst = worst_loss(table, measured, device); worst > kWorst) {
    throw std::logic_error(nf4::formatted("a choice of the table is {:.3f} times slower than the best", worst));
  }
}

std::string gains_text(const std::vector<TableRow>& table, const std::vector<Measured>& measured,
                       const std::string& device) {
  std::string out = nf4::formatted("\n{:>6} {:>8}  row\n", "gain", "problems");
  for (const TableRow& row : table) {
    if (row.microseconds > 0)
      out += nf4::formatted("{:>5.2f}x {:>8}  {}\n", row.gain, row.problems.size(), table_line(row));
  }
  return out +
         nf4::formatted("{} rows. At worst a measured problem takes {:.3f} times as long as with the best choice.\n",
                        table.size(), worst_loss(table, measured, device));
}

}  // namespace

bool tune(Device& device, nf4_handle_t handle, const TuneOptions& options) {
  const auto [name, class_name] = device_names(handle);
  // What can be refused is refused before anything is measured.
  check_variants(handle, options.suite.ops, options.variants, false);
  std::vector<Problem> problems = suite(device, options.suite);
  std::erase_if(problems, [&](auto& problem) { return variants_for(handle, options.variants, problem).empty(); });
  if (problems.empty()) throw std::invalid_argument("none of the variants supports any of the problems");
  check_writable(options.table);
  check_writable(options.builtin);
  TuneState state(options.state, name, options.commit);
  if (!measure_missing(device, handle, options, problems, state)) return false;

  std::vector<TableRow> table = make_table(name, state.measured());
  const std::string comment = nf4::formatted("{}, commit {}, by nf4-bench tune", name, options.commit);
  const std::string text = table_text(table, comment);
  verify(handle, text, table, state.measured(), name);
  replace_file(options.table, text);
  write_stdout(gains_text(table, state.measured(), name));
  if (!options.builtin.empty()) {
    // What was measured on one device is nearer to its kin than the rows for all others are.
    for (TableRow& row : table) row.device = row.device == name ? class_name : row.device;
    replace_file(options.builtin, table_text(table, comment));
  }
  say("{}\n", options.table);
  return std::none_of(state.measured().begin(), state.measured().end(), [](const Measured& one) {
    return std::any_of(one.trials.begin(), one.trials.end(),
                       [](const Trial& trial) { return trial.outcome == Trial::Outcome::failed; });
  });
}

}  // namespace nf4bench
