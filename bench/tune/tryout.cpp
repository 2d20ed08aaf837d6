#include "tune/tryout.hpp"

#include <algorithm>

#include "variants.hpp"

namespace nf4bench {
namespace {

// What is this much slower than the best after a glance is dropped; noise is a few percent.
constexpr double kDropped = 1.15;
// One launch is enough of what is this much slower, if it takes a while.
constexpr double kHopeless = 4;
constexpr double kWhile = 1e-3;  // seconds

double time_of(const Attempt* attempt) { return attempt == nullptr ? 0 : attempt->row.median; }

}  // namespace

Contenders variants_for(nf4_handle_t handle, const std::vector<std::string>& names, const Problem& problem) {
  Contenders out = nf4_contenders(handle, problem.op, names);
  std::erase_if(out, [&](auto& contender) { return !contender->is_variant() || !contender->supports(problem); });
  return out;
}

std::vector<Attempt> try_all(Device& device, nf4_handle_t handle, const Contenders& contenders,
                             const Problem& problem) {
  const nf4_selection_t selection = select(handle, problem, SIZE_MAX);
  Workload workload(device, handle, problem, false, false);
  std::vector<Attempt> attempts;
  for (const auto& contender : contenders) {
    Pace pace = kGlance;
    if (const double best = time_of(fastest(attempts, false)); best > 0) {
      pace.hopeless_seconds = std::max(kHopeless * best * 1e-6, kWhile);
    }
    const Row row = measure(workload, *contender, pace);
    attempts.push_back({row, row.contender == selection.variant && row.config == selection.config});
  }
  const double best = time_of(fastest(attempts, false));
  const double best_modest = time_of(fastest(attempts, true));
  for (size_t i = 0; i < attempts.size(); ++i) {
    Attempt& attempt = attempts[i];
    if (!attempt.row.check.ok) continue;
    const double limit = kDropped * (attempt.row.workspace > 0 ? best : std::max(best, best_modest));
    if (attempt.row.median <= limit || attempt.selected) {
      attempt.row = measure(workload, *contenders[i], kBrisk);
    } else {
      attempt.dropped = true;
    }
  }
  return attempts;
}

const Attempt* fastest(const std::vector<Attempt>& attempts, bool modest) {
  const Attempt* best = nullptr;
  for (const Attempt& attempt : attempts) {
    const bool counts = attempt.row.check.ok && !(modest && attempt.row.workspace > 0);
    if (counts && (best == nullptr || attempt.row.median < best->row.median)) best = &attempt;
  }
  return best;
}

}  // namespace nf4bench
