// The C functions of bitsandbytes' CUDA library, loaded at run time. Signatures: its backends/cuda/ops.py, 0.50.1.
#pragma once

#include <cstdint>

#include "contenders/dynamic_library.hpp"
#include "nf4/nf4.h"

namespace nf4bench {

class Bitsandbytes {
 public:
  using FusedGemm = void(const void* x, const void* codes, const void* absmax, const void* absmax_8bit,
                         const void* absmax_code, const void* absmax_offset, void* y, const void* bias, int m, int n,
                         int k, int blocksize, int quant_type, nf4_stream_t stream);
  using Gemv = void(int rows, int one, int k, const void* x, const void* codes, const void* absmax,
                    const void* codebook, void* y, int lda, int ldb, int ldc, int blocksize, nf4_stream_t stream);
  using Unpack = void(const void* code, const void* codes, const void* absmax, void* w, int blocksize, int count,
                      nf4_stream_t stream);
  using Pack = void(const void* code, const void* w, void* absmax, void* codes, int blocksize, int count);

  static constexpr int kNf4 = 2;  // its quant_type

  explicit Bitsandbytes(const std::string& path) : library_(path) {}

  // Each is NULL in a version without it.
  FusedGemm* fused_gemm(nf4_dtype_t dtype) const { return library_.find<FusedGemm>("cgemm_4bit_" + name(dtype)); }
  Gemv* gemv(nf4_dtype_t dtype) const { return library_.find<Gemv>("cgemm_4bit_inference_naive_" + name(dtype)); }
  Unpack* unpack(nf4_dtype_t dtype) const {
    return library_.find<Unpack>("cdequantize_blockwise_" + name(dtype) + "_nf4");
  }
  Pack* pack(nf4_dtype_t dtype) const { return library_.find<Pack>("cquantize_blockwise_" + name(dtype) + "_nf4"); }

 private:
  static std::string name(nf4_dtype_t dtype) { return dtype == NF4_F32 ? "fp32" : dtype == NF4_F16 ? "fp16" : "bf16"; }

  DynamicLibrary library_;
};

}  // namespace nf4bench
