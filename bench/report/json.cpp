#include "report/json.hpp"

#include <nlohmann/json.hpp>

namespace nf4bench {
namespace {

using Json = nlohmann::ordered_json;

// NaN and infinity, which JSON does not know, become null; bytes that are no UTF-8 a question mark.
std::string line_of(const Json& object) { return object.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"; }

}  // namespace

std::string json_head(const Context& context) {
  Json facts = Json::object();
  for (const auto& [name, value] : context.facts) facts[name] = value;
  const Ceilings& ceilings = context.ceilings;
  facts["ceilings"] = {{"read", ceilings.read}, {"write", ceilings.write}, {"copy", ceilings.copy}};
  return line_of({{"context", facts}});
}

std::string json_line(const Context& context, const Line& line) {
  const Row& row = line.row;
  const Problem& p = row.problem;
  Json speedups = Json::object();
  for (size_t i = 0; i < line.speedups.size(); ++i) {
    if (line.speedups[i] > 0) speedups[context.peers[i]] = line.speedups[i];
  }
  return line_of({{"op", op_name(p.op)},
                  {"contender", row.contender},
                  {"config", row.config},
                  {"peer", row.is_peer},
                  {"layer", p.layer},
                  {"dtype", dtype_name(p.dtype)},
                  {"blocksize", p.blocksize},
                  {"nested", p.nested},
                  {"m", p.m},
                  {"n", p.n},
                  {"k", p.k},
                  {"experts", p.experts},
                  {"top_k", p.top_k},
                  {"skew", p.skew},
                  {"routing", form_name(p.form)},
                  {"median_us", row.median},
                  {"p5_us", row.p5},
                  {"p95_us", row.p95},
                  {"tb_per_s", row.rate() * 1e-12},
                  {"ceiling", ceiling_name(p.op)},
                  {"fraction_of_ceiling", line.fraction},
                  {"error_over_bound", row.check.worst},
                  {"relative_error", row.check.relative_error},
                  {"differences", row.check.differences},
                  {"ok", row.check.ok},
                  {"note", row.check.what},
                  {"speedup_over", speedups}});
}

std::string json_not_measured(const std::vector<Problem>& problems) {
  Json names = Json::array();
  for (const Problem& problem : problems) names.push_back(describe(problem));
  return line_of({{"not_measured", names}});
}

}  // namespace nf4bench
