// Sizes and times in the unit that suits them.
#pragma once

#include <cstdint>
#include <string>

namespace nf4bench {

// "512 B", "4.5 KiB", "13.5 MiB"
std::string bytes_text(int64_t bytes);

// "3.21 us", "1.51 ms", "2.4 s"
std::string time_text(double microseconds);

}  // namespace nf4bench
