// Which problems a run is about.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "device/device.hpp"
#include "layers.hpp"
#include "problem.hpp"

namespace nf4bench {

struct SuiteOptions {
  bool full = false;  // a list that covers everything, in place of all combinations of what follows

  std::vector<nf4_op_t> ops = {NF4_OP_GEMM, NF4_OP_UNPACK, NF4_OP_PACK};
  std::vector<std::string> models;  // of layers.hpp
  // With no shape and no model, on a GPU; on the host it is one layer of its own.
  std::vector<std::string> default_models = {"all"};
  std::vector<Layer> shapes;
  bool groups = false;  // the models' groups in place of their layers
  std::vector<int64_t> m = {1};
  std::vector<nf4_dtype_t> dtypes = {NF4_BF16};
  std::vector<int32_t> blocksizes = {64};
  bool nested = false;
  int64_t experts = 0;  // of NF4_OP_GEMM_EXPERTS, with those that follow
  int64_t top_k = 1;
  double skew = 0;
  RoutingForm form = RoutingForm::ids;
};

// One user, a few, and up to the tokens of a prompt.
inline const std::vector<int64_t> kAllM = {1, 2, 4, 8, 16, 32, 64, 128, 256, 1024};

// Throws std::invalid_argument that names the option if a group's parts could not be views of one weight.
std::vector<Problem> suite(const Device& device, const SuiteOptions& options);

}  // namespace nf4bench
