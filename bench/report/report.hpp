// What a run tells: a table per problem on the terminal, and CSV and JSON files.
#pragma once

#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "device/device.hpp"
#include "measure.hpp"

namespace nf4bench {

// What the figures of a run were measured on.
struct Context {
  std::vector<std::pair<std::string, std::string>> facts;
  Ceilings ceilings;
};

class Report {
 public:
  // `peers` are the contenders that speed-ups are told over. Empty paths mean no file. Throws if a file cannot be made.
  Report(Context context, std::vector<std::string> peers, const std::string& csv, const std::string& json);

  // All rows of one problem. Prints their table and writes their lines, so that a run that is cut short leaves its
  // results.
  void add(const std::vector<Row>& rows);
  // A problem that there was no time for.
  void add_not_measured(const Problem& problem) { not_measured_.push_back(problem); }
  // Tells what there was no time for and sums up; writes the JSON file.
  void finish();

  size_t failures() const { return failures_; }

 private:
  // A row of ours and how many times as fast as each of peers_ it is; 0 where there is nothing to compare.
  struct Line {
    Row row;
    std::vector<double> speedups;
  };

  double ceiling(nf4_op_t op) const;
  double fraction(const Row& row) const { return row.rate() / ceiling(row.problem.op); }
  std::vector<Line> compared(const std::vector<Row>& rows) const;
  void print(const std::vector<Line>& lines) const;
  void write_csv_header();
  void write_csv(const Line& line);
  std::string json_of(const Line& line) const;

  Context context_;
  std::vector<std::string> peers_;
  std::ofstream csv_;
  std::ofstream json_;
  std::vector<Line> lines_;
  std::vector<Problem> not_measured_;
  size_t failures_ = 0;
};

// "name: value" lines for the head of a run.
void print_context(const Context& context);

}  // namespace nf4bench
