// The functions that answer questions, and nf4_create with its environment, with arguments of any kind: what they write
// is whole and terminated, and only written where they succeed.
#include "input.hpp"

namespace nf4fuzz {
namespace {

template <size_t Size>
bool is_terminated(const char (&text)[Size]) {
  return std::memchr(text, '\0', Size) != nullptr;
}

// A struct that a function fills: of its size or another, null or not, poisoned.
template <class Struct>
class Result {
 public:
  explicit Result(Input& input) : null_(input.rarely(32)) {
    std::memset(static_cast<void*>(&value_), 0xa5, sizeof value_);
    value_.struct_size = input.struct_size(sizeof value_);
    std::memcpy(before_, &value_, sizeof value_);
  }

  Struct* get() { return null_ ? nullptr : &value_; }
  const Struct* operator->() const { return &value_; }
  bool valid() const { return !null_ && value_.struct_size == sizeof value_; }
  bool untouched() const { return std::memcmp(before_, &value_, sizeof value_) == 0; }

 private:
  bool null_;
  Struct value_;
  unsigned char before_[sizeof(Struct)];
};

nf4_problem_t random_problem(Input& input) {
  nf4_problem_t problem = NF4_PROBLEM_INIT;
  constexpr size_t kOlder = offsetof(nf4_problem_t, experts);  // of releases 1.0 and 1.1
  problem.struct_size = input.rarely(8) ? kOlder : input.struct_size(sizeof problem);
  problem.op = input.enumerator(NF4_OP_GEMM_TRANSPOSED);
  problem.dtype = input.enumerator(NF4_BF16);
  problem.m = input.extent();
  problem.n = input.extent();
  problem.k = input.extent();
  problem.blocksize = input.blocksize();
  problem.absmax_dtype = input.enumerator(NF4_U8);
  problem.alignment = input.rarely(2) ? 1 << input.size(8) : input.enumerator(16);
  problem.strided = input.enumerator(1);
  problem.experts = input.extent();
  problem.top_k = input.rarely(8) ? input.extent() : 1;
  problem.sorted = input.enumerator(1);
  problem.reserved = input.rarely(64) ? 1 : 0;
  return problem;
}

bool is_count(int64_t count) { return count >= 0 && count <= INT32_MAX; }

bool is_valid(const nf4_problem_t& asked) {
  nf4_problem_t problem = asked;
  if (problem.struct_size == offsetof(nf4_problem_t, experts)) {
    problem.experts = problem.top_k = problem.reserved = 0;
    problem.struct_size = sizeof problem;
  }
  const bool alignment = problem.alignment >= 0 && (problem.alignment & (problem.alignment - 1)) == 0;
  const bool experts = is_count(problem.experts) && is_count(problem.m);
  if (problem.op == NF4_OP_SORT_EXPERTS)
    return problem.struct_size == sizeof problem && problem.reserved == 0 && alignment && experts;
  const bool on_absmax = problem.op == NF4_OP_PACK_ABSMAX || problem.op == NF4_OP_UNPACK_ABSMAX;
  const bool packs = problem.op == NF4_OP_PACK || problem.op == NF4_OP_PACK_ABSMAX;
  const bool gemm =
      problem.op == NF4_OP_GEMM || problem.op == NF4_OP_GEMM_EXPERTS || problem.op == NF4_OP_GEMM_TRANSPOSED;
  if (problem.op == NF4_OP_GEMM_EXPERTS &&
      !(experts && problem.top_k >= 1 && problem.m % problem.top_k == 0 && is_matrix(problem.n, problem.k) &&
        is_matrix(problem.experts, problem.n) && Wide{problem.experts} * problem.n * problem.k <= kMaxElements &&
        is_blocksize(problem.blocksize) && Wide{problem.n} * problem.k % problem.blocksize == 0))
    return false;
  return problem.struct_size == sizeof problem && problem.op >= 0 && problem.op <= NF4_OP_GEMM_TRANSPOSED &&
         problem.reserved == 0 && alignment && (on_absmax || is_float(problem.dtype)) &&
         is_matrix(problem.n, problem.k) &&
         (!gemm || (is_matrix(problem.m, problem.k) && is_matrix(problem.m, problem.n))) &&
         is_blocksize(problem.blocksize) && (packs || is_float(problem.absmax_dtype) || problem.absmax_dtype == NF4_U8);
}

void select(Input& input) {
  const nf4_problem_t problem = random_problem(input);
  Result<nf4_selection_t> selection(input);
  const nf4_status_t status = nf4_select(host_handle(), &problem, nullptr, selection.get());
  check_status(status, is_valid(problem) && selection.valid());
  if (status != NF4_SUCCESS) return FUZZ_CHECK(selection.untouched());
  FUZZ_CHECK(selection->workspace_size == 0 && is_terminated(selection->config) && is_terminated(selection->reason));
}

void variants(Input& input) {
  const nf4_op_t op = input.enumerator(NF4_OP_GEMM_TRANSPOSED);
  const bool known = op >= 0 && op <= NF4_OP_GEMM_TRANSPOSED;
  size_t count = 99;
  check_status(nf4_variant_count(host_handle(), op, &count), known);
  FUZZ_CHECK(count == (known ? 1 : 99));
  const size_t index = input.rarely(4) ? input.size(SIZE_MAX) : 0;
  Result<nf4_variant_info_t> info(input);
  const nf4_status_t status = nf4_variant_info(host_handle(), op, index, info.get());
  check_status(status, known && index == 0 && info.valid());
  if (status != NF4_SUCCESS) return FUZZ_CHECK(info.untouched());

  const size_t size = input.size(4);  // the config of a host variant is ""
  const auto text = std::make_unique<char[]>(size);
  check_status(nf4_variant_config(host_handle(), info->name, index, text.get(), size), size > 0);
  const nf4_problem_t problem = random_problem(input);
  int32_t supported = 99;
  const size_t reason_size = input.size(300);
  const auto reason = std::make_unique<char[]>(reason_size);
  const bool valid = is_valid(problem);
  check_status(nf4_variant_supports(host_handle(), info->name, &problem, &supported, reason.get(), reason_size), valid);
  FUZZ_CHECK(supported == (valid ? problem.op == op : 99));
  FUZZ_CHECK(!valid || reason_size == 0 || std::memchr(reason.get(), '\0', reason_size) != nullptr);
}

void names(Input& input) {
  const std::string name = input.text(100);
  const nf4_problem_t problem = NF4_PROBLEM_INIT;
  nf4_options_t options = NF4_OPTIONS_INIT;
  options.variant = name.c_str();
  const std::string config = input.text(100);
  options.config = input.rarely(2) ? config.c_str() : nullptr;
  nf4_selection_t selection{};
  selection.struct_size = sizeof selection;
  const nf4_status_t status = nf4_select(host_handle(), &problem, &options, &selection);
  const bool no_config = options.config == nullptr || options.config[0] == '\0';
  check_status(status, std::string(name.c_str()) == "gemm.host" && no_config);
  char text[4];
  nf4_variant_config(host_handle(), name.c_str(), input.size(3), text, sizeof text);
}

void sizes(Input& input) {
  const int64_t rows = input.extent();
  const int64_t cols = input.extent();
  const int32_t blocksize = input.blocksize();
  int64_t codes_bytes = -7;
  int64_t absmax_count = -7;
  const bool valid = is_matrix(rows, cols) && is_blocksize(blocksize);
  check_status(nf4_packed_size(&codes_bytes, &absmax_count, rows, cols, blocksize), valid);
  FUZZ_CHECK(codes_bytes == (valid ? static_cast<int64_t>(ceil_div(Wide{rows} * cols, 2)) : -7));
  FUZZ_CHECK(absmax_count == (valid ? static_cast<int64_t>(ceil_div(Wide{rows} * cols, blocksize)) : -7));
  FUZZ_CHECK(nf4_status_string(input.enumerator(20)) != nullptr);

  const int64_t m = input.extent();
  const nf4_dtype_t dtype = input.enumerator(NF4_BF16);
  nf4_weight_t weight = NF4_WEIGHT_INIT;  // without data
  weight.struct_size = input.struct_size(sizeof weight);
  weight.rows = rows;
  weight.cols = cols;
  weight.blocksize = blocksize;
  const bool known = weight.struct_size == sizeof weight;
  size_t bytes = 99;
  check_status(nf4_gemm_workspace(host_handle(), m, dtype, &weight, &bytes),
               valid && known && is_float(dtype) && is_matrix(m, rows) && is_matrix(m, cols));
  FUZZ_CHECK(bytes == 0 || bytes == 99);
}

void create(Input& input) {
  const std::string force = input.text(200);
  setenv("NF4_FORCE_VARIANT", force.c_str(), 1);
  const int32_t device = input.rarely(4) ? input.enumerator(3) : NF4_HOST_DEVICE;
  nf4_handle_t handle = nullptr;
  const nf4_status_t status = nf4_create(&handle, device);
  unsetenv("NF4_FORCE_VARIANT");
  FUZZ_CHECK((handle != nullptr) == (status == NF4_SUCCESS));
  FUZZ_CHECK(device == NF4_HOST_DEVICE || status == NF4_ERROR_NO_DEVICE || status == NF4_ERROR_INVALID_ARGUMENT);
  Result<nf4_device_info_t> info(input);
  check_status(nf4_device_info(handle, info.get()), handle != nullptr && info.valid());
  FUZZ_CHECK(handle == nullptr || !info.valid() || is_terminated(info->name));
  FUZZ_CHECK(nf4_destroy(handle) == NF4_SUCCESS);
}

}  // namespace
}  // namespace nf4fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace nf4fuzz;
  Input input(data, size);
  switch (input.enumerator(4)) {
    case 0:
      select(input);
      break;
    case 1:
      variants(input);
      break;
    case 2:
      names(input);
      break;
    case 3:
      sizes(input);
      break;
    default:
      create(input);
  }
  return 0;
}
