#include "report/report.hpp"

#include "formatted.hpp"
#include "report/csv.hpp"
#include "report/json.hpp"
#include "report/table.hpp"

namespace nf4bench {

Report::Report(Context context, OutputFile csv, OutputFile json)
    : context_(std::move(context)), csv_(std::move(csv)), json_(std::move(json)) {
  write_stdout(context_text(context_));
  csv_.write(csv_head(context_));
  json_.write(json_head(context_));
}

void Report::add(const std::vector<Row>& rows) {
  if (rows.empty()) return;
  const std::vector<Line> lines = lines_of(context_, rows);
  std::string csv, json;
  for (const Line& line : lines) {
    failures_ += !line.row.check.ok;
    csv += csv_line(line);
    json += json_line(context_, line);
    rows_.push_back(line.row);
  }
  write_stdout(table_of(context_, lines));
  csv_.write(csv);
  json_.write(json);
}

void Report::finish(std::string_view summary) {
  write_stdout(summary);
  if (!not_measured_.empty()) {
    const std::string what = nf4::formatted("{} problems were not measured, for lack of time; the first is {}",
                                            not_measured_.size(), describe(not_measured_.front()));
    say("\n{}\n", what);
    csv_.write("# " + what + "\n");
    json_.write(json_not_measured(not_measured_));
  }
  csv_.close();
  json_.close();
}

}  // namespace nf4bench
