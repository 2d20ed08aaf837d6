/* nf4.h: the C API of libnf4, kernels for NF4 (4-bit NormalFloat) weights on NVIDIA GPUs.
 *
 * C99, self-contained: no CUDA header is needed to include this file. Link with -lnf4.
 *
 *   nf4_handle_t handle;
 *   nf4_create(&handle, 0);                                  // CUDA device 0; NF4_HOST_DEVICE for the CPU
 *   nf4_weight_t w = NF4_WEIGHT_INIT;                        // the buffers of a bitsandbytes checkpoint, as they are
 *   w.rows = N; w.cols = K; w.codes = codes; w.absmax = absmax;
 *   nf4_gemv(handle, y, x, NF4_BF16, &w, NULL, NULL, stream); // y = W x
 *
 * Conventions
 *   - A weight matrix W has `rows` (N) rows and `cols` (K) columns, row-major. Activations x are [m, K] and results y
 *     are [m, N], row-major, with a leading dimension counted in elements. All sizes are 64-bit; N*K may exceed 2^31.
 *   - Every pointer to data is a device pointer of the handle's device, or a host pointer if the handle is the host
 *     backend's. An output must not overlap an input or another output: INVALID_ARGUMENT, since 1.2, where it is seen
 * to (rows of two matrices may lie between one another's). Pointers are aligned to their element (2 bytes for f16 and
 *     bf16, 4 for f32, 1 for codes); 16 bytes, as every allocator gives, allows the fastest variants.
 *   - On a CUDA device operations are ordered on the caller's stream, allocate nothing, never synchronize, and can be
 *     captured in a CUDA graph. The same call, variant, config and device give the same bits. (CUDA loads a kernel when
 *     it is first launched, and may wait for the device then.)
 *     On the host backend they are done on return, `stream` must be NULL, and nf4_gemm takes host memory for x in
 *     fp64.
 *   - Functions return NF4_SUCCESS or the error; nothing is launched and no output is written unless they succeed, but
 *     where CUDA refuses a later launch of an operation that takes several (docs/reference/reliability.md).
 *     nf4_last_error_message() then tells which argument was wrong, its value, and what was expected.
 *   - Structs begin with their size, and grow by fields at their end. A struct of an older release is taken as it is:
 *     nothing beyond its struct_size is read or written, and a field that it lacks is 0.
 *   - Unless said otherwise a function may be called from any thread; a handle may be shared by threads and streams.
 *   - The CUDA device of the calling thread must be the handle's (NF4_ERROR_WRONG_DEVICE otherwise). An error that
 *     CUDA reported before the call is returned as NF4_ERROR_CUDA and left in place.
 *
 * Format (docs/reference/format.md): the bytes of bitsandbytes. W is flattened row-major; byte i of the codes holds
 * element 2i in its high and element 2i+1 in its low nibble; each `blocksize` consecutive elements of the flattened
 * matrix share one absmax, so blocks, and nibble pairs where K is odd, straddle rows. A weight is codebook[code] *
 * absmax.
 *
 * Accuracy (docs/reference/accuracy.md). With S = sum_k |W[n,k] * x[m,k]| + |bias[n]| and ref the exact result for the
 * packed weights,
 *   |y - ref| <= u*|ref| + eta + (1 + u) * g * S
 * where u is 2^-24, 2^-11, 2^-8 and eta half the smallest subnormal of y's type (f32, f16, bf16), and g is that of
 * the variant's accuracy class (nf4_variant_info). Every variant accumulates and applies absmax in fp32 or better.
 * Where ref is NaN, y is NaN or Inf: a poisoned block (nf4_pack) never gives a finite result. Classes "unpacked"
 * and "scaled16" hold the weights in y's type, and their bounds are for those that are normal numbers of it.
 */
#ifndef NF4_NF4_H
#define NF4_NF4_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define NF4_API
#else
#define NF4_API __attribute__((visibility("default")))
#endif

/* ----------------------------------------------------------------------------------------------------- version --- */

#define NF4_VERSION_MAJOR 1
#define NF4_VERSION_MINOR 2
#define NF4_VERSION_PATCH 0
#define NF4_VERSION (NF4_VERSION_MAJOR * 10000 + NF4_VERSION_MINOR * 100 + NF4_VERSION_PATCH)

#define NF4_VERSION_STRING "1.2.0"

/* Returns NF4_VERSION of the library that is running, which may differ from the header's. Since 1.0. */
NF4_API int32_t nf4_version(void);

/* Returns NF4_VERSION_STRING of the library that is running. Never NULL, static storage. Since 1.2. */
NF4_API const char* nf4_version_string(void);

/* ------------------------------------------------------------------------------------------------------ status --- */

/* Values are stable: none is ever renumbered or reused. */
typedef int32_t nf4_status_t;
enum {
  NF4_SUCCESS = 0,
  NF4_ERROR_INVALID_ARGUMENT = 1, /* null, negative, overflowing or contradictory argument */
  NF4_ERROR_MISALIGNED = 2,       /* a pointer is not aligned to its element type */
  NF4_ERROR_UNSUPPORTED = 3,      /* a dtype, blocksize or problem that this library or the forced variant lacks */
  NF4_ERROR_UNKNOWN_VARIANT = 4,  /* no variant of that name, or no config of that text */
  NF4_ERROR_STRUCT_SIZE = 5,      /* struct_size is none that this library knows: not set, or of a later release */
  NF4_ERROR_WORKSPACE = 6,        /* the workspace is smaller than nf4_select says, or misaligned */
  NF4_ERROR_WRONG_DEVICE = 7,     /* the calling thread's CUDA device is not the handle's */
  NF4_ERROR_NO_DEVICE = 8,        /* no such CUDA device, no driver, or a build without CUDA */
  NF4_ERROR_CUDA = 9,             /* CUDA reported an error; the message holds its name */
  NF4_ERROR_OUT_OF_MEMORY = 10,   /* host memory is exhausted */
  NF4_ERROR_IO = 11,              /* a file could not be read or written */
  NF4_ERROR_PARSE = 12,           /* a tuning table is malformed; the message holds the line */
  NF4_ERROR_INTERNAL = 13         /* a defect of the library; please report it */
};

/* Returns the name of `status`, "NF4_SUCCESS" for example, or "unknown nf4_status_t". Never NULL, static storage.
 * Since 1.0. */
NF4_API const char* nf4_status_string(nf4_status_t status);

/* Returns the message of the last call that failed on this thread, or "" if none has. Valid until the next failing
 * call on this thread. Since 1.0. */
NF4_API const char* nf4_last_error_message(void);

/* ----------------------------------------------------------------------------------------------- types of data --- */

typedef int32_t nf4_dtype_t;
enum {
  NF4_F32 = 0,  /* IEEE binary32 */
  NF4_F16 = 1,  /* IEEE binary16 */
  NF4_BF16 = 2, /* bfloat16 */
  NF4_U8 = 3,   /* only as nf4_weight_t.absmax_dtype: nested quantization */
  NF4_I32 = 4,  /* only as nf4_routing_t.ids_dtype; since 1.2 */
  NF4_I64 = 5   /* only as nf4_routing_t.ids_dtype; since 1.2 */
};

/* CUDA's cudaStream_t and CUstream; NULL is the legacy default stream. */
typedef struct CUstream_st* nf4_stream_t;

/* A weight matrix W [rows, cols] in NF4, as a bitsandbytes checkpoint holds it. The caller owns the data.
 *
 * absmax_dtype NF4_F32, NF4_F16 or NF4_BF16: absmax[i] is the scale of block i, ceil(rows*cols/blocksize) of them.
 * absmax_dtype NF4_U8 (nested): the scale of block i is
 *   round(round(absmax_map[absmax[i]] * absmax2[i / absmax_blocksize]) + *absmax_offset)
 * each step rounded to fp32, as bitsandbytes' dequantize_blockwise computes it. */
typedef struct nf4_weight_t {
  size_t struct_size;         /* sizeof(nf4_weight_t) */
  int64_t rows;               /* N >= 0 */
  int64_t cols;               /* K >= 0 */
  const uint8_t* codes;       /* ceil(rows*cols/2) bytes */
  const void* absmax;         /* ceil(rows*cols/blocksize) values of absmax_dtype */
  int32_t blocksize;          /* 32, 64, 128, 256, 512, 1024, 2048 or 4096 */
  nf4_dtype_t absmax_dtype;   /* NF4_F32, NF4_F16, NF4_BF16, or NF4_U8 for nested */
  const float* absmax_map;    /* nested only: the 256 values of an 8-bit code */
  const float* absmax2;       /* nested only: ceil(blocks/absmax_blocksize) second-level scales */
  const float* absmax_offset; /* nested only: one value, the mean that was taken off before quantizing */
  int32_t absmax_blocksize;   /* nested only: 32 to 4096, a power of two; bitsandbytes uses 256 */
  uint32_t flags;             /* NF4_WEIGHT_CONSTANT or 0 */
} nf4_weight_t;

/* A flag of nf4_weight_t: nothing that the call's stream has yet to finish writes what the view points to. Everything
 * that did was finished when the call was made or, in a CUDA graph, when the graph was launched. Then a product may
 * begin to read the weights while the kernel before it still runs. True of the weights of a loaded model. */
enum { NF4_WEIGHT_CONSTANT = 1 };

#define NF4_WEIGHT_INIT \
  { sizeof(nf4_weight_t), 0, 0, NULL, NULL, 64, NF4_F32, NULL, NULL, NULL, 256, 0 }

/* How a call is to run. A NULL options pointer means all of these defaults. */
typedef struct nf4_options_t {
  size_t struct_size;    /* sizeof(nf4_options_t) */
  const char* variant;   /* run this variant or fail; NULL: NF4_FORCE_VARIANT's, else the tuning table's, else
                            the default */
  const char* config;    /* with `variant`: one of its configs, as nf4_variant_config spells it; NULL: its first */
  void* workspace;       /* scratch on the handle's device, aligned to 256 bytes; NULL if workspace_size is 0 */
  size_t workspace_size; /* bytes; a variant that needs more than this is not selected, and fails if forced */
} nf4_options_t;

#define NF4_OPTIONS_INIT \
  { sizeof(nf4_options_t), NULL, NULL, NULL, 0 }

/* ------------------------------------------------------------------------------------------------------ handle --- */

typedef struct nf4_handle* nf4_handle_t;

#define NF4_HOST_DEVICE (-1)

/* Creates a handle for CUDA device `device`, or for the multi-threaded host backend if `device` is NF4_HOST_DEVICE.
 * Reads the environment: NF4_TUNING_FILE names a tuning table to use instead of the built-in one; NF4_FORCE_VARIANT
 * holds names of variants, separated by commas, that every call of their operation must use (an empty name is none);
 * NF4_LOG, if not empty or 0, writes each call's selected variant to stderr; NF4_COMPUTE_CAPABILITY, 8.6 for example,
 * limits a CUDA device to what an older one can run (since 1.2). A program with more rights than its user
 * (set-user-ID, file capabilities) reads none of them.
 * Errors: INVALID_ARGUMENT, NO_DEVICE, UNSUPPORTED (a device older than compute capability 7.5), UNKNOWN_VARIANT, IO,
 * PARSE, CUDA, OUT_OF_MEMORY; *handle is NULL then. Since 1.0. */
NF4_API nf4_status_t nf4_create(nf4_handle_t* handle, int32_t device);

/* Frees `handle`; NULL is accepted. No other call may be using it. Launched work is not waited for. Since 1.0. */
NF4_API nf4_status_t nf4_destroy(nf4_handle_t handle);

typedef struct nf4_device_info_t {
  size_t struct_size;         /* sizeof(nf4_device_info_t) */
  int32_t device;             /* CUDA ordinal, or NF4_HOST_DEVICE */
  int32_t compute_capability; /* 10 * major + minor, 90 for example; 0 on the host */
  int32_t multiprocessors;    /* SMs; hardware threads on the host */
  int32_t reserved;
  char name[128]; /* "NVIDIA H200", "host" */
} nf4_device_info_t;

/* Tells what `handle` runs on. Set info->struct_size before the call. Since 1.0. */
NF4_API nf4_status_t nf4_device_info(nf4_handle_t handle, nf4_device_info_t* info);

/* ------------------------------------------------------------------------------------------------------ format --- */

/* Writes the 16 values of NF4, code 0 to 15, to host memory. Source: QLoRA, arXiv 2305.14314. Since 1.0. */
NF4_API nf4_status_t nf4_codebook(float values[16]);

/* Writes bitsandbytes' signed dynamic 8-bit map, the usual absmax_map of nested quantization, to host memory.
 * Since 1.0. */
NF4_API nf4_status_t nf4_dynamic_map(float values[256]);

/* Computes how much memory a packed [rows, cols] takes: bytes of codes, and number of absmax values.
 * Since 1.0. */
NF4_API nf4_status_t nf4_packed_size(int64_t* codes_bytes, int64_t* absmax_count, int64_t rows, int64_t cols,
                                     int32_t blocksize);

/* --------------------------------------------------------------------------------------------- pack and unpack --- */

/* Packs w [rows, cols] of `dtype`, leading dimension ldw >= cols, into ceil(rows*cols/2) bytes of codes and
 * ceil(rows*cols/blocksize) values of absmax.
 * absmax is the largest |w| of the block. The code is the number of midpoints between neighbouring codebook values
 * that w/absmax (IEEE division in fp32) exceeds, so a tie takes the lower code. The odd last nibble is code 7 (zero).
 * A block of zeros gets absmax 0 and code 7 throughout. A block holding NaN gets absmax NaN, one holding Inf but no
 * NaN gets absmax Inf, each with code 7 throughout: every element of such a poisoned block unpacks to NaN.
 * Same bytes as bitsandbytes, which multiplies by an approximate reciprocal: codes may differ only where w/absmax is
 * within 4 ulp of a midpoint, and in blocks of zeros (code 0 there), or where w is subnormal (flushed there).
 * Since 1.0. */
NF4_API nf4_status_t nf4_pack(nf4_handle_t handle, uint8_t* codes, float* absmax, const void* w, int64_t ldw,
                              nf4_dtype_t dtype, int64_t rows, int64_t cols, int32_t blocksize,
                              const nf4_options_t* options, nf4_stream_t stream);

/* Unpacks `weight` into w [rows, cols] of `dtype`, leading dimension ldw >= cols.
 * Each element is codebook[code] * absmax, computed in fp32 and rounded to `dtype` once: bit for bit
 * bitsandbytes'. Since 1.0. */
NF4_API nf4_status_t nf4_unpack(nf4_handle_t handle, void* w, int64_t ldw, nf4_dtype_t dtype,
                                const nf4_weight_t* weight, const nf4_options_t* options, nf4_stream_t stream);

/* Nested quantization of `count` absmax values (double quantization of QLoRA), with the 256 ascending values of `map`
 * on the handle's device:
 *   offset = mean(absmax), summed in fp64 and rounded to fp32 once;
 *   absmax2[j] = max |absmax - offset| over the j-th `blocksize` of them;
 *   absmax_codes[i] = index of the value of `map` nearest to (absmax[i] - offset) / absmax2, by the midpoints of
 *     neighbours in fp32, a tie taking the even index.
 * A group whose absmax2 is zero or not finite gets the index of the value nearest to zero.
 * Writes count codes, ceil(count/blocksize) values of absmax2 and one offset. Empty input writes offset 0.
 * bitsandbytes sums the mean in fp32, so the last bits of its offset, and with them of absmax2, may be others.
 * Since 1.0. */
NF4_API nf4_status_t nf4_pack_absmax(nf4_handle_t handle, uint8_t* absmax_codes, float* absmax2, float* offset,
                                     const float* absmax, int64_t count, const float* map, int32_t blocksize,
                                     const nf4_options_t* options, nf4_stream_t stream);

/* Writes the scales of `weight`, however stored, to absmax as ceil(rows*cols/blocksize) fp32 values: the inverse of
 * nf4_pack_absmax, and the conversion of f16 and bf16 scales. weight->codes is not read and may be NULL.
 * Since 1.0. */
NF4_API nf4_status_t nf4_unpack_absmax(nf4_handle_t handle, float* absmax, const nf4_weight_t* weight,
                                       const nf4_options_t* options, nf4_stream_t stream);

/* ---------------------------------------------------------------------------------------------------- products --- */

/* y [N] = W x [K] + bias [N]; x, y and bias are of `dtype`, bias may be NULL. The same as nf4_gemm with m = 1.
 * Since 1.0. */
NF4_API nf4_status_t nf4_gemv(nf4_handle_t handle, void* y, const void* x, nf4_dtype_t dtype,
                              const nf4_weight_t* weight, const void* bias, const nf4_options_t* options,
                              nf4_stream_t stream);

/* y [m, N] = x [m, K] W^T + bias [N], leading dimensions ldy >= N and ldx >= K; x, y and bias are of `dtype`, bias may
 * be NULL. m = 0 or N = 0 does nothing; K = 0 writes the bias, or zeros.
 * No call needs a workspace. For many rows of x one that holds W in `dtype`, and room for cuBLASLt, allows a faster
 * variant; nf4_gemm_workspace tells how large. That of the largest layer serves all layers on one stream. Since 1.0. */
NF4_API nf4_status_t nf4_gemm(nf4_handle_t handle, void* y, int64_t ldy, const void* x, int64_t ldx, int64_t m,
                              nf4_dtype_t dtype, const nf4_weight_t* weight, const void* bias,
                              const nf4_options_t* options, nf4_stream_t stream);

/* Tells how much workspace, in bytes, an nf4_gemm of m rows of x by `weight` makes use of: what it selects when there
 * is enough; 0 if that needs none. Only the sizes, types and flags of the weight count, and how well its codes are
 * aligned: nothing that it points to is read, and pointers may be NULL. x and y are taken to be aligned to 16 bytes and
 * without gaps between rows; a call where they are not selects what its workspace allows. More rows do not always need
 * more: ask for each m that is to come, and take the largest. Since 1.2. */
NF4_API nf4_status_t nf4_gemm_workspace(nf4_handle_t handle, int64_t m, nf4_dtype_t dtype, const nf4_weight_t* weight,
                                        size_t* bytes);

/* One of the products of nf4_gemm_group. */
typedef struct nf4_product_t {
  size_t struct_size; /* sizeof(nf4_product_t) */
  void* y;            /* [m, weight->rows] */
  int64_t ldy;        /* of y, in elements, weight->rows or more */
  const nf4_weight_t* weight;
  const void* bias; /* [weight->rows] or NULL */
} nf4_product_t;

#define NF4_PRODUCT_INIT \
  { sizeof(nf4_product_t), NULL, 0, NULL, NULL }

/* Products of the same x, the projections q, k and v of a decoder for example: for each of the `count` products what
 * nf4_gemm does. All weights have the columns of x; outputs must not overlap. Up to 4 products that follow one another
 * are launched together where their weights are alike in blocksize and absmax_dtype and the selected variant can, which
 * spares small layers the beginning and the end of a launch each. Selection sees them as one problem with the sum of
 * their rows. The bits of a result may depend on what it is launched with, its bound does not. An error's message names
 * the product: "products[1]: ldy is 3; ...". count = 0 does nothing. Since 1.1. */
NF4_API nf4_status_t nf4_gemm_group(nf4_handle_t handle, const nf4_product_t* products, size_t count, const void* x,
                                    int64_t ldx, int64_t m, nf4_dtype_t dtype, const nf4_options_t* options,
                                    nf4_stream_t stream);

/* The same as nf4_gemm_workspace for an nf4_gemm_group of these products, of which only struct_size and weight are
 * read. Since 1.2. */
NF4_API nf4_status_t nf4_gemm_group_workspace(nf4_handle_t handle, const nf4_product_t* products, size_t count,
                                              int64_t m, nf4_dtype_t dtype, size_t* bytes);

/* y [m, K] = x [m, N] W, leading dimensions ldy >= K and ldx >= N; x and y are of `dtype`. With the gradient of a
 * layer's outputs for x, y is that of its inputs. m = 0 or K = 0 does nothing; N = 0 writes zeros. Accuracy: as
 * nf4_gemm, with S = sum_n |x[m,n] * W[n,k]|, and N for K.
 * No call needs a workspace. One for sums that several SMs have parts of, or for some columns of W in `dtype` and
 * cuBLASLt, allows a faster variant: nf4_gemm_transposed_workspace tells how large. Since 1.2. */
NF4_API nf4_status_t nf4_gemm_transposed(nf4_handle_t handle, void* y, int64_t ldy, const void* x, int64_t ldx,
                                         int64_t m, nf4_dtype_t dtype, const nf4_weight_t* weight,
                                         const nf4_options_t* options, nf4_stream_t stream);

/* The same as nf4_gemm_workspace for an nf4_gemm_transposed. Since 1.2. */
NF4_API nf4_status_t nf4_gemm_transposed_workspace(nf4_handle_t handle, int64_t m, nf4_dtype_t dtype,
                                                   const nf4_weight_t* weight, size_t* bytes);

/* ----------------------------------------------------------------------------------------------------- experts --- */

/* Which expert multiplies what, of a mixture of `experts` experts. There are `slots` slots, a row of y each: slot s
 * multiplies row s / top_k of x. Sizes, types and which pointers are NULL decide what is launched. What the pointers
 * lead to is read on the handle's device while the work is done, so a captured call serves every routing.
 *
 * A routing has ids or ends, not both:
 * - ids: slot s is of expert ids[s], as a router gives them, [tokens, top_k].
 * - ends: slot order[i] is of expert e for ends[e-1] <= i < ends[e], with 0 for ends[-1], as nf4_sort_experts gives
 *   them. order NULL stands for order[i] = i: rows that lie sorted, as torch's grouped_mm takes them.
 * A slot of no expert (an id below 0, or of `experts` or more; i of ends[experts-1] or more) gets a row of zeros.
 * ids may hold any number. Where ends do not ascend, or order is no permutation of 0 to slots-1, rows of y may hold
 * anything; nothing else is written. */
typedef struct nf4_routing_t {
  size_t struct_size;    /* sizeof(nf4_routing_t) */
  int64_t experts;       /* E, 0 to 2^31 - 1 */
  int64_t slots;         /* S, 0 to 2^31 - 1: rows of y */
  int64_t top_k;         /* 1 or more, divides slots; x has slots / top_k rows. 1: each slot has a row of its own */
  const void* ids;       /* [S] of ids_dtype, or NULL */
  nf4_dtype_t ids_dtype; /* NF4_I32 or NF4_I64 */
  int32_t reserved;      /* 0 */
  const int32_t* ends;   /* [E], ascending, S at most; or NULL */
  const int32_t* order;  /* [S], with ends alone; or NULL */
  const float* scale;    /* [S] or NULL: row s of y, the bias included, is multiplied by it in fp32, then rounded */
} nf4_routing_t;

#define NF4_ROUTING_INIT \
  { sizeof(nf4_routing_t), 0, 0, 1, NULL, NF4_I64, 0, NULL, NULL, NULL }

/* y [S, N] = (x [S/top_k, K] W_e^T + bias_e) * scale, row by row for the expert e of each slot. `weight` holds the E
 * matrices [N, K] one after the other, as nf4_pack packs a [E*N, K] matrix and bitsandbytes a [E, N, K] tensor:
 * weight->rows is E*N. bias [E, N] of `dtype`, or NULL. Leading dimensions ldy >= N and ldx >= K.
 * Nothing is read of experts that no slot is of. S = 0 or N = 0 does nothing; K = 0 writes the bias, or zeros.
 * Errors: INVALID_ARGUMENT where weight->rows is no multiple of experts, slots none of top_k, or a routing with slots
 * has both or neither of ids and ends; UNSUPPORTED where N*K is no multiple of the blocksize, so that an expert would
 * begin inside of a block. Accuracy: as nf4_gemm, with ref and S multiplied by scale and |scale|.
 * No call needs a workspace; one allows faster variants (nf4_gemm_experts_workspace). Since 1.2. */
NF4_API nf4_status_t nf4_gemm_experts(nf4_handle_t handle, void* y, int64_t ldy, const void* x, int64_t ldx,
                                      nf4_dtype_t dtype, const nf4_weight_t* weight, const void* bias,
                                      const nf4_routing_t* routing, const nf4_options_t* options, nf4_stream_t stream);

/* The same as nf4_gemm_workspace for an nf4_gemm_experts by such a routing, of whose pointers counts which of ends and
 * order are NULL; without ends it is taken to have ids. Nothing that it points to is read. Since 1.2. */
NF4_API nf4_status_t nf4_gemm_experts_workspace(nf4_handle_t handle, nf4_dtype_t dtype, const nf4_weight_t* weight,
                                                const nf4_routing_t* routing, size_t* bytes);

/* Sorts slots by their experts: writes order [S] and ends [E] of routing->ids, for the products of a layer to share.
 * The sort is stable; slots of no expert come last. routing->scale is not read. Since 1.2. */
NF4_API nf4_status_t nf4_sort_experts(nf4_handle_t handle, int32_t* order, int32_t* ends, const nf4_routing_t* routing,
                                      const nf4_options_t* options, nf4_stream_t stream);

/* -------------------------------------------------------------------------------------- variants and selection --- */

typedef int32_t nf4_op_t;
enum {
  NF4_OP_PACK = 0,
  NF4_OP_UNPACK = 1,
  NF4_OP_GEMM = 2,
  NF4_OP_PACK_ABSMAX = 3,
  NF4_OP_UNPACK_ABSMAX = 4,
  NF4_OP_GEMM_EXPERTS = 5,   /* since 1.2 */
  NF4_OP_SORT_EXPERTS = 6,   /* since 1.2 */
  NF4_OP_GEMM_TRANSPOSED = 7 /* since 1.2 */
};

/* What a call asks for, without its pointers. Of NF4_OP_SORT_EXPERTS that is m, experts and alignment alone. */
typedef struct nf4_problem_t {
  size_t struct_size; /* sizeof(nf4_problem_t) */
  nf4_op_t op;
  nf4_dtype_t dtype; /* of w, or of x, y and bias; ignored for the absmax operations */
  int64_t m;         /* NF4_OP_GEMM and NF4_OP_GEMM_TRANSPOSED: rows of x; the operations on experts: slots; ignored for
                        the others */
  int64_t n;         /* rows of W, of one expert's for NF4_OP_GEMM_EXPERTS; for NF4_OP_PACK_ABSMAX 1 */
  int64_t k;         /* columns of W; for NF4_OP_PACK_ABSMAX the count */
  int32_t blocksize;
  nf4_dtype_t absmax_dtype; /* ignored for the pack operations */
  int32_t alignment;        /* bytes, a power of two; 0: 16. The products: divides the addresses of x and codes and, if
                               x has several rows, ldx in bytes. The others: divides every address and, if strided,
                               ldw in bytes */
  int32_t strided;          /* not 0: a leading dimension is larger than the row */
  int64_t experts;          /* the operations on experts: E; ignored for the others. This and what follows since 1.2 */
  int64_t top_k;            /* NF4_OP_GEMM_EXPERTS: as in nf4_routing_t; ignored for the others */
  int32_t sorted;           /* NF4_OP_GEMM_EXPERTS: not 0: the routing has ends, and may have order; ignored for the
                               others */
  int32_t reserved;         /* 0 */
} nf4_problem_t;

#define NF4_PROBLEM_INIT \
  { sizeof(nf4_problem_t), NF4_OP_GEMM, NF4_BF16, 1, 0, 0, 64, NF4_F32, 0, 0, 0, 1, 0, 0 }

typedef struct nf4_selection_t {
  size_t struct_size;    /* sizeof(nf4_selection_t) */
  const char* variant;   /* its name, static storage */
  size_t workspace_size; /* bytes that it needs in nf4_options_t.workspace */
  char config[64];       /* its config, "" if it has none */
  char reason[192];      /* why: forced, the row of the tuning table, or default */
} nf4_selection_t;

/* Tells what a call of `problem` with `options` would run, without running it. With options->workspace NULL and
 * options->workspace_size SIZE_MAX it tells what would run if there were workspace enough, and how much that is.
 * Set selection->struct_size before the call. Since 1.0. */
NF4_API nf4_status_t nf4_select(nf4_handle_t handle, const nf4_problem_t* problem, const nf4_options_t* options,
                                nf4_selection_t* selection);

typedef struct nf4_variant_info_t {
  size_t struct_size;      /* sizeof(nf4_variant_info_t) */
  const char* name;        /* "gemv.lut_shared"; static storage */
  const char* description; /* one line; static storage */
  const char* accuracy; /* accuracy class, see docs/reference/accuracy.md: "exact", "fp32", "codebook16", "scaled16" or
                           "unpacked"; static storage */
  nf4_op_t op;
  int32_t configs; /* how many configs it has, at least 1 */
} nf4_variant_info_t;

/* Counts the variants of `op` that exist for the handle's backend, whether or not its device can run them.
 * Since 1.0. */
NF4_API nf4_status_t nf4_variant_count(nf4_handle_t handle, nf4_op_t op, size_t* count);

/* Describes variant `index` of `op`, in default order. Set info->struct_size before the call. Since 1.0. */
NF4_API nf4_status_t nf4_variant_info(nf4_handle_t handle, nf4_op_t op, size_t index, nf4_variant_info_t* info);

/* Writes config `index` of `variant` as text to config[size]: "tile_m=64" for example, "" for a variant without.
 * Since 1.0. */
NF4_API nf4_status_t nf4_variant_config(nf4_handle_t handle, const char* variant, size_t index, char* config,
                                        size_t size);

/* Tells whether `variant` can run `problem`: *supported is 1 or 0, and reason[reason_size] says why not ("" if it can;
 * cut to fit). reason may be NULL with reason_size 0. Since 1.0. */
NF4_API nf4_status_t nf4_variant_supports(nf4_handle_t handle, const char* variant, const nf4_problem_t* problem,
                                          int32_t* supported, char* reason, size_t reason_size);

/* ------------------------------------------------------------------------------------------------ tuning table --- */

/* Replaces the handle's tuning table by the file at `path` (docs/guide/tuning.md holds its form). On error (IO, PARSE,
 * UNKNOWN_VARIANT) the table in use stays. Calls that run meanwhile use the one or the other.
 * Since 1.0. */
NF4_API nf4_status_t nf4_tuning_load(nf4_handle_t handle, const char* path);

/* Writes the handle's tuning table to the regular file at `path`, whole or not at all, with the mode of the file that
 * was there. Errors: IO, OUT_OF_MEMORY. Since 1.0. */
NF4_API nf4_status_t nf4_tuning_save(nf4_handle_t handle, const char* path);

/* Goes back to the built-in table. Since 1.0. */
NF4_API nf4_status_t nf4_tuning_reset(nf4_handle_t handle);

#ifdef __cplusplus
}
#endif

#endif
