// Loaded before libnf4, it adds variants of gemm to the host's one, and chooses among them as no table of the host can:
//   gemm.slow   sleeps first, in either config; it is what is selected for 3 rows of x, and the worse of the two for 5
//   gemm.wrong  takes 5 rows of x alone, and gives a wrong value
//   gemm.none   can run nothing
#include <dlfcn.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <thread>

#include "nf4/nf4.h"

namespace {

template <typename Function>
Function* real(Function*, const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

struct Added {
  const char* name;
  const char* configs[2];
  int32_t count;
};
constexpr Added kAdded[] = {{"gemm.slow", {"naps=1", "naps=4"}, 2}, {"gemm.wrong", {""}, 1}, {"gemm.none", {""}, 1}};

const Added* find(const char* name) {
  for (const Added& added : kAdded) {
    if (name != nullptr && std::strcmp(name, added.name) == 0) return &added;
  }
  return nullptr;
}

}  // namespace

#define REAL(function) real(function, #function)

extern "C" {

nf4_status_t nf4_variant_count(nf4_handle_t handle, nf4_op_t op, size_t* count) {
  const nf4_status_t status = REAL(nf4_variant_count)(handle, op, count);
  if (op == NF4_OP_GEMM) *count += std::size(kAdded);
  return status;
}

nf4_status_t nf4_variant_info(nf4_handle_t handle, nf4_op_t op, size_t index, nf4_variant_info_t* info) {
  if (op != NF4_OP_GEMM || index == 0) return REAL(nf4_variant_info)(handle, op, index, info);
  const nf4_status_t status = REAL(nf4_variant_info)(handle, op, 0, info);
  info->name = kAdded[index - 1].name;
  info->configs = kAdded[index - 1].count;
  return status;
}

nf4_status_t nf4_variant_config(nf4_handle_t handle, const char* variant, size_t index, char* config, size_t size) {
  const Added* const added = find(variant);
  if (added == nullptr) return REAL(nf4_variant_config)(handle, variant, index, config, size);
  std::snprintf(config, size, "%s", added->configs[index]);
  return NF4_SUCCESS;
}

nf4_status_t nf4_variant_supports(nf4_handle_t handle, const char* variant, const nf4_problem_t* problem,
                                  int32_t* supported, char* reason, size_t size) {
  const Added* const added = find(variant);
  if (added == nullptr) return REAL(nf4_variant_supports)(handle, variant, problem, supported, reason, size);
  *supported = added == &kAdded[0] || (added == &kAdded[1] && problem->m == 5);
  std::snprintf(reason, size, "%s", *supported != 0 ? "" : "it is none");
  return NF4_SUCCESS;
}

nf4_status_t nf4_select(nf4_handle_t handle, const nf4_problem_t* problem, const nf4_options_t* options,
                        nf4_selection_t* selection) {
  const char* variant = options->variant;
  const char* config = options->config;
  if (variant == nullptr && problem->op == NF4_OP_GEMM && (problem->m == 3 || problem->m == 5)) {
    variant = kAdded[0].name;
    config = kAdded[0].configs[problem->m == 3 ? 0 : 1];
  }
  const Added* const added = find(variant);
  if (added == nullptr) return REAL(nf4_select)(handle, problem, options, selection);
  selection->variant = added->name;
  selection->workspace_size = 0;
  std::snprintf(selection->config, sizeof selection->config, "%s", config);
  return NF4_SUCCESS;
}

nf4_status_t nf4_gemm(nf4_handle_t handle, void* y, int64_t ldy, const void* x, int64_t ldx, int64_t m,
                      nf4_dtype_t dtype, const nf4_weight_t* weight, const void* bias, const nf4_options_t* options,
                      nf4_stream_t stream) {
  const Added* const added = options == nullptr ? nullptr : find(options->variant);
  if (added == nullptr) return REAL(nf4_gemm)(handle, y, ldy, x, ldx, m, dtype, weight, bias, options, stream);
  if (added == &kAdded[2]) return NF4_ERROR_UNSUPPORTED;
  if (added == &kAdded[0]) {
    const bool longer = std::strcmp(options->config, added->configs[1]) == 0;
    std::this_thread::sleep_for(std::chrono::milliseconds(longer ? 20 : 5));
  }
  const nf4_status_t status = REAL(nf4_gemm)(handle, y, ldy, x, ldx, m, dtype, weight, bias, nullptr, stream);
  if (added == &kAdded[1]) static_cast<uint8_t*>(y)[1] ^= 0x80;  // the sign of a 16-bit one
  return status;
}
}
