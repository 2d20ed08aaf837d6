// Every argument of every function, wrong in each way that nf4.h names: the call must fail with its status and a
// message that names the argument, and must write nothing.
#include <cstdint>
#include <cstring>
#include <functional>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "handle.hpp"
#include "support/harness.hpp"
#include "support/operands.hpp"

namespace nf4test {
namespace {

// All that calls may read or write. Outputs hold the same bytes as inputs: a canary.
struct Memory {
  alignas(256) unsigned char w[512], x[256], y[256], bias[256], codes[256], absmax[256], map[1024], absmax2[256],
      offset[256], weight_codes[256], weight_absmax[256], workspace[512], ids[32], ends[8], order[16], scale[16],
      sorted_ends[8], sorted_order[16];
  nf4_device_info_t device_info;
  nf4_selection_t selection;
  nf4_variant_info_t variant_info;
  int64_t codes_bytes, absmax_count;
  size_t count;
  int32_t supported;
  char text[64];
  float values[256];
};

// The arguments of all functions, by the names that nf4.h gives them, for W [4, 32] in 4 blocks, which are 2 experts of
// 2 rows for the 4 slots of a routing.
struct Arguments {
  Memory memory;

  nf4_handle_t handle;
  nf4_stream_t stream = nullptr;
  nf4_dtype_t dtype = NF4_F32;
  int64_t rows = 4, cols = 32, m = 2, ldw = 32, ldx = 32, ldy = 4, ldx_transposed = 4, ldy_transposed = 32, scales = 4;
  int32_t blocksize = 32;
  nf4_op_t op = NF4_OP_GEMM;
  size_t index = 0, text_size = 64;
  const char* variant = "gemm.host";
  const char* path = "/nonexistent/table";

  void* w = memory.w;
  void* x = memory.x;
  void* y = memory.y;
  void* bias = memory.bias;
  uint8_t* codes = memory.codes;
  float* absmax = reinterpret_cast<float*>(memory.absmax);
  float* map = reinterpret_cast<float*>(memory.map);
  float* absmax2 = reinterpret_cast<float*>(memory.absmax2);
  float* offset = reinterpret_cast<float*>(memory.offset);
  nf4_device_info_t* device_info = &memory.device_info;
  nf4_selection_t* selection = &memory.selection;
  nf4_variant_info_t* variant_info = &memory.variant_info;
  int64_t* codes_bytes = &memory.codes_bytes;
  int64_t* absmax_count = &memory.absmax_count;
  size_t* count = &memory.count;
  int32_t* supported = &memory.supported;
  char* text = memory.text;
  float* values = memory.values;

  int32_t* order = reinterpret_cast<int32_t*>(memory.sorted_order);
  int32_t* ends = reinterpret_cast<int32_t*>(memory.sorted_ends);

  nf4_weight_t weight = NF4_WEIGHT_INIT;
  nf4_options_t options = NF4_OPTIONS_INIT;
  nf4_problem_t problem = NF4_PROBLEM_INIT;
  nf4_routing_t routing = NF4_ROUTING_INIT;
  const nf4_routing_t* routing_pointer = &routing;
  const nf4_weight_t* weight_pointer = &weight;
  const nf4_options_t* options_pointer = &options;
  const nf4_problem_t* problem_pointer = &problem;

  explicit Arguments(nf4_handle_t of) : handle(of) {
    std::memset(&memory, 0x3c, sizeof memory);  // a small number in each floating-point type
    memory.device_info.struct_size = sizeof memory.device_info;
    memory.selection.struct_size = sizeof memory.selection;
    memory.variant_info.struct_size = sizeof memory.variant_info;
    weight = {sizeof weight, rows, cols, memory.weight_codes, memory.weight_absmax, blocksize, NF4_F32, map, absmax2,
              offset,        256,  0};
    options.workspace = memory.workspace;
    options.workspace_size = sizeof memory.workspace;
    problem.m = m;
    problem.n = rows;
    problem.k = cols;
    routing.experts = 2;
    routing.slots = 4;
    routing.top_k = 2;
    routing.ids = memory.ids;
    routing.scale = reinterpret_cast<const float*>(memory.scale);
  }
  Arguments(const Arguments&) = delete;
  Arguments& operator=(const Arguments&) = delete;
};

enum Functions : unsigned {
  kPack = 1u << 0,
  kUnpack = 1u << 1,
  kPackAbsmax = 1u << 2,
  kUnpackAbsmax = 1u << 3,
  kGemv = 1u << 4,
  kGemm = 1u << 5,
  kSelect = 1u << 6,
  kSupports = 1u << 7,
  kDeviceInfo = 1u << 8,
  kVariantCount = 1u << 9,
  kVariantInfo = 1u << 10,
  kVariantConfig = 1u << 11,
  kTuningLoad = 1u << 12,
  kTuningSave = 1u << 13,
  kTuningReset = 1u << 14,
  kPackedSize = 1u << 15,
  kCodebook = 1u << 16,
  kDynamicMap = 1u << 17,
  kGemmWorkspace = 1u << 18,
  kGemmExperts = 1u << 19,
  kGemmExpertsWorkspace = 1u << 20,
  kSortExperts = 1u << 21,
  kTransposed = 1u << 22,
  kTransposedWorkspace = 1u << 23,

  kOperations =
      kPack | kUnpack | kPackAbsmax | kUnpackAbsmax | kGemv | kGemm | kGemmExperts | kSortExperts | kTransposed,
  kWithWeight = kUnpack | kUnpackAbsmax | kGemv | kGemm | kGemmExperts | kTransposed,
  kProducts = kGemv | kGemm,
  kWithoutHandle = kPackedSize | kCodebook | kDynamicMap,
  kViewsWeight = kWithWeight | kGemmWorkspace | kGemmExpertsWorkspace | kTransposedWorkspace,
  kRouted = kGemmExperts | kGemmExpertsWorkspace | kSortExperts,
  kEvery = (1u << 24) - 1,
};

struct Function {
  unsigned bit;
  const char* name;
  nf4_status_t (*call)(const Arguments&);
};

constexpr Function kFunctions[] = {
    {kPack, "nf4_pack",
     [](const Arguments& a) {
       return nf4_pack(a.handle, a.codes, a.absmax, a.w, a.ldw, a.dtype, a.rows, a.cols, a.blocksize, a.options_pointer,
                       a.stream);
     }},
    {kUnpack, "nf4_unpack",
     [](const Arguments& a) {
       return nf4_unpack(a.handle, a.w, a.ldw, a.dtype, a.weight_pointer, a.options_pointer, a.stream);
     }},
    {kPackAbsmax, "nf4_pack_absmax",
     [](const Arguments& a) {
       return nf4_pack_absmax(a.handle, a.codes, a.absmax2, a.offset, a.absmax, a.scales, a.map, a.blocksize,
                              a.options_pointer, a.stream);
     }},
    {kUnpackAbsmax, "nf4_unpack_absmax",
     [](const Arguments& a) {
       return nf4_unpack_absmax(a.handle, a.absmax, a.weight_pointer, a.options_pointer, a.stream);
     }},
    {kGemv, "nf4_gemv",
     [](const Arguments& a) {
       return nf4_gemv(a.handle, a.y, a.x, a.dtype, a.weight_pointer, a.bias, a.options_pointer, a.stream);
     }},
    {kGemm, "nf4_gemm",
     [](const Arguments& a) {
       return nf4_gemm(a.handle, a.y, a.ldy, a.x, a.ldx, a.m, a.dtype, a.weight_pointer, a.bias, a.options_pointer,
                       a.stream);
     }},
    {kSelect, "nf4_select",
     [](const Arguments& a) { return nf4_select(a.handle, a.problem_pointer, a.options_pointer, a.selection); }},
    {kSupports, "nf4_variant_supports",
     [](const Arguments& a) {
       return nf4_variant_supports(a.handle, a.variant, a.problem_pointer, a.supported, a.text, a.text_size);
     }},
    {kDeviceInfo, "nf4_device_info", [](const Arguments& a) { return nf4_device_info(a.handle, a.device_info); }},
    {kVariantCount, "nf4_variant_count", [](const Arguments& a) { return nf4_variant_count(a.handle, a.op, a.count); }},
    {kVariantInfo, "nf4_variant_info",
     [](const Arguments& a) { return nf4_variant_info(a.handle, a.op, a.index, a.variant_info); }},
    {kVariantConfig, "nf4_variant_config",
     [](const Arguments& a) { return nf4_variant_config(a.handle, a.variant, a.index, a.text, a.text_size); }},
    {kTuningLoad, "nf4_tuning_load", [](const Arguments& a) { return nf4_tuning_load(a.handle, a.path); }},
    {kTuningSave, "nf4_tuning_save", [](const Arguments& a) { return nf4_tuning_save(a.handle, a.path); }},
    {kTuningReset, "nf4_tuning_reset", [](const Arguments& a) { return nf4_tuning_reset(a.handle); }},
    {kPackedSize, "nf4_packed_size",
     [](const Arguments& a) { return nf4_packed_size(a.codes_bytes, a.absmax_count, a.rows, a.cols, a.blocksize); }},
    {kCodebook, "nf4_codebook", [](const Arguments& a) { return nf4_codebook(a.values); }},
    {kDynamicMap, "nf4_dynamic_map", [](const Arguments& a) { return nf4_dynamic_map(a.values); }},
    {kGemmWorkspace, "nf4_gemm_workspace",
     [](const Arguments& a) { return nf4_gemm_workspace(a.handle, a.m, a.dtype, a.weight_pointer, a.count); }},
    {kGemmExperts, "nf4_gemm_experts",
     [](const Arguments& a) {
       return nf4_gemm_experts(a.handle, a.y, a.ldy, a.x, a.ldx, a.dtype, a.weight_pointer, a.bias, a.routing_pointer,
                               a.options_pointer, a.stream);
     }},
    {kGemmExpertsWorkspace, "nf4_gemm_experts_workspace",
     [](const Arguments& a) {
       return nf4_gemm_experts_workspace(a.handle, a.dtype, a.weight_pointer, a.routing_pointer, a.count);
     }},
    {kSortExperts, "nf4_sort_experts",
     [](const Arguments& a) {
       return nf4_sort_experts(a.handle, a.order, a.ends, a.routing_pointer, a.options_pointer, a.stream);
     }},
    {kTransposed, "nf4_gemm_transposed",
     [](const Arguments& a) {
       return nf4_gemm_transposed(a.handle, a.y, a.ldy_transposed, a.x, a.ldx_transposed, a.m, a.dtype,
                                  a.weight_pointer, a.options_pointer, a.stream);
     }},
    {kTransposedWorkspace, "nf4_gemm_transposed_workspace",
     [](const Arguments& a) {
       return nf4_gemm_transposed_workspace(a.handle, a.m, a.dtype, a.weight_pointer, a.count);
     }},
};

using Mutation = std::function<void(Arguments&)>;

struct Case {
  unsigned functions;
  nf4_status_t status;
  std::string begins;  // of the message
  std::string holds;   // later in the message
  Mutation mutate;
};

void valid(Arguments&) {}
void half_precision(Arguments& a) { a.dtype = NF4_F16; }
void half_scales(Arguments& a) { a.weight.absmax_dtype = NF4_F16; }
void nested(Arguments& a) { a.weight.absmax_dtype = NF4_U8; }
void no_options(Arguments& a) { a.options_pointer = nullptr; }
void narrow_ids(Arguments& a) { a.routing.ids_dtype = NF4_I32; }
void by_ends(Arguments& a) {
  a.routing.ids = nullptr;
  a.routing.ends = reinterpret_cast<const int32_t*>(a.memory.ends);
  a.routing.order = reinterpret_cast<const int32_t*>(a.memory.order);
}

template <class T>
void skew(T*& pointer, uintptr_t bytes) {
  pointer = reinterpret_cast<T*>(reinterpret_cast<uintptr_t>(pointer) + bytes);
}

// Builds the table; each of its functions adds what can be wrong with one kind of argument.
class Cases {
 public:
  void add(unsigned functions, nf4_status_t status, const std::string& begins, const std::string& holds,
           Mutation mutate) {
    list.push_back({functions, status, begins, holds, std::move(mutate)});
  }

  // A pointer that must not be null. `field` gives a reference to it.
  template <class Field>
  void null(unsigned functions, const std::string& name, const std::string& holds, Field field,
            const Mutation& prepare = valid) {
    add(functions, NF4_ERROR_INVALID_ARGUMENT, name + " is null", holds, [=](Arguments& a) {
      prepare(a);
      field(a) = nullptr;
    });
  }

  template <class Field>
  void misaligned(unsigned functions, const std::string& name, uintptr_t alignment, Field field,
                  const Mutation& prepare = valid) {
    for (uintptr_t bytes = 1; bytes < alignment; bytes *= 2) {
      add(functions, NF4_ERROR_MISALIGNED, name + " is 0x",
          "expected a multiple of " + std::to_string(alignment) + " bytes", [=](Arguments& a) {
            prepare(a);
            skew(field(a), bytes);
          });
    }
  }

  // A pointer to `elements` elements.
  template <class Field>
  void data(unsigned functions, const std::string& name, int elements, uintptr_t alignment, Field field,
            const Mutation& prepare = valid) {
    null(functions, name, "expected " + std::to_string(elements) + " elements", field, prepare);
    misaligned(functions, name, alignment, field, prepare);
  }

  template <class Number, class Field>
  void refused(unsigned functions, nf4_status_t status, const std::string& name, std::initializer_list<Number> values,
               const std::string& holds, Field field, const Mutation& prepare = valid) {
    for (const Number value : values) {
      add(functions, status, name + " is " + std::to_string(value), holds, [=](Arguments& a) {
        prepare(a);
        field(a) = value;
      });
    }
  }

  template <class Field>
  void extent(unsigned functions, const std::string& name, Field field) {
    refused<int64_t>(functions, NF4_ERROR_INVALID_ARGUMENT, name, {-1, INT64_MIN}, "expected 0 or more", field);
  }

  // Factors whose product is one row more than is allowed, and factors whose product overflows 64 bits.
  template <class Rows, class Cols>
  void product(unsigned functions, const std::string& begins, Rows rows, Cols cols) {
    for (const int64_t factor : {(int64_t{1} << 55) + 1, INT64_MAX}) {
      add(functions, NF4_ERROR_INVALID_ARGUMENT, begins, "expected 2^60 elements at most", [=](Arguments& a) {
        rows(a) = factor;
        cols(a) = 32;
      });
    }
  }

  template <class Field>
  void blocksize(unsigned functions, const std::string& name, Field field, const Mutation& prepare = valid) {
    refused<int32_t>(functions, NF4_ERROR_UNSUPPORTED, name, {INT32_MIN, -64, 0, 1, 16, 33, 96, 4095, 8192, INT32_MAX},
                     "expected a power of two from 32 to 4096", field, prepare);
  }

  template <class Field>
  void leading(unsigned functions, const std::string& name, const std::string& cols, int64_t least, int64_t rows,
               Field field) {
    refused<int64_t>(functions, NF4_ERROR_INVALID_ARGUMENT, name, {INT64_MIN, -1, 0, least - 1},
                     "expected " + cols + " (" + std::to_string(least) + ") or more", field);
    refused<int64_t>(functions, NF4_ERROR_INVALID_ARGUMENT, name, {INT64_MAX, (int64_t{1} << 60) / rows + 1},
                     std::to_string(rows) + " rows of it exceed 2^60 elements", field);
  }

  // `older` is a size that earlier releases had.
  template <class Field>
  void struct_size(unsigned functions, const std::string& name, size_t right, Field field, size_t older = 0) {
    const std::string sizes = (older > 0 ? std::to_string(older) + " or " : "") + std::to_string(right);
    refused<size_t>(functions, NF4_ERROR_STRUCT_SIZE, name + "->struct_size", {0, right - 8, right + 8, SIZE_MAX},
                    "libnf4 expects " + sizes, field);
  }

  std::vector<Case> list;
};

// A reference to a member of the arguments.
#define FIELD(member) \
  [](Arguments & a) -> auto& { return a.member; }

std::vector<Case> cases() {
  constexpr nf4_status_t kInvalid = NF4_ERROR_INVALID_ARGUMENT;
  Cases cases;
  cases.null(kEvery & ~kWithoutHandle, "handle", "", FIELD(handle));

  // Operands.
  cases.refused<int32_t>(kPack | kUnpack | kProducts | kGemmWorkspace | kGemmExperts | kGemmExpertsWorkspace |
                             kTransposed | kTransposedWorkspace,
                         NF4_ERROR_UNSUPPORTED, "dtype", {-1, NF4_U8, NF4_I32, NF4_I64, 6},
                         "expected NF4_F32 (0), NF4_F16 (1) or NF4_BF16 (2)", FIELD(dtype));
  cases.extent(kPack | kPackedSize, "rows", FIELD(rows));
  cases.extent(kPack | kPackedSize, "cols", FIELD(cols));
  cases.product(kPack | kPackedSize, "rows * cols is ", FIELD(rows), FIELD(cols));
  cases.blocksize(kPack | kPackAbsmax | kPackedSize, "blocksize", FIELD(blocksize));
  cases.leading(kPack, "ldw", "cols", 32, 4, FIELD(ldw));
  cases.leading(kUnpack, "ldw", "weight->cols", 32, 4, FIELD(ldw));
  cases.data(kPack | kUnpack, "w", 128, 4, FIELD(w));
  cases.misaligned(kPack | kUnpack, "w", 2, FIELD(w), half_precision);
  cases.data(kPack, "codes", 128, 1, FIELD(codes));
  cases.data(kPack | kUnpackAbsmax, "absmax", 4, 4, FIELD(absmax));

  cases.extent(kPackAbsmax, "count", FIELD(scales));
  cases.refused<int64_t>(kPackAbsmax, kInvalid, "count", {(int64_t{1} << 60) + 1, INT64_MAX}, "expected 2^60",
                         FIELD(scales));
  cases.data(kPackAbsmax, "absmax_codes", 4, 1, FIELD(codes));
  cases.data(kPackAbsmax, "absmax2", 1, 4, FIELD(absmax2));
  cases.data(kPackAbsmax, "offset", 1, 4, FIELD(offset));
  cases.data(kPackAbsmax, "absmax", 4, 4, FIELD(absmax));
  cases.data(kPackAbsmax, "map", 256, 4, FIELD(map));

  constexpr unsigned kOfRows = kGemm | kGemmWorkspace | kTransposed | kTransposedWorkspace;
  cases.extent(kOfRows, "m", FIELD(m));
  cases.product(kOfRows, "m * weight->cols is ", FIELD(m), FIELD(weight.cols));
  cases.add(kOfRows, kInvalid, "m * weight->rows is 2097152 * 1099511627776", "expected 2^60 elements at most",
            [](Arguments& a) {
              a.m = int64_t{1} << 21;
              a.weight.rows = int64_t{1} << 40;
              a.weight.cols = 1;
            });
  cases.leading(kGemm, "ldy", "weight->rows", 4, 2, FIELD(ldy));
  cases.leading(kGemmExperts, "ldy", "weight->rows / routing->experts", 2, 4, FIELD(ldy));
  cases.leading(kGemm | kGemmExperts, "ldx", "weight->cols", 32, 2, FIELD(ldx));
  cases.leading(kTransposed, "ldy", "weight->cols", 32, 2, FIELD(ldy_transposed));
  cases.leading(kTransposed, "ldx", "weight->rows", 4, 2, FIELD(ldx_transposed));
  cases.data(kGemv, "y", 4, 4, FIELD(y));
  cases.data(kGemv, "x", 32, 4, FIELD(x));
  cases.data(kGemm | kGemmExperts, "y", 8, 4, FIELD(y));
  cases.data(kGemm | kGemmExperts, "x", 64, 4, FIELD(x));
  cases.data(kTransposed, "y", 64, 4, FIELD(y));
  cases.data(kTransposed, "x", 8, 4, FIELD(x));
  cases.misaligned(kProducts | kGemmExperts, "bias", 4, FIELD(bias));
  cases.misaligned(kProducts | kGemmExperts | kTransposed, "y", 2, FIELD(y), half_precision);
  cases.misaligned(kProducts | kGemmExperts | kTransposed, "x", 2, FIELD(x), half_precision);
  cases.misaligned(kProducts | kGemmExperts, "bias", 2, FIELD(bias), half_precision);

  // The routing.
  cases.null(kRouted, "routing", "", FIELD(routing_pointer));
  cases.struct_size(kRouted, "routing", sizeof(nf4_routing_t), FIELD(routing.struct_size));
  cases.extent(kRouted, "routing->experts", FIELD(routing.experts));
  cases.extent(kRouted, "routing->slots", FIELD(routing.slots));
  cases.refused<int64_t>(kRouted, kInvalid, "routing->experts", {int64_t{1} << 31, INT64_MAX},
                         "expected 2^31 - 1 at most", FIELD(routing.experts));
  cases.refused<int64_t>(kRouted, kInvalid, "routing->slots", {int64_t{1} << 31, INT64_MAX},
                         "expected 2^31 - 1 at most", FIELD(routing.slots));
  cases.refused<int64_t>(kRouted, kInvalid, "routing->top_k", {0, -1, INT64_MIN}, "expected 1 or more",
                         FIELD(routing.top_k));
  cases.refused<int64_t>(kRouted, kInvalid, "routing->slots", {3, 5}, "expected a multiple of routing->top_k (2)",
                         FIELD(routing.slots));
  cases.refused<int32_t>(kRouted, kInvalid, "routing->reserved", {1, -1}, "expected 0", FIELD(routing.reserved));
  cases.refused<int32_t>(kGemmExperts | kSortExperts, NF4_ERROR_UNSUPPORTED, "routing->ids_dtype",
                         {NF4_F32, NF4_U8, 6, -1}, "expected NF4_I32 (4) or NF4_I64 (5)", FIELD(routing.ids_dtype));
  cases.misaligned(kGemmExperts | kSortExperts, "routing->ids", 8, FIELD(routing.ids));
  cases.misaligned(kGemmExperts | kSortExperts, "routing->ids", 4, FIELD(routing.ids), narrow_ids);
  cases.misaligned(kGemmExperts, "routing->ends", 4, FIELD(routing.ends), by_ends);
  cases.misaligned(kGemmExperts, "routing->order", 4, FIELD(routing.order), by_ends);
  cases.misaligned(kGemmExperts, "routing->scale", 4, FIELD(routing.scale));
  cases.null(kSortExperts, "routing->ids", "expected 4 elements", FIELD(routing.ids));
  cases.add(kGemmExperts, kInvalid, "routing->ids and routing->ends are both null; expected one of them", "",
            [](Arguments& a) { a.routing.ids = nullptr; });
  cases.add(kGemmExperts, kInvalid, "routing->ids and routing->ends are both given; expected one of them", "",
            [](Arguments& a) {
              by_ends(a);
              a.routing.ids = a.memory.ids;
            });
  cases.add(kGemmExperts, kInvalid, "routing->order is given without routing->ends", "", [](Arguments& a) {
    by_ends(a);
    a.routing.ids = a.memory.ids;
    a.routing.ends = nullptr;
  });
  cases.add(kSortExperts, kInvalid, "routing->ends is given; expected ids alone", "", by_ends);
  cases.add(kSortExperts, kInvalid, "routing->order is given; expected ids alone", "", [](Arguments& a) {
    by_ends(a);
    a.routing.ends = nullptr;
  });
  cases.refused<int64_t>(kGemmExperts | kGemmExpertsWorkspace, kInvalid, "weight->rows", {3, 7},
                         "expected a multiple of routing->experts (2)", FIELD(weight.rows));
  cases.add(kGemmExperts | kGemmExpertsWorkspace, kInvalid, "weight->rows is 4",
            "expected a multiple of routing->experts (0)", [](Arguments& a) { a.routing.experts = 0; });
  cases.add(kGemmExperts | kGemmExpertsWorkspace, NF4_ERROR_UNSUPPORTED, "an expert has 2 * 24 weights",
            "expected a multiple of weight->blocksize (32)", [](Arguments& a) { a.weight.cols = 24; });
  cases.add(kGemmExperts | kGemmExpertsWorkspace, kInvalid,
            "routing->slots * weight->cols is 2147483646 * 1099511627776", "expected 2^60 elements at most",
            [](Arguments& a) {
              a.routing.slots = (int64_t{1} << 31) - 2;
              a.weight.cols = int64_t{1} << 40;
            });
  cases.add(kGemmExperts | kGemmExpertsWorkspace, kInvalid,
            "routing->slots * weight->rows / routing->experts is 2147483646 * 2199023255552",
            "expected 2^60 elements at most", [](Arguments& a) {
              a.routing.slots = (int64_t{1} << 31) - 2;
              a.weight.rows = int64_t{1} << 42;
              a.weight.cols = 32;
            });
  cases.data(kSortExperts, "order", 4, 4, FIELD(order));
  cases.data(kSortExperts, "ends", 2, 4, FIELD(ends));

  // The weight.
  cases.null(kViewsWeight, "weight", "", FIELD(weight_pointer));
  cases.struct_size(kViewsWeight, "weight", sizeof(nf4_weight_t), FIELD(weight.struct_size));
  cases.extent(kViewsWeight, "weight->rows", FIELD(weight.rows));
  cases.extent(kViewsWeight, "weight->cols", FIELD(weight.cols));
  cases.product(kViewsWeight, "weight->rows * weight->cols is ", FIELD(weight.rows), FIELD(weight.cols));
  cases.blocksize(kViewsWeight, "weight->blocksize", FIELD(weight.blocksize));
  cases.refused<uint32_t>(kViewsWeight, kInvalid, "weight->flags", {2, 3, 1u << 31}, "expected 0 or",
                          FIELD(weight.flags));
  cases.refused<int32_t>(kViewsWeight, NF4_ERROR_UNSUPPORTED, "weight->absmax_dtype", {-1, 4}, "NF4_U8 (3) for nested",
                         FIELD(weight.absmax_dtype));
  cases.data(kWithWeight & ~kUnpackAbsmax, "weight->codes", 128, 1, FIELD(weight.codes));
  cases.data(kWithWeight, "weight->absmax", 4, 4, FIELD(weight.absmax));
  cases.data(kWithWeight, "weight->absmax", 4, 2, FIELD(weight.absmax), half_scales);
  cases.data(kWithWeight, "weight->absmax", 4, 1, FIELD(weight.absmax), nested);
  cases.data(kWithWeight, "weight->absmax_map", 256, 4, FIELD(weight.absmax_map), nested);
  cases.data(kWithWeight, "weight->absmax2", 1, 4, FIELD(weight.absmax2), nested);
  cases.data(kWithWeight, "weight->absmax_offset", 1, 4, FIELD(weight.absmax_offset), nested);
  cases.blocksize(kViewsWeight, "weight->absmax_blocksize", FIELD(weight.absmax_blocksize), nested);

  cases.null(kGemmWorkspace | kGemmExpertsWorkspace | kTransposedWorkspace, "bytes", "", FIELD(count));

  // Options.
  constexpr unsigned kWithOptions = kOperations | kSelect;
  cases.struct_size(kWithOptions, "options", sizeof(nf4_options_t), FIELD(options.struct_size));
  cases.add(kWithOptions, NF4_ERROR_UNKNOWN_VARIANT, "options->variant is 'gemm.nonsense'; there are ", "gemm.host",
            [](Arguments& a) { a.options.variant = "gemm.nonsense"; });
  cases.add(kWithOptions, NF4_ERROR_UNKNOWN_VARIANT, "options->config is 'nonsense', which gemm.host has not", "first",
            [](Arguments& a) {
              a.options.variant = "gemm.host";
              a.options.config = "nonsense";
            });
  cases.add(kWithOptions, kInvalid, "options->config is '' without options->variant", "",
            [](Arguments& a) { a.options.config = ""; });
  cases.add(kOperations & ~kProducts, NF4_ERROR_UNSUPPORTED,
            "forced variant gemm.host cannot run this: ", "it is a variant of gemm",
            [](Arguments& a) { a.options.variant = "gemm.host"; });
  cases.add(kProducts | kSelect, NF4_ERROR_UNSUPPORTED,
            "forced variant pack.host cannot run this: ", "it is a variant of pack",
            [](Arguments& a) { a.options.variant = "pack.host"; });
  cases.null(kOperations, "options->workspace", "with options->workspace_size 512", FIELD(options.workspace));
  for (const uintptr_t bytes : {1, 16, 128}) {
    cases.add(kWithOptions, NF4_ERROR_WORKSPACE, "options->workspace is 0x", "expected a multiple of 256 bytes",
              [=](Arguments& a) { skew(a.options.workspace, bytes); });
  }

  // Problems, variants and tuning tables.
  constexpr unsigned kWithProblem = kSelect | kSupports;
  cases.null(kWithProblem, "problem", "", FIELD(problem_pointer));
  cases.struct_size(kWithProblem, "problem", sizeof(nf4_problem_t), FIELD(problem.struct_size),
                    offsetof(nf4_problem_t, experts));
  cases.refused<int32_t>(kWithProblem, kInvalid, "problem->op", {-1, 8}, "expected one of NF4_OP_*, 0 to 7",
                         FIELD(problem.op));
  cases.refused<int32_t>(kWithProblem, kInvalid, "problem->reserved", {1, -1}, "expected 0", FIELD(problem.reserved));
  cases.refused<int32_t>(kWithProblem, NF4_ERROR_UNSUPPORTED, "problem->dtype", {-1, NF4_U8, 4}, "expected NF4_F32",
                         FIELD(problem.dtype));
  cases.extent(kWithProblem, "problem->m", FIELD(problem.m));
  cases.extent(kWithProblem, "problem->n", FIELD(problem.n));
  cases.extent(kWithProblem, "problem->k", FIELD(problem.k));
  cases.product(kWithProblem, "problem->n * problem->k is ", FIELD(problem.n), FIELD(problem.k));
  cases.product(kWithProblem, "problem->m * problem->k is ", FIELD(problem.m), FIELD(problem.k));
  cases.add(kWithProblem, kInvalid, "problem->m * problem->n is ", "expected 2^60 elements at most", [](Arguments& a) {
    a.problem.m = a.problem.n = int64_t{1} << 31;
    a.problem.k = 1;
  });
  cases.blocksize(kWithProblem, "problem->blocksize", FIELD(problem.blocksize));
  cases.refused<int32_t>(kWithProblem, NF4_ERROR_UNSUPPORTED, "problem->absmax_dtype", {-1, 4}, "expected NF4_F32",
                         FIELD(problem.absmax_dtype));
  cases.refused<int32_t>(kWithProblem, kInvalid, "problem->alignment", {INT32_MIN, -16, 3, 24},
                         "expected 0 or a power of two", FIELD(problem.alignment));
  const Mutation sorts = [](Arguments& a) { a.problem.op = NF4_OP_SORT_EXPERTS; };
  const Mutation routes = [](Arguments& a) {
    a.problem.op = NF4_OP_GEMM_EXPERTS;
    a.problem.experts = 4;
    a.problem.top_k = 2;
    a.problem.blocksize = 32;
  };
  for (const Mutation& prepare : {sorts, routes}) {
    cases.refused<int64_t>(kWithProblem, kInvalid, "problem->experts", {-1, INT64_MIN}, "expected 0 or more",
                           FIELD(problem.experts), prepare);
    cases.refused<int64_t>(kWithProblem, kInvalid, "problem->experts", {int64_t{1} << 31}, "expected 2^31 - 1 at most",
                           FIELD(problem.experts), prepare);
    cases.refused<int64_t>(kWithProblem, kInvalid, "problem->m", {int64_t{1} << 31}, "expected 2^31 - 1 at most",
                           FIELD(problem.m), prepare);
  }
  cases.refused<int64_t>(kWithProblem, kInvalid, "problem->top_k", {0, -1}, "expected 1 or more", FIELD(problem.top_k),
                         routes);
  cases.refused<int64_t>(kWithProblem, kInvalid, "problem->m", {1, 3}, "expected a multiple of problem->top_k (2)",
                         FIELD(problem.m), routes);
  cases.add(kWithProblem, kInvalid, "problem->experts * problem->n * problem->k is ", "expected 2^60 elements at most",
            [=](Arguments& a) {
              routes(a);
              a.problem.experts = int64_t{1} << 30;
              a.problem.n = a.problem.k = int64_t{1} << 16;
            });
  cases.add(kWithProblem, NF4_ERROR_UNSUPPORTED, "an expert has 4 * 3 weights",
            "expected a multiple of problem->blocksize (32)", [=](Arguments& a) {
              routes(a);
              a.problem.k = 3;
            });
  cases.null(kSelect, "selection", "", FIELD(selection));
  cases.struct_size(kSelect, "selection", sizeof(nf4_selection_t), FIELD(memory.selection.struct_size));
  cases.null(kSupports, "supported", "", FIELD(supported));
  cases.null(kSupports, "reason", "with reason_size 64", FIELD(text));
  cases.refused<int32_t>(kVariantCount | kVariantInfo, kInvalid, "op", {-1, 8}, "expected one of NF4_OP_*, 0 to 7",
                         FIELD(op));
  cases.null(kVariantCount, "count", "", FIELD(count));
  cases.null(kVariantInfo, "info", "", FIELD(variant_info));
  cases.struct_size(kVariantInfo, "info", sizeof(nf4_variant_info_t), FIELD(memory.variant_info.struct_size));
  cases.refused<size_t>(kVariantInfo, kInvalid, "index", {1000, SIZE_MAX}, "gemm has ", FIELD(index));
  cases.refused<size_t>(kVariantConfig, kInvalid, "index", {1, SIZE_MAX}, "gemm.host has 1 configs", FIELD(index));
  cases.null(kVariantConfig | kSupports, "variant", "", FIELD(variant));
  cases.add(kVariantConfig | kSupports, NF4_ERROR_UNKNOWN_VARIANT, "variant is 'gemm.nonsense'; there are ",
            "gemm.host", [](Arguments& a) { a.variant = "gemm.nonsense"; });
  cases.null(kVariantConfig, "config", "", FIELD(text));
  cases.refused<size_t>(kVariantConfig, kInvalid, "size", {0}, "the config takes 1 bytes", FIELD(text_size));
  cases.null(kDeviceInfo, "info", "", FIELD(device_info));
  cases.struct_size(kDeviceInfo, "info", sizeof(nf4_device_info_t), FIELD(memory.device_info.struct_size));
  cases.null(kTuningLoad | kTuningSave, "path", "", FIELD(path));

  // What needs no handle.
  cases.null(kPackedSize, "codes_bytes", "", FIELD(codes_bytes));
  cases.null(kPackedSize, "absmax_count", "", FIELD(absmax_count));
  cases.null(kCodebook | kDynamicMap, "values", "", FIELD(values));
  return cases.list;
}

// Calls `function` with mutated arguments and returns its status, having checked that it changed no memory.
nf4_status_t call_writing_nothing(const Function& function, nf4_handle_t handle, const Mutation& mutate) {
  const auto arguments = std::make_unique<Arguments>(handle);
  mutate(*arguments);
  unsigned char before[sizeof(Memory)];
  std::memcpy(before, &arguments->memory, sizeof before);
  const nf4_status_t status = function.call(*arguments);
  CHECK(std::memcmp(before, &arguments->memory, sizeof before) == 0);
  return status;
}

void check_case(const Case& c, nf4_handle_t handle) {
  for (const Function& function : kFunctions) {
    if ((c.functions & function.bit) == 0) continue;
    const nf4_status_t status = call_writing_nothing(function, handle, c.mutate);
    const std::string message = nf4_last_error_message();
    INFO(function.name << ": " << nf4_status_string(status) << ": " << message);
    INFO("expected " << nf4_status_string(c.status) << ": " << c.begins << " ... " << c.holds);
    CHECK(status == c.status);
    CHECK(message.rfind(c.begins, 0) == 0);
    CHECK(message.find(c.holds) != std::string::npos);
  }
}

// Calls that have nothing to do, with null for every pointer to data.
void check_empty(nf4_handle_t handle) {
  const auto no_data = [](Arguments& a) {
    a.w = a.x = a.y = a.bias = nullptr;
    a.codes = nullptr;
    a.absmax = nullptr;
    a.weight.codes = nullptr;
    a.weight.absmax = nullptr;
    a.weight.absmax_map = a.weight.absmax2 = a.weight.absmax_offset = nullptr;
    a.routing.ids = nullptr;
    a.routing.scale = nullptr;
  };
  struct Empty {
    unsigned functions;
    void (*mutate)(Arguments&);
  };
  const Empty empties[] = {
      {kPack | (kWithWeight & ~kTransposed),  // which writes zeros
       [](Arguments& a) {
         a.rows = a.weight.rows = 0;
         a.routing.slots = 0;
       }},
      {kPack | kUnpack | kUnpackAbsmax | kTransposed,
       [](Arguments& a) { a.cols = a.weight.cols = 0; }},  // products write the bias
      {kPack | kWithWeight,
       [](Arguments& a) {
         a.rows = a.cols = a.weight.rows = a.weight.cols = 0;
         a.routing.slots = 0;
       }},
      {kSortExperts,
       [](Arguments& a) {
         a.routing.experts = a.routing.slots = 0;
         a.order = a.ends = nullptr;
       }},
      {kUnpack | kUnpackAbsmax | kGemv,
       [](Arguments& a) {
         a.weight.rows = 0;
         a.weight.absmax_dtype = NF4_U8;
       }},
  };
  for (const Empty& empty : empties) {
    for (const Function& function : kFunctions) {
      if ((empty.functions & function.bit) == 0) continue;
      INFO(function.name);
      require_success(call_writing_nothing(function, handle, [&](Arguments& a) {
        no_data(a);
        empty.mutate(a);
      }));
    }
  }
  // Without rows of x there still is a weight.
  const Function& gemm = kFunctions[5];
  require_success(call_writing_nothing(gemm, handle, [](Arguments& a) {
    a.m = 0;
    a.x = a.y = nullptr;
  }));
  const Function& transposed = kFunctions[22];
  require_success(call_writing_nothing(transposed, handle, [](Arguments& a) {
    a.m = 0;
    a.x = a.y = nullptr;
  }));
  // And without slots, and of experts without rows.
  const Function& experts = kFunctions[19];
  require_success(call_writing_nothing(experts, handle, [](Arguments& a) {
    a.routing.slots = 0;
    a.routing.ids = nullptr;
    a.x = a.y = nullptr;
  }));
  require_success(call_writing_nothing(experts, handle, [](Arguments& a) {
    a.weight.rows = 0;
    a.x = a.y = nullptr;
  }));
}

// Without columns a product is the bias, or zeros, in each variant; x and what the weight points to may be null.
void check_no_columns(const Backend& backend) {
  const nf4_dtype_t dtype = GENERATE(from_range(kDtypes));
  const bool with_bias = GENERATE(true, false);
  const auto check = [&](const nf4_options_t* options) {
    const std::vector<float> bias = {1.0f, -2.0f, 0.5f};
    Arena arena(backend.on_host());
    const Arena::Slot biases = arena.add(raw(bias, dtype));
    const Arena::Slot y = arena.add_output(3 * static_cast<size_t>(nf4ref::size_of(dtype)));
    arena.upload();
    nf4_weight_t weight = NF4_WEIGHT_INIT;
    weight.rows = 3;
    require_success(nf4_gemv(backend.handle(), arena.at(y), nullptr, dtype, &weight,
                             with_bias ? arena.at(biases) : nullptr, options, nullptr));
    arena.download();
    CHECK(arena.trespass({y}).empty());
    for (int64_t n = 0; n < 3; ++n) {
      CHECK(nf4ref::load(arena.after(y), dtype, n) == (with_bias ? bias[static_cast<size_t>(n)] : 0.0f));
    }
  };
  check(nullptr);
  for_each_config(backend, NF4_OP_GEMM, [&](const nf4_variant_info_t& info, const nf4_options_t& options) {
    nf4_problem_t problem = NF4_PROBLEM_INIT;
    problem.dtype = dtype;
    problem.n = 3;
    int32_t supported = 0;
    require_success(nf4_variant_supports(backend.handle(), info.name, &problem, &supported, nullptr, 0));
    if (supported != 0) check(&options);
  });
}

}  // namespace

TEST_CASE("arguments: those of the table below are right before they are made wrong, host") {
  const Backend backend(NF4_HOST_DEVICE);
  for (const Function& function : kFunctions) {
    if ((function.bit & (kTuningLoad | kTuningSave)) != 0) continue;  // their path leads nowhere
    INFO(function.name);
    for (const auto prepare : {valid, half_precision, half_scales, nested, no_options, narrow_ids, by_ends}) {
      if (prepare == by_ends && function.bit == kSortExperts) continue;
      Arguments arguments(backend.handle());
      prepare(arguments);
      require_success(function.call(arguments));
    }
  }
}

TEST_CASE("arguments: each that is wrong is named, and nothing is written, host") {
  const Backend backend(NF4_HOST_DEVICE);
  for (const Case& c : cases()) check_case(c, backend.handle());
  const Mutation stream = [](Arguments& a) { a.stream = reinterpret_cast<nf4_stream_t>(&a); };
  check_case({kOperations, NF4_ERROR_INVALID_ARGUMENT, "stream is 0x", "expected null", stream}, backend.handle());
}

TEST_CASE("arguments: nothing to do needs no data, host") {
  const Backend backend(NF4_HOST_DEVICE);
  check_empty(backend.handle());
}

TEST_CASE("arguments: a product over no columns is the bias, host") { check_no_columns(Backend(NF4_HOST_DEVICE)); }

#if NF4_HAVE_CUDA
TEST_CASE("arguments: a product over no columns is the bias, CUDA", "[gpu]") {
  REQUIRE_GPU();
  check_no_columns(Backend(0));
}

// Nothing may be launched, so pointers to host memory are never followed; a launch that did would fail the device.
TEST_CASE("arguments: each that is wrong is named, and nothing is launched, CUDA", "[gpu]") {
  REQUIRE_GPU();
  const Backend backend(0);
  for (const Case& c : cases()) check_case(c, backend.handle());
  CHECK(cudaPeekAtLastError() == cudaSuccess);
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
}

TEST_CASE("arguments: nothing to do needs no data, CUDA", "[gpu]") {
  REQUIRE_GPU();
  const Backend backend(0);
  check_empty(backend.handle());
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
}

TEST_CASE("arguments: the calling thread must be on the handle's device, CUDA", "[gpu]") {
  REQUIRE_GPU();
  const Backend backend(0);
  nf4_handle elsewhere{};  // as a handle of the next device would be
  elsewhere.device = backend.handle()->device;
  elsewhere.device.ordinal = 1;
  elsewhere.set_tuning(std::make_unique<nf4::TuningTable>());
  check_case(
      {kOperations, NF4_ERROR_WRONG_DEVICE, "the calling thread's CUDA device is 0, the handle's is 1", "", valid},
      &elsewhere);
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
}

TEST_CASE("arguments: an error that CUDA reported before is returned and left in place, CUDA", "[gpu]") {
  REQUIRE_GPU();
  const Backend backend(0);
  const Case pending{kOperations, NF4_ERROR_CUDA, "an error from before this call is pending in CUDA: ",
                     "(cudaErrorInvalidDevice); nothing was launched", valid};
  REQUIRE(cudaSetDevice(9999) == cudaErrorInvalidDevice);
  check_case(pending, backend.handle());
  CHECK(cudaPeekAtLastError() == cudaErrorInvalidDevice);
  CHECK(cudaGetLastError() == cudaErrorInvalidDevice);

  std::mt19937 random(1);
  const WeightData data = random_weight(random, 1, 1, 64, NF4_F32);
  Arena arena(false);
  const ArenaWeight weight(arena, data);
  const Arena::Slot absmax = arena.add_output(sizeof(float));
  arena.upload();
  const nf4_weight_t view = weight.view();
  require_success(nf4_unpack_absmax(backend.handle(), arena.at<float>(absmax), &view, nullptr, nullptr));
  arena.download();
  CHECK(*arena.after<float>(absmax) == nf4ref::load(data.absmax.data(), NF4_F32, 0));
}
#endif

}  // namespace nf4test
