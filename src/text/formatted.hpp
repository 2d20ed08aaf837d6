// Texts made of values by fmt. The format is checked against its arguments where it is written; the code that formats
// is compiled once, since in headers it would take most of the time that a source compiles.
#pragma once

#include <fmt/format.h>

#include <string>

namespace nf4 {

std::string formatted_from(fmt::string_view format, fmt::format_args args);

template <class... Args>
std::string formatted(fmt::format_string<Args...> format, Args&&... args) {
  return formatted_from(format, fmt::make_format_args(args...));
}

}  // namespace nf4
