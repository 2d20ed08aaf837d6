#include "report/kinds.hpp"

#include <algorithm>

#include "formatted.hpp"

namespace nf4bench {

Problem kind_of(Problem problem) {
  problem.n = problem.k = 0;
  problem.layer.clear();
  if (!problem.parts.empty()) problem.parts = {0};
  return problem;
}

std::string title(const Problem& kind) {
  const std::string m = is_product(kind.op) ? nf4::formatted(" M={}{}", kind.m, experts_text(kind)) : std::string();
  return nf4::formatted("{}{}{}, {}, blocksize {}{}", op_name(kind.op), m, kind.parts.empty() ? "" : ", groups",
                        dtype_name(kind.dtype), kind.blocksize, kind.nested ? ", nested" : "");
}

std::vector<Problem> kinds_of(const std::vector<Row>& rows, std::string_view contender) {
  std::vector<Problem> out;
  for (const Row& row : rows) {
    const Problem kind = kind_of(row.problem);
    const bool known = std::find(out.begin(), out.end(), kind) != out.end();
    if (row.contender == contender && row.median > 0 && !known) out.push_back(kind);
  }
  return out;
}

}  // namespace nf4bench
