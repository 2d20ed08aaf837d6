// Loaded before libnf4, it makes each operation wrong in a way of its own, on the host. What nf4-bench does for itself,
// without options, stays right.
#include <dlfcn.h>

#include <cmath>

#include "nf4/nf4.h"

namespace {

template <typename Function>
Function* real(Function*, const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

}  // namespace

#define REAL(function) real(function, #function)

extern "C" {

// A wrong value.
nf4_status_t nf4_gemm(nf4_handle_t handle, void* y, int64_t ldy, const void* x, int64_t ldx, int64_t m,
                      nf4_dtype_t dtype, const nf4_weight_t* weight, const void* bias, const nf4_options_t* options,
                      nf4_stream_t stream) {
  const nf4_status_t status = REAL(nf4_gemm)(handle, y, ldy, x, ldx, m, dtype, weight, bias, options, stream);
  if (options != nullptr) static_cast<uint8_t*>(y)[1] ^= 0x80;  // the sign of a 16-bit one
  return status;
}

nf4_status_t nf4_gemm_transposed(nf4_handle_t handle, void* y, int64_t ldy, const void* x, int64_t ldx, int64_t m,
                                 nf4_dtype_t dtype, const nf4_weight_t* weight, const nf4_options_t* options,
                                 nf4_stream_t stream) {
  const nf4_status_t status = REAL(nf4_gemm_transposed)(handle, y, ldy, x, ldx, m, dtype, weight, options, stream);
  if (options != nullptr) static_cast<uint8_t*>(y)[1] ^= 0x80;
  return status;
}

nf4_status_t nf4_gemm_experts(nf4_handle_t handle, void* y, int64_t ldy, const void* x, int64_t ldx, nf4_dtype_t dtype,
                              const nf4_weight_t* weight, const void* bias, const nf4_routing_t* routing,
                              const nf4_options_t* options, nf4_stream_t stream) {
  const nf4_status_t status =
      REAL(nf4_gemm_experts)(handle, y, ldy, x, ldx, dtype, weight, bias, routing, options, stream);
  if (options != nullptr) static_cast<uint8_t*>(y)[1] ^= 0x80;
  return status;
}

// A NaN.
nf4_status_t nf4_unpack(nf4_handle_t handle, void* w, int64_t ldw, nf4_dtype_t dtype, const nf4_weight_t* weight,
                        const nf4_options_t* options, nf4_stream_t stream) {
  const nf4_status_t status = REAL(nf4_unpack)(handle, w, ldw, dtype, weight, options, stream);
  if (options != nullptr) static_cast<uint8_t*>(w)[0] = static_cast<uint8_t*>(w)[1] = 0xff;
  return status;
}

// A wrong byte of codes.
nf4_status_t nf4_pack(nf4_handle_t handle, uint8_t* codes, float* absmax, const void* w, int64_t ldw, nf4_dtype_t dtype,
                      int64_t rows, int64_t cols, int32_t blocksize, const nf4_options_t* options,
                      nf4_stream_t stream) {
  const nf4_status_t status =
      REAL(nf4_pack)(handle, codes, absmax, w, ldw, dtype, rows, cols, blocksize, options, stream);
  if (options != nullptr) codes[0] ^= 0x11;
  return status;
}

// A wrong scale.
nf4_status_t nf4_pack_absmax(nf4_handle_t handle, uint8_t* absmax_codes, float* absmax2, float* offset,
                             const float* absmax, int64_t count, const float* map, int32_t blocksize,
                             const nf4_options_t* options, nf4_stream_t stream) {
  const nf4_status_t status =
      REAL(nf4_pack_absmax)(handle, absmax_codes, absmax2, offset, absmax, count, map, blocksize, options, stream);
  if (options != nullptr) *absmax2 = std::nextafter(*absmax2, INFINITY);
  return status;
}

// An output that is never written.
nf4_status_t nf4_unpack_absmax(nf4_handle_t handle, float* absmax, const nf4_weight_t* weight,
                               const nf4_options_t* options, nf4_stream_t stream) {
  return options != nullptr ? NF4_SUCCESS : REAL(nf4_unpack_absmax)(handle, absmax, weight, options, stream);
}
}
