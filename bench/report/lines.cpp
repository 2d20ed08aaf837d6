#include "report/lines.hpp"

#include <algorithm>

#include "formatted.hpp"

namespace nf4bench {
namespace {

bool mostly_writes(nf4_op_t op) { return op == NF4_OP_UNPACK || op == NF4_OP_UNPACK_ABSMAX; }

}  // namespace

const char* ceiling_name(nf4_op_t op) { return mostly_writes(op) ? "write" : "read"; }

std::string ceilings_text(const Ceilings& ceilings) {
  return nf4::formatted("read {:.3f}, write {:.3f}, copy {:.3f} TB/s", ceilings.read * 1e-12, ceilings.write * 1e-12,
                        ceilings.copy * 1e-12);
}

std::vector<Line> lines_of(const Context& context, const std::vector<Row>& rows) {
  const std::vector<std::string>& peers = context.peers;
  std::vector<Line> lines;
  for (const Row& row : rows) {
    const double ceiling = mostly_writes(row.problem.op) ? context.ceilings.write : context.ceilings.read;
    Line line{row, row.rate() / ceiling, std::vector<double>(peers.size(), 0.0)};
    for (const Row& peer : rows) {
      const auto column = std::find(peers.begin(), peers.end(), peer.contender);
      if (row.is_peer || row.median == 0 || column == peers.end()) continue;
      line.speedups[static_cast<size_t>(column - peers.begin())] = peer.median / row.median;
    }
    lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace nf4bench
