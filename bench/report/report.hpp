// What a sweep tells: a table of each problem on the terminal, and CSV and JSON files.
#pragma once

#include <string_view>
#include <vector>

#include "report/lines.hpp"
#include "report/output.hpp"

namespace nf4bench {

class Report {
 public:
  Report(Context context, OutputFile csv, OutputFile json);

  // All rows of one problem. Their lines are in the files at once, so that a run that is cut short leaves its results.
  void add(const std::vector<Row>& rows);
  // A problem that there was no time for.
  void add_not_measured(const Problem& problem) { not_measured_.push_back(problem); }
  // Ends with `summary` of the rows, and tells what there was no time for.
  void finish(std::string_view summary);

  const Context& context() const { return context_; }
  const std::vector<Row>& rows() const { return rows_; }
  size_t failures() const { return failures_; }

 private:
  Context context_;
  OutputFile csv_;
  OutputFile json_;
  std::vector<Row> rows_;
  std::vector<Problem> not_measured_;
  size_t failures_ = 0;
};

}  // namespace nf4bench
