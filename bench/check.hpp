// Is what a contender computes right? Asked before it is timed.
#pragma once

#include <cstdint>
#include <string>

#include "contenders/contender.hpp"

namespace nf4bench {

struct Check {
  bool ok = true;
  double worst = 0;           // gemm: largest error over its bound
  double relative_error = 0;  // gemm: ||y - reference|| / ||reference||
  int64_t differences = 0;    // other operations: values that are not bit for bit the expected ones
  std::string what;           // what is wrong
};

// Runs `contender`, prepared, on set 0 with its outputs poisoned.
Check check_result(Workload& workload, Contender& contender);

}  // namespace nf4bench
