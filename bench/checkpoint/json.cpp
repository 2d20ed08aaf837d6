#include "checkpoint/json.hpp"

#include <stdexcept>
#include <unordered_set>
#include <vector>

#include "checkpoint/safetensors.hpp"

namespace nf4bench {

nlohmann::json parse_object(std::string_view text, const std::string& name) {
  using Json = nlohmann::json;
  constexpr int kDeepest = 8;
  std::vector<std::unordered_set<std::string>> keys;  // of the objects that are open
  const auto watch = [&](int depth, Json::parse_event_t event, Json& value) {
    if (depth > kDeepest) throw std::runtime_error(name + " nests too deep");
    if (event == Json::parse_event_t::object_start) {
      keys.emplace_back();
    } else if (event == Json::parse_event_t::object_end) {
      keys.pop_back();
    } else if (event == Json::parse_event_t::key && !keys.back().insert(value.get<std::string>()).second) {
      throw std::runtime_error(name + " has two " + printable(value.get<std::string>()));
    }
    return true;
  };
  try {
    Json object = Json::parse(text, watch);
    if (object.is_object()) return object;
  } catch (const Json::exception&) {
    // Its message may hold all of the text.
  }
  throw std::runtime_error(name + " is no JSON object");
}

}  // namespace nf4bench
