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
#include "report/output.hpp"
#include "report/progress.hpp"
#include "status.hpp"
#include "suite.hpp"
#include "tune/state.hpp"
#include "tune/table.hpp"
#include "tune/tryout.hpp"
#include "variants.hpp"

namespace nf4bench {
namespace {

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

// Tells what was wrong.
Measured measured_of(const Problem& problem, const std::vector<Attempt>& attempts) {
  Measured out{problem, {}};
  for (const auto& [row, selected, dropped] : attempts) {
    Trial trial;
    trial.choice = {row.contender, row.config};
    trial.workspace = row.workspace > 0;
    trial.before = selected;
    trial.microseconds = std::round(row.median * 1e3) * 1e-3;  // as the state's file keeps it
    if (dropped) trial.outcome = Trial::Outcome::dropped;
    if (!row.check.ok) {
      trial.outcome = Trial::Outcome::failed;
      fmt::print(stderr, "FAILED: {}, {} {}: {}\n", describe(row.problem), row.contender, row.config, row.check.what);
    }
    out.trials.push_back(trial);
  }
  return out;
}

std::string outcome_text(const Problem& problem, const std::vector<Attempt>& attempts) {
  std::string out;
  for (const Attempt& attempt : attempts) {
    if (attempt.selected && attempt.row.check.ok)
      out += nf4::formatted("{}: {:.2f} us selected", describe(problem), attempt.row.median);
  }
  if (const Attempt* const best = fastest(attempts, false)) {
    out += nf4::formatted(", {:.2f} us {} {}\n", best->row.median, best->row.contender, best->row.config);
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
    const std::vector<Attempt> attempts = try_all(device, handle, contenders, problem);
    progress.clear();
    state.append(measured_of(problem, attempts));
    write_stdout(outcome_text(problem, attempts));
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
