#include "report/table.hpp"

#include <algorithm>

#include "formatted.hpp"

namespace nf4bench {
namespace {

constexpr size_t kNarrowest = 9;  // of a contender's name

// A column of speed-ups over one peer.
struct PeerColumn {
  std::string name;
  size_t index;  // in Line::speedups
};

// Those peers that did this problem.
std::vector<PeerColumn> columns_of(const Context& context, const std::vector<Line>& lines) {
  std::vector<PeerColumn> out;
  for (size_t i = 0; i < context.peers.size(); ++i) {
    const std::string& peer = context.peers[i];
    const auto is_of_it = [&](const Line& line) { return line.row.contender == peer; };
    if (std::any_of(lines.begin(), lines.end(), is_of_it)) out.push_back({peer, i});
  }
  return out;
}

std::string figures(const Line& line) {
  const Row& row = line.row;
  const std::string range = nf4::formatted("{:.2f} .. {:.2f}", row.p5, row.p95);
  std::string out = nf4::formatted(" {:>10.2f} {:>21} {:>8.3g} {:>6.1f}%", row.median, range, row.rate() * 1e-12,
                                   100 * line.fraction);
  const Check& check = row.check;
  return out + (is_product(row.problem.op) ? nf4::formatted(" {:>10.3f} {:>9.2e}", check.worst, check.relative_error)
                                           : nf4::formatted(" {:>10} {:>9}", check.differences, "-"));
}

}  // namespace

std::string context_text(const Context& context) {
  std::string out;
  for (const auto& [name, value] : context.facts) out += nf4::formatted("{}: {}\n", name, value);
  return out + nf4::formatted("ceilings: {}\n", ceilings_text(context.ceilings));
}

std::string table_of(const Context& context, const std::vector<Line>& lines) {
  size_t width = kNarrowest;
  size_t config_width = 0;
  for (const Line& line : lines) {
    width = std::max(width, line.row.contender.size());
    config_width = std::max(config_width, line.row.config.size());
  }
  const Problem& problem = lines[0].row.problem;
  const std::vector<PeerColumn> columns = columns_of(context, lines);
  std::string out = nf4::formatted("\n{}\n", describe(problem));
  out += nf4::formatted("  {:<{}}  {:<{}} {:>10} {:>21} {:>8} {:>7} {:>10} {:>9}", "contender", width, "", config_width,
                        "us", "p5 .. p95", "TB/s", ceiling_name(problem.op),
                        is_product(problem.op) ? "err/bound" : "different", "rel.err");
  for (const PeerColumn& column : columns) out += "  x " + column.name;
  out += "\n";
  for (const Line& line : lines) {
    out += nf4::formatted("  {:<{}}  {:<{}}", line.row.contender, width, line.row.config, config_width);
    if (!line.row.check.ok) {
      out += nf4::formatted("  FAILED: {}\n", line.row.check.what);
      continue;
    }
    out += figures(line);
    for (const auto& [name, index] : columns) {
      const double speedup = line.speedups[index];
      out += nf4::formatted("{:>{}}", speedup > 0 ? nf4::formatted("{:.2f}", speedup) : "-", name.size() + 4);
    }
    out += "\n";
  }
  return out;
}

}  // namespace nf4bench
