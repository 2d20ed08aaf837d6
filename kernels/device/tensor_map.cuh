// Descriptions of matrices for the copy engine of compute capability 9.0.
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include <atomic>
#include <cstdint>

namespace nf4 {

// Describes a matrix in global memory, to be copied in boxes whose rows are 128, 64 or 32 bytes, with the swizzle of
// that width: piece c (16 bytes) of row r of a box goes to place c ^ (r % 8), c ^ (r / 2 % 4) or c ^ (r / 4 % 2).
// Address and pitch are multiples of 16 bytes. Returns a cudaError_t. The driver's function is found by the runtime, so
// that nothing is linked for it.
inline int encode_tensor_map(CUtensorMap* map, CUtensorMapDataType type, const void* matrix, int64_t rows,
                             int64_t columns, int64_t pitch_bytes, int box_rows, int box_columns) {
  using Encode = decltype(&cuTensorMapEncodeTiled);
  static std::atomic<Encode> known{nullptr};
  Encode encode = known.load(std::memory_order_relaxed);
  if (encode == nullptr) {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found{};
#if CUDART_VERSION >= 12050
    const cudaError_t error =
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found);
#else
    const cudaError_t error = cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &function, cudaEnableDefault, &found);
#endif
    if (error != cudaSuccess) return error;
    if (found != cudaDriverEntryPointSuccess) return cudaErrorNotSupported;
    encode = reinterpret_cast<Encode>(function);
    known.store(encode, std::memory_order_relaxed);
  }
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows)};
  const cuuint64_t pitch[] = {static_cast<cuuint64_t>(pitch_bytes)};
  const cuuint32_t box[] = {static_cast<cuuint32_t>(box_columns), static_cast<cuuint32_t>(box_rows)};
  const cuuint32_t steps[] = {1, 1};
  const int element_bytes = type == CU_TENSOR_MAP_DATA_TYPE_UINT8 ? 1 : 2;
  const int row_bytes = box_columns * element_bytes;
  const CUtensorMapSwizzle swizzle = row_bytes == 32   ? CU_TENSOR_MAP_SWIZZLE_32B
                                     : row_bytes == 64 ? CU_TENSOR_MAP_SWIZZLE_64B
                                                       : CU_TENSOR_MAP_SWIZZLE_128B;
  const auto describe = [&] {
    return encode(map, type, 2, const_cast<void*>(matrix), sizes, pitch, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                  swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  };
  CUresult result = describe();
  if (result != CUDA_SUCCESS) {
    // The driver wants a context, which a thread has from its first call of the runtime on. This may be that call.
    int device = 0;
    cudaError_t error = cudaGetDevice(&device);
    if (error == cudaSuccess) error = cudaSetDevice(device);
    if (error != cudaSuccess) return error;
    result = describe();
  }
  return static_cast<cudaError_t>(result);  // the runtime has the driver's errors under the same numbers
}

}  // namespace nf4
