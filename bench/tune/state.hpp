// What tuning has measured so far, and the file that keeps it, so that a run which was cut short goes on.
#pragma once

#include <compare>
#include <string>
#include <string_view>
#include <vector>

#include "problem.hpp"

namespace nf4bench {

// A variant in one of its configs.
struct Choice {
  std::string variant;
  std::string config;

  auto operator<=>(const Choice&) const = default;
};

// One choice, tried on one problem.
struct Trial {
  enum class Outcome { timed, dropped, failed };  // dropped: far behind after a glance; failed: its result is wrong

  Choice choice;
  Outcome outcome = Outcome::timed;
  bool workspace = false;  // it needs one
  bool before = false;     // what was selected before tuning
  double microseconds = 0;

  bool operator==(const Trial&) const = default;
};

struct Measured {
  Problem problem;  // without the layer's name
  std::vector<Trial> trials;

  bool operator==(const Measured&) const = default;
};

// A CSV file below a line that tells the device and the commit. Each problem is appended by one write, and counts once
// its last line is there: one that was cut short is measured again.
class TuneState {
 public:
  // Reads the file, or starts it. Throws if it was made on another device or commit, or is none.
  TuneState(std::string path, std::string_view device, std::string_view commit);

  const std::vector<Measured>& measured() const { return measured_; }
  bool has(const Problem& problem) const;
  void append(const Measured& measured);

 private:
  void read(std::string_view text, std::string_view head);

  std::string path_;
  std::vector<Measured> measured_;
};

}  // namespace nf4bench
