#include "report/progress.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>

#include "formatted.hpp"

namespace nf4bench {

std::string progress_text(size_t done, size_t total, double seconds, const std::string& what) {
  constexpr size_t kWidth = 20;
  const size_t filled = kWidth * done / total;
  std::string left;
  if (done > 0) {
    const auto estimate = std::llround(seconds / static_cast<double>(done) * static_cast<double>(total - done));
    left = nf4::formatted(", {}:{:02} left", estimate / 60, estimate % 60);
  }
  return nf4::formatted("[{:#<{}}{:.<{}}] {}/{}{}: {}", "", filled, "", kWidth - filled, done, total, left, what);
}

Progress::Progress(size_t total) : shown_(isatty(STDERR_FILENO) != 0), total_(total) {}

void Progress::next(const std::string& what) {
  if (shown_) fmt::print(stderr, "\r\x1b[K{}", progress_text(begun_, total_, seconds(), what));
  ++begun_;
}

void Progress::clear() const {
  if (shown_) fmt::print(stderr, "\r\x1b[K");
}

double Progress::seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

}  // namespace nf4bench
