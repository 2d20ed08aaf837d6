#include "report/report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <stdexcept>

#include "report/summary.hpp"

namespace nf4bench {
namespace {

// Results are compared with the ceiling of the direction that most of their bytes go.
const char* ceiling_name(nf4_op_t op) { return op == NF4_OP_UNPACK || op == NF4_OP_UNPACK_ABSMAX ? "write" : "read"; }

std::ofstream create(const std::string& path) {
  if (path.empty()) return {};
  std::ofstream file(path, std::ios::trunc);
  if (!file) throw std::runtime_error("cannot write " + path);
  return file;
}

std::string column_name(std::string text) {
  for (char& c : text) {
    if (c == ' ' || c == '+') c = '_';
  }
  text.erase(std::unique(text.begin(), text.end(), [](char a, char b) { return a == '_' && b == '_'; }), text.end());
  return text;
}

std::string csv_text(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c == '\n' ? ' ' : c);
  return out + "\"";
}

std::string json_text(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += static_cast<unsigned char>(c) < 0x20 ? fmt::format("\\u{:04x}", static_cast<int>(c)) : std::string(1, c);
  }
  return out + "\"";
}

// JSON knows no infinity.
std::string json_number(double value) { return std::isfinite(value) ? fmt::format("{:.6g}", value) : "null"; }

std::string ceilings_text(const Ceilings& ceilings) {
  return fmt::format("read {:.3f}, write {:.3f}, copy {:.3f} TB/s", ceilings.read * 1e-12, ceilings.write * 1e-12,
                     ceilings.copy * 1e-12);
}

}  // namespace

void print_context(const Context& context) {
  for (const auto& [name, value] : context.facts) fmt::print("{}: {}\n", name, value);
  fmt::print("ceilings: {}\n", ceilings_text(context.ceilings));
}

Report::Report(Context context, std::vector<std::string> peers, const std::string& csv, const std::string& json)
    : context_(std::move(context)), peers_(std::move(peers)), csv_(create(csv)), json_(create(json)) {
  if (csv_.is_open()) write_csv_header();
}

double Report::ceiling(nf4_op_t op) const {
  return ceiling_name(op) == std::string_view("write") ? context_.ceilings.write : context_.ceilings.read;
}

std::vector<Report::Line> Report::compared(const std::vector<Row>& rows) const {
  std::vector<Line> lines;
  for (const Row& row : rows) {
    Line line{row, std::vector<double>(peers_.size(), 0.0)};
    for (const Row& peer : rows) {
      const auto column = std::find(peers_.begin(), peers_.end(), peer.contender);
      if (row.is_peer || row.median == 0 || column == peers_.end()) continue;
      line.speedups[static_cast<size_t>(column - peers_.begin())] = peer.median / row.median;
    }
    lines.push_back(std::move(line));
  }
  return lines;
}

void Report::add(const std::vector<Row>& rows) {
  if (rows.empty()) return;
  const std::vector<Line> lines = compared(rows);
  print(lines);
  for (const Line& line : lines) {
    failures_ += !line.row.check.ok;
    if (csv_.is_open()) write_csv(line);
    lines_.push_back(line);
  }
  csv_.flush();
}

void Report::print(const std::vector<Line>& lines) const {
  constexpr size_t kNarrowest = 9;
  size_t width = kNarrowest;
  size_t config_width = 0;
  for (const Line& line : lines) {
    width = std::max(width, line.row.contender.size());
    config_width = std::max(config_width, line.row.config.size());
  }
  const Problem& problem = lines[0].row.problem;
  fmt::print("\n{}\n", describe(problem));
  fmt::print("  {:<{}}  {:<{}} {:>10} {:>21} {:>8} {:>7} {:>10} {:>9}", "contender", width, "", config_width, "us",
             "p5 .. p95", "TB/s", ceiling_name(problem.op), problem.op == NF4_OP_GEMM ? "err/bound" : "different",
             "rel.err");
  for (const std::string& peer : peers_) {
    const bool present =
        std::any_of(lines.begin(), lines.end(), [&](auto& line) { return line.row.contender == peer; });
    if (present) fmt::print("  x {}", peer);
  }
  fmt::print("\n");
  for (const Line& line : lines) {
    const Row& row = line.row;
    fmt::print("  {:<{}}  {:<{}}", row.contender, width, row.config, config_width);
    if (!row.check.ok) {
      fmt::print("  FAILED: {}\n", row.check.what);
      continue;
    }
    fmt::print(" {:>10.2f} {:>21} {:>8.3g} {:>6.1f}%", row.median, fmt::format("{:.2f} .. {:.2f}", row.p5, row.p95),
               row.rate() * 1e-12, 100 * fraction(row));
    if (problem.op == NF4_OP_GEMM) {
      fmt::print(" {:>10.3f} {:>9.2e}", row.check.worst, row.check.relative_error);
    } else {
      fmt::print(" {:>10} {:>9}", row.check.differences, "-");
    }
    for (size_t i = 0; i < peers_.size(); ++i) {
      const bool present =
          std::any_of(lines.begin(), lines.end(), [&](auto& other) { return other.row.contender == peers_[i]; });
      if (!present) continue;
      const size_t cell = peers_[i].size() + 4;
      fmt::print("{:>{}}", line.speedups[i] > 0 ? fmt::format("{:.2f}", line.speedups[i]) : "-", cell);
    }
    fmt::print("\n");
  }
  std::fflush(stdout);
}

void Report::write_csv_header() {
  for (const auto& [name, value] : context_.facts) csv_ << "# " << name << ": " << value << '\n';
  csv_ << "# ceilings: " << ceilings_text(context_.ceilings) << '\n';
  csv_ << "op,contender,config,peer,layer,dtype,blocksize,nested,m,n,k,median_us,p5_us,p95_us,tb_per_s,ceiling,"
          "fraction_of_ceiling,error_over_bound,relative_error,differences,status";
  for (const std::string& peer : peers_) csv_ << ",speedup_over_" << column_name(peer);
  csv_ << ",note\n";
}

void Report::write_csv(const Line& line) {
  const Row& row = line.row;
  const Problem& p = row.problem;
  csv_ << fmt::format("{},{},{},{},{},{},{},{},{},{},{},", op_name(p.op), csv_text(row.contender), csv_text(row.config),
                      int{row.is_peer}, p.layer, dtype_name(p.dtype), p.blocksize, int{p.nested}, p.m, p.n, p.k)
       << fmt::format("{:.3f},{:.3f},{:.3f},{:.4f},{},{:.4f},{:.4g},{:.4g},{},{}", row.median, row.p5, row.p95,
                      row.rate() * 1e-12, ceiling_name(p.op), fraction(row), row.check.worst, row.check.relative_error,
                      row.check.differences, row.check.ok ? "ok" : "FAILED");
  for (const double speedup : line.speedups) csv_ << ',' << (speedup > 0 ? fmt::format("{:.3f}", speedup) : "");
  csv_ << ',' << csv_text(row.check.what) << '\n';
}

std::string Report::json_of(const Line& line) const {
  const Row& row = line.row;
  const Problem& p = row.problem;
  std::string out = fmt::format(
      R"({{"op":"{}","contender":{},"config":{},"peer":{},"layer":{},"dtype":"{}","blocksize":{},"nested":{},)"
      R"("m":{},"n":{},"k":{},)",
      op_name(p.op), json_text(row.contender), json_text(row.config), row.is_peer, json_text(p.layer),
      dtype_name(p.dtype), p.blocksize, p.nested, p.m, p.n, p.k);
  out += fmt::format(
      R"("median_us":{},"p5_us":{},"p95_us":{},"tb_per_s":{},"ceiling":"{}","fraction_of_ceiling":{},)"
      R"("error_over_bound":{},"relative_error":{},"differences":{},"ok":{},"note":{},"speedup_over":{{)",
      json_number(row.median), json_number(row.p5), json_number(row.p95), json_number(row.rate() * 1e-12),
      ceiling_name(p.op), json_number(fraction(row)), json_number(row.check.worst),
      json_number(row.check.relative_error), row.check.differences, row.check.ok, json_text(row.check.what));
  const char* separator = "";
  for (size_t i = 0; i < peers_.size(); ++i) {
    if (line.speedups[i] == 0) continue;
    out += fmt::format("{}{}:{}", separator, json_text(peers_[i]), json_number(line.speedups[i]));
    separator = ",";
  }
  return out + "}}";
}

void Report::finish() {
  std::vector<Row> rows;
  for (const Line& line : lines_) rows.push_back(line.row);
  fmt::print("{}", summary(rows, peers_));
  if (!not_measured_.empty()) {
    const std::string what = fmt::format("{} problems were not measured, for lack of time; the first is {}",
                                         not_measured_.size(), describe(not_measured_.front()));
    fmt::print("\n{}\n", what);
    if (csv_.is_open()) csv_ << "# " << what << '\n' << std::flush;
  }
  if (!json_.is_open()) return;
  json_ << "{\"context\":{";
  for (const auto& [name, value] : context_.facts) json_ << json_text(name) << ':' << json_text(value) << ',';
  const Ceilings& ceilings = context_.ceilings;
  json_ << fmt::format(R"("ceilings":{{"read":{},"write":{},"copy":{}}}}},"rows":[)", json_number(ceilings.read),
                       json_number(ceilings.write), json_number(ceilings.copy));
  const char* separator = "\n";
  for (const Line& line : lines_) {
    json_ << separator << json_of(line);
    separator = ",\n";
  }
  json_ << "\n]}\n";
}

}  // namespace nf4bench
