// How fast and exact each variant is over all matrices of a checkpoint.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "measure.hpp"

namespace nf4bench {

class Totals {
 public:
  void add(const Row& row);
  std::string text() const;
  size_t failures() const { return failures_; }

 private:
  // One contender at one operation, over all matrices that it supports.
  struct Total {
    nf4_op_t op = NF4_OP_GEMM;
    int64_t m = 1;
    std::string contender;
    std::string config;
    int matrices = 0;
    double microseconds = 0;
    double bytes = 0;
    double worst = 0;
    double relative_error = 0;
    std::string failure;
  };

  // What is selected may differ from matrix to matrix: those count together.
  Total& of(const Row& row);
  // The dense product of the same matrices, null if there is none.
  const Total* dense_of(const Total& total) const;

  std::vector<Total> totals_;
  size_t failures_ = 0;
};

}  // namespace nf4bench
