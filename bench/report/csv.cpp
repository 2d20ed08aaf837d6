#include "report/csv.hpp"

#include <algorithm>

#include "formatted.hpp"

namespace nf4bench {
namespace {

std::string column_name(std::string text) {
  for (char& c : text) {
    if (c == ' ' || c == '+') c = '_';
  }
  text.erase(std::unique(text.begin(), text.end(), [](char a, char b) { return a == '_' && b == '_'; }), text.end());
  return text;
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c == '\n' ? ' ' : c);
  return out + "\"";
}

}  // namespace

std::string csv_head(const Context& context) {
  std::string out;
  for (const auto& [name, value] : context.facts) out += nf4::formatted("# {}: {}\n", name, value);
  out += nf4::formatted("# ceilings: {}\n", ceilings_text(context.ceilings));
  out +=
      "op,contender,config,peer,layer,dtype,blocksize,nested,m,n,k,experts,top_k,skew,routing,median_us,p5_us,p95_us,"
      "tb_per_s,"
      "ceiling,"
      "fraction_of_ceiling,error_over_bound,relative_error,differences,status";
  for (const std::string& peer : context.peers) out += ",speedup_over_" + column_name(peer);
  return out + ",note\n";
}

std::string csv_line(const Line& line) {
  const Row& row = line.row;
  const Problem& p = row.problem;
  std::string out =
      nf4::formatted("{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},", op_name(p.op), quoted(row.contender),
                     quoted(row.config), int{row.is_peer}, p.layer, dtype_name(p.dtype), p.blocksize, int{p.nested},
                     p.m, p.n, p.k, p.experts, p.top_k, p.skew, form_name(p.form));
  out += nf4::formatted("{:.3f},{:.3f},{:.3f},{:.4f},{},{:.4f},{:.4g},{:.4g},{},{}", row.median, row.p5, row.p95,
                        row.rate() * 1e-12, ceiling_name(p.op), line.fraction, row.check.worst,
                        row.check.relative_error, row.check.differences, row.check.ok ? "ok" : "FAILED");
  for (const double speedup : line.speedups) out += speedup > 0 ? nf4::formatted(",{:.3f}", speedup) : ",";
  return out + "," + quoted(row.check.what) + "\n";
}

}  // namespace nf4bench
