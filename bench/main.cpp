// nf4-bench: checks and times the operations of libnf4 and of its peers.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <exception>
#include <stdexcept>

#include "checkpoint/model.hpp"
#include "device/device.hpp"
#include "options.hpp"
#include "report/report.hpp"
#include "status.hpp"
#include "sweep.hpp"
#include "tune/tune.hpp"

namespace nf4bench {
namespace {

std::unique_ptr<Device> open_device(const Options& options) {
  const int32_t ordinal = options.device.value_or(0);
  if (ordinal == NF4_HOST_DEVICE) return open_host_device();
  if (std::unique_ptr<Device> device = open_cuda_device(ordinal)) return device;
  if (options.device) throw std::runtime_error(fmt::format("there is no CUDA device {}", ordinal));
  fmt::print("No CUDA device: this measures the host backend.\n");
  return open_host_device();
}

std::string commit_of(const Options& options) { return options.commit.empty() ? NF4_GIT_COMMIT : options.commit; }

std::string now() {
  const std::time_t time = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&time));
  return text;
}

Context describe_run(Device& device, const Options& options) {
  Context context;
  context.facts = device.description();
  const int32_t version = nf4_version();
  context.facts.emplace_back("libnf4", fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100));
  context.facts.emplace_back("commit", commit_of(options));
  context.facts.emplace_back("date", now());
  context.facts.emplace_back(
      "cache", options.hot ? "hot: the same weights in every launch"
                           : fmt::format("cold: launches rotate through {} MB or more", device.cold_bytes() / 1000000));
  context.facts.emplace_back("weights", options.pending ? "pending" : "constant");
  context.ceilings = device.ceilings();
  return context;
}

// The library's contenders for all operations asked for.
Contenders ours(nf4_handle_t handle, const Options& options) {
  Contenders out;
  for (const nf4_op_t op : options.ops) {
    for (auto& contender : nf4_contenders(handle, op, options.variants)) out.push_back(std::move(contender));
  }
  for (const std::string& name : options.variants) {
    const bool known = std::any_of(out.begin(), out.end(), [&](auto& contender) { return contender->name() == name; });
    if (!known)
      throw std::invalid_argument("--variant " + name + ": no operation asked for has a variant of that name");
  }
  return out;
}

int run(const Options& options) {
  const std::unique_ptr<Device> device = open_device(options);
  const Handle handle = make_handle(device->ordinal());
  if (!options.model_file.empty()) return measure_model(*device, handle.get(), options) == 0 ? 0 : 1;
  if (options.tune) return tune(*device, handle.get(), options, commit_of(options)) ? 0 : 1;

  Contenders contenders = ours(handle.get(), options);
  const Context context = describe_run(*device, options);
  print_context(context);
  std::vector<std::string> peers;
  if (!device->is_host()) {
    std::string note;
    for (auto& contender : cuda_peers(*device, handle.get(), options.peers, note)) {
      const bool named = std::find(peers.begin(), peers.end(), contender->name()) != peers.end();
      if (contender->is_peer() && !named) peers.push_back(contender->name());
      contenders.push_back(std::move(contender));
    }
    if (!note.empty()) fmt::print("without cuBLAS: {}\n", note);
  }
  Report report(context, peers, options.csv, options.json);
  sweep(*device, handle.get(), options, contenders, report);
  report.finish();
  if (report.failures() == 0) return 0;
  std::fflush(stdout);
  fmt::print(stderr, "{} results are wrong\n", report.failures());
  return 1;
}

}  // namespace
}  // namespace nf4bench

int main(int argc, char** argv) {
  try {
    const nf4bench::Options options = nf4bench::parse_options(argc, argv);
    if (options.help) {
      fmt::print("{}", nf4bench::kHelp);
      return 0;
    }
    return nf4bench::run(options);
  } catch (const std::exception& error) {
    std::fflush(stdout);
    fmt::print(stderr, "nf4-bench: {}\n", error.what());
    return 2;
  }
}
