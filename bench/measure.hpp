// Checks and times one contender on one problem: a row of the report.
#pragma once

#include <string>

#include "check.hpp"
#include "contenders/contender.hpp"

namespace nf4bench {

struct Row {
  Problem problem;
  std::string contender;
  std::string config;
  bool is_peer = false;
  bool is_variant = false;  // of the library, forced
  Check check;
  // Microseconds per launch, over replays; 0 if the result was wrong.
  double median = 0;
  double p5 = 0;
  double p95 = 0;
  double bytes = 0;      // the least that it has to move
  size_t workspace = 0;  // bytes that it was given

  double rate() const { return median > 0 ? bytes / (median * 1e-6) : 0; }  // bytes per second
};

// An exception on the way makes a failed row.
Row measure(Workload& workload, Contender& contender, const Pace& pace = kThorough);

}  // namespace nf4bench
