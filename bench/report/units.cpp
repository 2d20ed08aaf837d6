#include "report/units.hpp"

#include <array>

#include "formatted.hpp"

namespace nf4bench {
namespace {

// Three digits, of the largest unit that leaves one before the point.
template <size_t kUnits>
std::string with_unit(double value, double step, const std::array<const char*, kUnits>& units) {
  size_t unit = 0;
  for (; unit + 1 < kUnits && value >= step; ++unit) value /= step;
  return nf4::formatted("{:.{}f} {}", value, value < 10 ? 2 : value < 100 ? 1 : 0, units[unit]);
}

}  // namespace

std::string bytes_text(int64_t bytes) {
  if (bytes < 1024) return nf4::formatted("{} B", bytes);
  return with_unit<4>(static_cast<double>(bytes) / 1024, 1024, {"KiB", "MiB", "GiB", "TiB"});
}

std::string time_text(double microseconds) { return with_unit<3>(microseconds, 1000, {"us", "ms", "s"}); }

}  // namespace nf4bench
