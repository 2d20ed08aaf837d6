// The command line: a command, and the options that it takes.
#pragma once

#include <cstdint>
#include <iterator>
#include <limits>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "contenders/contender.hpp"
#include "layers.hpp"
#include "suite.hpp"

namespace nf4bench {

// What to print in place of a run: help or a version.
struct Text {
  std::string text;
};

// Where to run. NF4_HOST_DEVICE for the host; without a value, CUDA device 0 if there is one.
struct DeviceOption {
  std::optional<int32_t> ordinal;
  std::string as;  // an older compute capability to run as, "8.6"; "" for the device's own
};

struct SweepOptions {
  SuiteOptions suite;
  std::vector<std::string> variants;  // all, if empty
  bool hot = false;
  bool pending = false;
  double limit = std::numeric_limits<double>::infinity();  // seconds; what is not begun by then is not measured

  DeviceOption device;
  PeerPaths peers;
  std::string csv;
  std::string json;
  std::string commit;
};

struct TuneOptions {
  SuiteOptions suite;
  std::vector<std::string> variants;
  double limit = std::numeric_limits<double>::infinity();

  DeviceOption device;
  std::string state = "nf4-tune.csv";    // what was measured so far
  std::string table = "nf4-tuning.csv";  // the table that it makes
  std::string builtin;  // and the same for all of the compute capability, as src/tuning_builtin.csv; "" for none
  std::string commit;
};

struct RegretOptions {
  static SuiteOptions untuned() {  // layers, and M between others, that the tuning table does not rest on
    SuiteOptions out;
    out.ops = {NF4_OP_GEMM};
    out.default_models = {std::string(kHeldOut)};
    out.m = {1, 8, 48, 100, 256, 1024};
    return out;
  }

  SuiteOptions suite = untuned();
  double limit = std::numeric_limits<double>::infinity();

  DeviceOption device;
  std::string csv;
  std::string json;
  std::string commit;
};

struct ModelOptions {
  std::string path;
  int32_t blocksize = 64;  // of what is packed
  bool details = false;
  std::vector<std::string> variants;
  DeviceOption device;
};

struct VariantsOptions {
  std::vector<nf4_op_t> ops{std::begin(kAllOps), std::end(kAllOps)};
  std::optional<Problem> problem;  // whose op is each of ops
  DeviceOption device;
};

using Command = std::variant<Text, SweepOptions, TuneOptions, RegretOptions, ModelOptions, VariantsOptions>;

// Throws std::invalid_argument that names the option, its value and what it takes.
Command parse_command(int argc, const char* const* argv);

}  // namespace nf4bench
