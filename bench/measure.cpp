#include "measure.hpp"

#include <exception>

#include "report/statistics.hpp"

namespace nf4bench {

Row measure(Workload& workload, Contender& contender, const Pace& pace) {
  Row row;
  row.problem = workload.problem();
  row.is_peer = contender.is_peer();
  row.is_variant = contender.is_variant();
  row.bytes = contender.bytes(row.problem);
  try {
    contender.prepare(workload);
    row.check = check_result(workload, contender);
    if (row.check.ok) {
      const Launch launch = [&](int set, nf4_stream_t stream) { contender.run(workload, set, stream); };
      const std::vector<double> seconds = workload.device().time(launch, workload.sets(), contender.capturable(), pace);
      row.median = quantile(seconds, 0.5) * 1e6;
      row.p5 = quantile(seconds, 0.05) * 1e6;
      row.p95 = quantile(seconds, 0.95) * 1e6;
    }
  } catch (const std::exception& error) {
    row.check.ok = false;
    row.check.what = error.what();
  }
  row.contender = contender.name();
  row.config = contender.config();
  row.workspace = contender.workspace_size();
  contender.finish();
  return row;
}

}  // namespace nf4bench
