// The reader of tuning tables: any file is read or refused; what was read is written and read again as the same table,
// and a selection by it gives a variant that can run.
#include "tuning.hpp"

#include "file.hpp"

using namespace nf4fuzz;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const File file(data, size);
  nf4_handle_t handle = nullptr;
  FUZZ_CHECK(nf4_create(&handle, NF4_HOST_DEVICE) == NF4_SUCCESS);
  const nf4_status_t status = nf4_tuning_load(handle, file.path().c_str());
  FUZZ_CHECK(status == NF4_SUCCESS || status == NF4_ERROR_PARSE || status == NF4_ERROR_UNKNOWN_VARIANT);
  if (status == NF4_SUCCESS) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const std::string written = nf4::format_tuning(*nf4::parse_tuning(text, "fuzz"));
    FUZZ_CHECK(nf4::format_tuning(*nf4::parse_tuning(written, "written")) == written);
  }
  for (const nf4_op_t op : {NF4_OP_PACK, NF4_OP_UNPACK, NF4_OP_GEMM, NF4_OP_PACK_ABSMAX, NF4_OP_UNPACK_ABSMAX}) {
    nf4_problem_t problem = NF4_PROBLEM_INIT;
    problem.op = op;
    problem.n = problem.k = 64;
    nf4_selection_t selection{};
    selection.struct_size = sizeof selection;
    FUZZ_CHECK(nf4_select(handle, &problem, nullptr, &selection) == NF4_SUCCESS);
    int32_t supported = 0;
    FUZZ_CHECK(nf4_variant_supports(handle, selection.variant, &problem, &supported, nullptr, 0) == NF4_SUCCESS);
    FUZZ_CHECK(supported == 1);
  }
  nf4_destroy(handle);
  return 0;
}
