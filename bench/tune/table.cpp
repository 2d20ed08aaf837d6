#include "tune/table.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <tuple>

#include "formatted.hpp"

namespace nf4bench {
namespace {

const std::string kAny = "*";

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

// What gave a wrong result once.
std::set<Choice> failures(const std::vector<Measured>& measured) {
  std::set<Choice> out;
  for (const Measured& one : measured) {
    for (const Trial& trial : one.trials) {
      if (trial.outcome == Trial::Outcome::failed) out.insert(trial.choice);
    }
  }
  return out;
}

// Rows for one device, operation, dtype and blocksize.
class RowMaker {
 public:
  struct Kind {
    Division division;
    bool every_variant;  // whether a row is followed by one of each other variant, for problems that its own cannot run
  };
  static constexpr Kind kMeasured{{0.01488, 3}, false};  // log(kMerged)
  static constexpr Kind kGeneral{{0.22, 1}, true};       // by M alone, a quarter slower at most

  RowMaker(const std::vector<Measured>& measured, TableRow pattern, Kind kind, std::vector<TableRow>& out)
      : measured_(measured), pattern_(std::move(pattern)), kind_(kind), out_(out) {}

  void add(const std::vector<size_t>& problems, const Box& box, const Filter& counts) {
    for (const Region& region : divide(measured_, problems, box, kind_.division, counts)) {
      TableRow row = pattern_;
      row.box = region.box;
      row.choice = region.choice;
      row.problems = region.problems;
      describe(row);
      out_.push_back(row);
      if (!row.workspace && !kind_.every_variant) continue;
      add(row.problems, row.box, [&](const Trial& trial) {
        return counts(trial) && (kind_.every_variant ? trial.choice.variant != row.choice.variant : !trial.workspace);
      });
    }
  }

 private:
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

// In the order of the table: of each operation bf16 last, of each dtype blocksize 64 last. What is last serves the
// rest.
std::vector<Group> groups_of(const std::vector<Measured>& measured) {
  std::map<std::tuple<nf4_op_t, nf4_dtype_t, bool, int32_t>, std::vector<size_t>> kinds;
  for (size_t i = 0; i < measured.size(); ++i) {
    const Problem& p = measured[i].problem;
    kinds[{-p.op, p.dtype, p.blocksize == 64, p.blocksize}].push_back(i);
  }
  std::vector<Group> out;
  for (auto kind = kinds.begin(); kind != kinds.end(); ++kind) {
    const auto& [op, dtype, usual, blocksize] = kind->first;
    const auto next = std::next(kind);
    const bool last_of_dtype =
        next == kinds.end() || std::tie(std::get<0>(next->first), std::get<1>(next->first)) != std::tie(op, dtype);
    const auto last_of_op = std::prev(kinds.upper_bound({op, NF4_U8, true, INT32_MAX}));
    const bool serves_dtypes = std::get<1>(last_of_op->first) == dtype;
    out.push_back({-op, serves_dtypes ? kAny : std::string(dtype_name(dtype)),
                   last_of_dtype ? kAny : std::to_string(blocksize), kind->second});
  }
  return out;
}

std::string text_of(const Span& span) {
  if (span == Span{}) return "*";
  if (span.high == Span{}.high) return nf4::formatted("{}-", span.low);
  return span.low == span.high ? std::to_string(span.low) : nf4::formatted("{}-{}", span.low, span.high);
}

// Whether some problem falls into both rows' boxes.
bool overlap(const TableRow& a, const TableRow& b) {
  const auto agree = [](const std::string& x, const std::string& y) { return x == y || x == kAny || y == kAny; };
  for (size_t axis = 0; axis < a.box.size(); ++axis) {
    if (std::max(a.box[axis].low, b.box[axis].low) > std::min(a.box[axis].high, b.box[axis].high)) return false;
  }
  return a.op == b.op && agree(a.device, b.device) && agree(a.dtype, b.dtype) && agree(a.blocksize, b.blocksize);
}

// The two spans as one, if they are side by side.
std::optional<Span> joined(const Span& a, const Span& b) {
  const auto& [first, second] = std::minmax(a, b, [](const Span& x, const Span& y) { return x.low < y.low; });
  if (first.high == Span{}.high || first.high + 1 != second.low) return std::nullopt;
  return Span{first.low, second.high};
}

// The boxes as one, if they are side by side along one axis and equal along the others.
std::optional<Box> joined(const Box& a, const Box& b) {
  std::optional<Box> out;
  for (size_t axis = 0; axis < a.size(); ++axis) {
    if (a[axis] == b[axis]) continue;
    const std::optional<Span> span = joined(a[axis], b[axis]);
    if (out || !span) return std::nullopt;
    out = a;
    (*out)[axis] = *span;
  }
  return out;
}

double geometric_mean(double a, size_t count_a, double b, size_t count_b) {
  if (a == 0 || b == 0) return 0;
  const auto weight = static_cast<double>(count_a) / static_cast<double>(count_a + count_b);
  return std::exp(weight * std::log(a) + (1 - weight) * std::log(b));
}

// Both rows as one, if they say the same of boxes that are side by side.
std::optional<TableRow> joined(const TableRow& a, const TableRow& b) {
  const auto said = [](const TableRow& row) {
    return std::tie(row.device, row.op, row.dtype, row.blocksize, row.choice);
  };
  const std::optional<Box> box = said(a) == said(b) ? joined(a.box, b.box) : std::nullopt;
  if (!box) return std::nullopt;
  TableRow out = a;
  out.box = *box;
  out.microseconds = geometric_mean(a.microseconds, a.problems.size(), b.microseconds, b.problems.size());
  out.gain = geometric_mean(a.gain, a.problems.size(), b.gain, b.problems.size());
  out.problems.insert(out.problems.end(), b.problems.begin(), b.problems.end());
  return out;
}

// Joins one pair of rows, the later going up to the earlier or that down to it, past rows that are for other problems.
bool join_a_pair(std::vector<TableRow>& rows) {
  for (auto second = rows.begin(); second != rows.end(); ++second) {
    for (auto first = rows.begin(); first != second; ++first) {
      const std::optional<TableRow> both = joined(*first, *second);
      if (!both) continue;
      const auto may_pass = [&](const TableRow& moved) {
        return std::none_of(first + 1, second, [&](const TableRow& passed) {
          return overlap(passed, moved) && passed.choice != moved.choice;
        });
      };
      const bool up = may_pass(*second);
      if (!up && !may_pass(*first)) continue;
      *(up ? first : second) = *both;
      rows.erase(up ? second : first);
      return true;
    }
  }
  return false;
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
  const std::set<Choice> wrong = failures(measured);
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
  while (join_a_pair(out)) continue;
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
  const std::set<Choice> wrong = failures(measured);
  double worst = 1;
  for (const Measured& one : measured) {
    for (const bool workspace : {true, false}) {
      const TableRow* const row = find_row(table, one.problem, device, workspace);
      if (row == nullptr) continue;
      const Trial* const chosen = find_trial(one, row->choice);
      if (chosen == nullptr) return std::numeric_limits<double>::infinity();
      for (const Trial& trial : one.trials) {
        const bool right = trial.outcome == Trial::Outcome::timed && !wrong.contains(trial.choice);
        if (right && (workspace || !trial.workspace))
          worst = std::max(worst, chosen->microseconds / trial.microseconds);
      }
    }
  }
  return worst;
}

std::string table_line(const TableRow& row) {
  return nf4::formatted("{},{},{},{},{},{},{},{},{},{}", row.device, op_name(row.op), row.dtype, text_of(row.box[0]),
                        text_of(row.box[1]), text_of(row.box[2]), row.blocksize, row.choice.variant, row.choice.config,
                        row.microseconds > 0 ? nf4::formatted("{:.2f}", std::max(row.microseconds, 0.01)) : "");
}

std::string table_text(const std::vector<TableRow>& table, std::string_view comment) {
  std::string out = nf4::formatted("nf4-tuning 1\n# {}\n", comment);
  out += "# microseconds: geometric mean over the measured problems that a row holds for\n";
  out += "# device,op,dtype,m,n,k,blocksize,variant,config,microseconds\n";
  for (const TableRow& row : table) out += table_line(row) + "\n";
  return out;
}

}  // namespace nf4bench
