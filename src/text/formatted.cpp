#include "formatted.hpp"

namespace nf4 {

std::string formatted_from(fmt::string_view format, fmt::format_args args) { return fmt::vformat(format, args); }

}  // namespace nf4
