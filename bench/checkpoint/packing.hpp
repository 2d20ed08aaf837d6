// What packing makes of the matrices of a checkpoint: bytes and errors.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.hpp"

namespace nf4bench {

// ||unpacked - original||^2 and ||original||^2.
struct Distance {
  double error2 = 0;
  double norm2 = 0;

  double relative() const { return norm2 > 0 ? std::sqrt(error2 / norm2) : 0; }
  void add(const Distance& other) {
    error2 += other.error2;
    norm2 += other.norm2;
  }
};

// Of one matrix, or of several. Of one that is packed already, what it was before is not known, and there is one form
// alone.
struct Packing {
  int64_t matrices = 1;
  int64_t before = 0;  // bytes
  int64_t after = 0;   // bytes with fp32 scales, else with nested ones
  int64_t plain = 0;   // bytes with fp32 scales, 0 if not known
  int64_t nested = 0;  // bytes with nested scales, 0 if not known
  Distance error;
  Distance error_nested;

  void add(const Packing& other);
};

// Matrices of a kind share a line, since a model has hundreds in layers that are alike: those of one shape, or with
// `details` those of one shape and one name up to its numbers. Without details the smallest share a line where there
// are many.
class PackingTable {
 public:
  explicit PackingTable(bool details) : details_(details) {}

  void add(const Matrix& matrix, const Packing& packing);
  std::string text() const;

 private:
  struct Line {
    std::string name;
    std::string form;
    Packing packing;
  };

  bool details_;
  std::vector<Line> lines_;
};

}  // namespace nf4bench
