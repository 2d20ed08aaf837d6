#include "checkpoint/totals.hpp"

#include <algorithm>

#include "contenders/contender.hpp"
#include "formatted.hpp"
#include "report/units.hpp"

namespace nf4bench {

void Totals::add(const Row& row) {
  Total& total = of(row);
  ++total.matrices;
  total.microseconds += row.median;
  total.bytes += row.bytes;
  total.worst = std::max(total.worst, row.check.worst);
  total.relative_error = std::max(total.relative_error, row.check.relative_error);
  if (row.check.ok) return;
  ++failures_;
  if (total.failure.empty()) total.failure = row.check.what;
}

Totals::Total& Totals::of(const Row& row) {
  const std::string config = row.contender == kSelected ? "" : row.config;
  const auto same = [&](const Total& total) {
    return total.op == row.problem.op && total.m == row.problem.m && total.contender == row.contender &&
           total.config == config;
  };
  const auto found = std::find_if(totals_.begin(), totals_.end(), same);
  if (found != totals_.end()) return *found;
  Total total;
  total.op = row.problem.op;
  total.m = row.problem.m;
  total.contender = row.contender;
  total.config = config;
  return totals_.emplace_back(std::move(total));
}

const Totals::Total* Totals::dense_of(const Total& total) const {
  const auto dense = [&](const Total& other) {
    return is_dense(other.contender) && other.op == total.op && other.m == total.m &&
           other.matrices == total.matrices && other.failure.empty();
  };
  const auto found = std::find_if(totals_.begin(), totals_.end(), dense);
  return found == totals_.end() ? nullptr : &*found;
}

std::string Totals::text() const {
  std::string out = nf4::formatted("\n{:<12} {:<28} {:>8} {:>10} {:>8} {:>8} {:>10} {:>10}\n", "operation", "variant",
                                   "matrices", "time", "vs dense", "GB/s", "err/bound", "rel.err");
  for (const Total& total : totals_) {
    const bool gemm = total.op == NF4_OP_GEMM;
    out += nf4::formatted("{:<12} {:<28} {:>8} ",
                          nf4::formatted("{}{}", op_name(total.op), gemm ? nf4::formatted(" M={}", total.m) : ""),
                          total.contender + (total.config.empty() ? "" : " ") + total.config, total.matrices);
    if (!total.failure.empty()) {
      out += nf4::formatted("FAILED: {}\n", total.failure);
      continue;
    }
    const Total* const dense = dense_of(total);
    out += nf4::formatted("{:>10} {:>8} {:>8.1f} ", time_text(total.microseconds),
                          dense == nullptr ? "-" : nf4::formatted("{:.2f}x", dense->microseconds / total.microseconds),
                          total.bytes / total.microseconds * 1e-3);
    out += gemm ? nf4::formatted("{:>10.3f} {:>10.2e}\n", total.worst, total.relative_error)
                : nf4::formatted("{:>10} {:>10}\n", "exact", "-");
  }
  return out;
}

}  // namespace nf4bench
