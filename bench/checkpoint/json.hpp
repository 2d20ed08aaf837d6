// Small JSON texts of checkpoints.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace nf4bench {

// Parses one object. Throws std::runtime_error that begins with `name` where the text is none, nests too deep, or has
// a key twice.
nlohmann::json parse_object(std::string_view text, const std::string& name);

}  // namespace nf4bench
