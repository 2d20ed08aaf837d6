#include "context.hpp"

#include <chrono>
#include <ctime>

#include "build.hpp"
#include "formatted.hpp"

namespace nf4bench {
namespace {

std::string now() {
  const std::time_t time = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&time));
  return text;
}

}  // namespace

Context describe_run(Device& device, const std::string& commit, bool hot, bool pending) {
  Context context;
  context.facts = device.description();
  context.facts.emplace_back("libnf4", library_version());
  context.facts.emplace_back("commit", commit);
  context.facts.emplace_back("date", now());
  context.facts.emplace_back(
      "cache", hot ? "hot: the same weights in every launch"
                   : nf4::formatted("cold: launches rotate through {} MB or more", device.cold_bytes() / 1000000));
  context.facts.emplace_back("weights", pending ? "pending" : "constant");
  context.ceilings = device.ceilings();
  return context;
}

}  // namespace nf4bench
