#include "tune_table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <stdexcept>

namespace nf4bench {
namespace {

using Box = std::array<Span, 3>;
using Filter = std::function<bool(const Trial&)>;

const std::string kAny = "*";
constexpr size_t kM = 0;  // axes of a box
constexpr double kNotMeasured =
    4.6;  // log of the loss that stands for "was not tried here, or cannot run": a hundredfold

std::array<int64_t, 3> place(const Problem& problem) { return {problem.m, problem.n, problem.k}; }

const Trial* find_trial(const Measured& measured, const Choice& choice) {
  const auto found = std::find_if(measured.trials.begin(), measured.trials.end(),
                                  [&](const Trial& trial) { return trial.choice == choice; });
  return found == measured.trials.end() ? nullptr : &*found;
}

const Trial* selected_before(const Measured& measured) {
  const auto found = std::find_if(measured.trials.begin(), measured.trials.end(),
                                  [](const Trial& t) { return t.before && t.outcome != Trial::Outcome::failed; });
  return found == measured.trials.end() ? nullptr : &*found;
}

// Problems that are to be divided into boxes, and what each choice loses on each of them.
struct Field {
  struct Point {
    size_t problem;  // its index among those measured
    std::array<int64_t, 3> at;
    std::vector<double> loss;  // of each choice: log of its time over the best one
  };
  std::vector<Choice> choices;
  std::vector<Point> points;

  // Those of `problems` on which a trial counts, by the trials that do.
  Field(const std::vector<Measured>& measured, const std::vector<size_t>& problems, const Filter& counts) {
    std::set<Choice> all;
    for (const size_t i : problems) {
      for (const Trial& trial : measured[i].trials) {
        if (counts(trial)) all.insert(trial.choice);
      }
    }
    choices.assign(all.begin(), all.end());
    for (const size_t i : problems) {
      Point point{i, place(measured[i].problem), std::vector<double>(choices.size(), kNotMeasured)};
      double best = std::numeric_limits<double>::infinity();
      for (const Trial& trial : measured[i].trials) {
        if (counts(trial)) best = std::min(best, trial.microseconds);
      }
      for (const Trial& trial : measured[i].trials) {
        if (!counts(trial)) continue;
        const auto choice = std::lower_bound(choices.begin(), choices.end(), trial.choice) - choices.begin();
        point.loss[static_cast<size_t>(choice)] = std::log(trial.microseconds / best);
      }
      if (std::isfinite(best)) points.push_back(std::move(point));
    }
  }
};

// How a set of points becomes rows: one, of a choice, or those of the two sides of a cut.
struct Plan {
  size_t rows = 1;
  double loss = 0;  // summed over the points
  size_t choice = 0;
  bool cut = false;
  size_t axis = 0;
  int64_t last = 0;   // measured value of the lower side
  int64_t first = 0;  // of the upper side
};

// Finds the plan of fewest rows in which no choice loses more than `tolerance`; among those, the one that loses least.
// Where no further cut is possible, the tolerance gives way.
class Planner {
 public:
  using Points = std::vector<uint16_t>;  // indices of the field's points

  Planner(const Field& field, double tolerance, size_t axes) : field_(field), tolerance_(tolerance), axes_(axes) {}

  Points all() const {
    Points out;
    for (size_t i = 0; i < field_.points.size(); ++i) out.push_back(static_cast<uint16_t>(i));
    return out;
  }

  const Plan& plan(const Points& points) {
    if (const auto known = plans_.find(points); known != plans_.end()) return known->second;
    auto [best, good] = single(points);
    for (size_t axis = 0; axis < axes_ && !(good && !best.cut); ++axis) {
      const std::set<int64_t> values = values_on(axis, points);
      for (auto last = values.begin(); last != values.end() && std::next(last) != values.end(); ++last) {
        Plan cut{0, 0, 0, true, axis, *last, *std::next(last)};
        for (const bool upper : {false, true}) {
          const Plan& part = plan(side(points, cut, upper));
          cut.rows += part.rows;
          cut.loss += part.loss;
        }
        const bool better = std::pair(cut.rows, cut.loss) < std::pair(best.rows, best.loss);
        if (!good || better) best = cut;
        good = true;
      }
    }
    return plans_.emplace(points, best).first->second;
  }

  Points side(const Points& points, const Plan& cut, bool upper) const {
    Points out;
    for (const uint16_t i : points) {
      if ((field_.points[i].at[cut.axis] > cut.last) == upper) out.push_back(i);
    }
    return out;
  }

 private:
  // One row for all points, and whether that is within the tolerance.
  std::pair<Plan, bool> single(const Points& points) const {
    std::optional<std::pair<bool, double>> best;
    Plan plan;
    for (size_t choice = 0; choice < field_.choices.size(); ++choice) {
      double sum = 0;
      double worst = 0;
      for (const uint16_t i : points) {
        sum += field_.points[i].loss[choice];
        worst = std::max(worst, field_.points[i].loss[choice]);
      }
      const std::pair key(worst > tolerance_, sum);
      if (best && *best <= key) continue;
      best = key;
      plan.choice = choice;
      plan.loss = sum;
    }
    return {plan, !best->first};
  }

  std::set<int64_t> values_on(size_t axis, const Points& points) const {
    std::set<int64_t> out;
    for (const uint16_t i : points) out.insert(field_.points[i].at[axis]);
    return out;
  }

  const Field& field_;
  double tolerance_;
  size_t axes_;
  std::map<Points, Plan> plans_;
};

int64_t boundary(const Plan& cut) {
  if (cut.axis == kM) return cut.last;
  return static_cast<int64_t>(std::sqrt(static_cast<double>(cut.last) * static_cast<double>(cut.first)));
}

// Rows for one device, operation, dtype and blocksize.
class RowMaker {
 public:
  // How finely problems are divided, and which rows follow a row for when its choice cannot run.
  struct Kind {
    double tolerance;
    size_t axes;  // the first ones
    bool every_variant;
  };
  static constexpr Kind kMeasured{0.01488, 3, false};  // log(kMerged)
  static constexpr Kind kGeneral{0.22, 1, true};       // by M alone, a quarter slower at most

  RowMaker(const std::vector<Measured>& measured, TableRow pattern, Kind kind, std::vector<TableRow>& out)
      : measured_(measured), pattern_(std::move(pattern)), kind_(kind), out_(out) {}

  void add(const std::vector<size_t>& problems, const Box& box, const Filter& counts) {
    const Field field(measured_, problems, counts);
    if (field.points.empty()) return;
    Planner planner(field, kind_.tolerance, kind_.axes);
    walk(field, planner, planner.all(), box, counts);
  }

 private:
  void walk(const Field& field, Planner& planner, const Planner::Points& points, const Box& box, const Filter& counts) {
    const Plan plan = planner.plan(points);
    if (plan.cut) {
      for (const bool upper : {false, true}) {
        Box part = box;
        (upper ? part[plan.axis].low : part[plan.axis].high) = boundary(plan) + int64_t{upper};
        walk(field, planner, planner.side(points, plan, upper), part, counts);
      }
      return;
    }
    TableRow row = pattern_;
    row.box = box;
    row.choice = field.choices[plan.choice];
    for (const uint16_t i : points) row.problems.push_back(field.points[i].problem);
    describe(row);
    out_.push_back(row);
    if (!row.workspace && !kind_.every_variant) return;
    add(row.problems, box, [&](const Trial& trial) {
      return counts(trial) && (kind_.every_variant ? trial.choice.variant != row.choice.variant : !trial.workspace);
    });
  }

  void describe(TableRow& row) const {
    double time = 0;
    double gain = 0;
    for (const size_t i : row.problems) {
      const Trial* const trial = find_trial(measured_[i], row.choice);
      if (trial == nullptr) continue;
      row.workspace = trial->workspace;
      time += std::log(trial->microseconds);
      const Trial* const before = selected_before(measured_[i]);
      if (before != nullptr) gain += std::log(before->microseconds / trial->microseconds);
    }
    if (kind_.every_variant) return;
    const auto count = static_cast<double>(row.problems.size());
    row.microseconds = std::exp(time / count);
    row.gain = std::exp(gain / count);
  }

  const std::vector<Measured>& measured_;
  TableRow pattern_;
  Kind kind_;
  std::vector<TableRow>& out_;
};

// What was measured of one operation, dtype and blocksize.
struct Group {
  nf4_op_t op;
  std::string dtype;      // as rows tell it
  std::string blocksize;  // the same
  std::vector<size_t> problems;
};

std::vector<Group> groups_of(const std::vector<Measured>& measured) {
  std::vector<Group> out;
  for (size_t i = 0; i < measured.size(); ++i) {
    const Problem& p = measured[i].problem;
    const Group group{p.op, std::string(dtype_name(p.dtype)), std::to_string(p.blocksize), {}};
    const auto found = std::find_if(out.begin(), out.end(), [&](const Group& other) {
      return std::tie(other.op, other.dtype, other.blocksize) == std::tie(group.op, group.dtype, group.blocksize);
    });
    (found != out.end() ? *found : out.emplace_back(group)).problems.push_back(i);
  }
  // The last of each kind serves the rest.
  std::set<std::pair<nf4_op_t, std::string>> dtypes;
  std::map<nf4_op_t, std::string> last_dtype;
  for (auto group = out.rbegin(); group != out.rend(); ++group) {
    const std::string dtype = group->dtype;
    if (dtypes.emplace(group->op, dtype).second) group->blocksize = kAny;
    if (last_dtype.emplace(group->op, dtype).first->second == dtype) group->dtype = kAny;
  }
  std::stable_sort(out.begin(), out.end(), [](const Group& a, const Group& b) { return a.op > b.op; });
  return out;
}

std::string text_of(const Span& span) {
  if (span == Span{}) return "*";
  return span.low == span.high ? std::to_string(span.low) : fmt::format("{}-{}", span.low, span.high);
}

}  // namespace

bool TableRow::contains(const Problem& problem) const {
  const std::array<int64_t, 3> at = place(problem);
  for (size_t axis = 0; axis < at.size(); ++axis) {
    if (!box[axis].contains(at[axis])) return false;
  }
  return op == problem.op && (dtype == "*" || dtype == dtype_name(problem.dtype)) &&
         (blocksize == "*" || blocksize == std::to_string(problem.blocksize));
}

std::vector<TableRow> make_table(std::string_view device, const std::vector<Measured>& measured) {
  std::set<Choice> wrong;
  for (const Measured& one : measured) {
    for (const Trial& trial : one.trials) {
      if (trial.outcome == Trial::Outcome::failed) wrong.insert(trial.choice);
    }
  }
  const auto right = [&](const Trial& trial) { return !wrong.contains(trial.choice); };
  const auto timed = [&](const Trial& trial) { return right(trial) && trial.outcome == Trial::Outcome::timed; };

  std::vector<TableRow> out;
  const auto add = [&](std::string_view where, RowMaker::Kind kind, const Filter& counts) {
    for (const Group& group : groups_of(measured)) {
      const TableRow pattern{std::string(where), group.op, group.dtype, {}, group.blocksize, {}, false, 0, 1, {}};
      RowMaker(measured, pattern, kind, out).add(group.problems, {}, counts);
    }
  };
  add(device, RowMaker::kMeasured, timed);
  if (device != "host") add("*", RowMaker::kGeneral, right);
  return out;
}

const TableRow* find_row(const std::vector<TableRow>& table, const Problem& problem, std::string_view device,
                         bool workspace) {
  const auto found = std::find_if(table.begin(), table.end(), [&](const TableRow& row) {
    return row.device == device && row.contains(problem) && (workspace || !row.workspace);
  });
  return found == table.end() ? nullptr : &*found;
}

double worst_loss(const std::vector<TableRow>& table, const std::vector<Measured>& measured, std::string_view device) {
  double worst = 1;
  for (const Measured& one : measured) {
    for (const bool workspace : {true, false}) {
      const TableRow* const row = find_row(table, one.problem, device, workspace);
      if (row == nullptr) continue;
      const Trial* const chosen = find_trial(one, row->choice);
      if (chosen == nullptr) return std::numeric_limits<double>::infinity();
      for (const Trial& trial : one.trials) {
        const bool counts = trial.outcome == Trial::Outcome::timed && (workspace || !trial.workspace);
        if (counts) worst = std::max(worst, chosen->microseconds / trial.microseconds);
      }
    }
  }
  return worst;
}

std::string table_line(const TableRow& row) {
  return fmt::format("{},{},{},{},{},{},{},{},{},{}", row.device, op_name(row.op), row.dtype, text_of(row.box[0]),
                     text_of(row.box[1]), text_of(row.box[2]), row.blocksize, row.choice.variant, row.choice.config,
                     row.microseconds > 0 ? fmt::format("{:.2f}", std::max(row.microseconds, 0.01)) : "");
}

std::string table_text(const std::vector<TableRow>& table, std::string_view comment) {
  std::string out = fmt::format("nf4-tuning 1\n# {}\n", comment);
  out += "# microseconds: geometric mean over the measured problems that a row holds for\n";
  out += "# device,op,dtype,m,n,k,blocksize,variant,config,microseconds\n";
  for (const TableRow& row : table) out += table_line(row) + "\n";
  return out;
}

std::string table_header(const std::vector<TableRow>& table, std::string_view comment) {
  return fmt::format(
      R"(// The tuning table that is compiled in, in the form of docs/tuning.md. It speaks of CUDA devices only, and is made by
// `nf4-bench tune --builtin`: rows by what was measured on one device, then rows for all others.
#pragma once

#include <string_view>

namespace nf4 {{

#if NF4_HAVE_CUDA
inline constexpr std::string_view kBuiltinTuning = R"({}{}";
#else
inline constexpr std::string_view kBuiltinTuning = "nf4-tuning 1\n";
#endif

}}  // namespace nf4
)",
      table_text(table, comment), ")");
}

}  // namespace nf4bench
