// The command line.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "contenders/contender.hpp"
#include "layers.hpp"
#include "nf4/nf4.h"

namespace nf4bench {

struct Options {
  enum class Sweep { named, full };

  bool help = false;
  std::string model_file;  // `model FILE`: measure a file's weights in place of a sweep
  bool tune = false;       // `tune`: make a tuning table

  Sweep sweep = Sweep::named;  // the problems that the options name, or a list that covers everything

  std::vector<nf4_op_t> ops = {NF4_OP_GEMM, NF4_OP_UNPACK, NF4_OP_PACK};
  std::vector<std::string> models;  // of layers.hpp; with no shape and no model, the device's default
  std::vector<Layer> shapes;
  std::vector<int64_t> m;           // empty: see problems_of
  std::vector<nf4_dtype_t> dtypes;  // the same
  std::vector<int32_t> blocksizes = {64};
  bool nested = false;
  bool groups = false;  // the models' groups in place of their layers
  std::vector<std::string> variants;
  bool hot = false;
  bool pending = false;

  double limit = std::numeric_limits<double>::infinity();  // seconds; what is not begun by then is not measured
  std::string state = "nf4-tune.csv";                      // of tune: what was measured so far
  std::string table = "nf4-tuning.csv";                    // the table that it makes
  std::string builtin;                                     // and the same as a C++ header; "" for none

  std::optional<int32_t> device;  // NF4_HOST_DEVICE for the host; without it, CUDA device 0 if there is one
  PeerPaths peers;
  std::string csv;
  std::string json;
  std::string commit;
};

// Throws std::invalid_argument that names the option and what it takes.
Options parse_options(int argc, const char* const* argv);

extern const char* const kHelp;

}  // namespace nf4bench
