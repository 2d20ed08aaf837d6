// How far a long run is.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>

namespace nf4bench {

// "[####......] 2/5, 0:03 left: what", after `seconds` for the first `done` of `total`.
std::string progress_text(size_t done, size_t total, double seconds, const std::string& what);

// A line on the terminal that each step overwrites; nothing where stderr is no terminal.
class Progress {
 public:
  explicit Progress(size_t total);
  // Says what is begun.
  void next(const std::string& what);
  void clear() const;
  double seconds() const;  // since it was made

 private:
  using Clock = std::chrono::steady_clock;

  Clock::time_point start_ = Clock::now();
  bool shown_;
  size_t total_;
  size_t begun_ = 0;
};

}  // namespace nf4bench
