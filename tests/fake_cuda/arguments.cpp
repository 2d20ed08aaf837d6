// What kernels are launched with is what the call asks for: of every operation, variant and config, on devices small
// and large, each output is computed once, from the call's own operands, and selection was told what they are like.
#include <cublasLt.h>
#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "all_of_cublaslt.h"
#include "handle.hpp"
#include "kernels.hpp"
#include "registry.hpp"
#include "selections.hpp"
#include "somewhere.hpp"
#include "support/calls.hpp"
#include "support/harness.hpp"
#include "support/pairwise.hpp"

namespace nf4test {
namespace {

constexpr fake_cuda::Device kDevices[] = {fake_cuda::kH200,          {90, 90, 227 << 10, 2}, {75, 75, 64 << 10, 40},
                                          {80, 80, 163 << 10, 108},  {86, 80, 99 << 10, 84}, {89, 80, 227 << 10, 6},
                                          {100, 100, 227 << 10, 148}};
const auto kStream = reinterpret_cast<nf4_stream_t>(uintptr_t{0x5eed});

nf4::Device described(const fake_cuda::Device& device) {
  const int sms = device.multiprocessors;
  const bool clusters = device.capability >= 90;
  return {
      0,
      device.capability,
      sms,
      "fake",
      device.architecture,
      device.shared_memory,
      {sms, clusters ? device.clusters(2) : 0, clusters ? device.clusters(4) : 0, clusters ? device.clusters(8) : 0}};
}

bool same(const nf4::Device& a, const nf4::Device& b) {
  return a.ordinal == b.ordinal && a.compute_capability == b.compute_capability &&
         a.multiprocessors == b.multiprocessors && a.name == b.name && a.architecture == b.architecture &&
         a.shared_memory == b.shared_memory && a.resident_clusters == b.resident_clusters;
}

// The largest power of two, 256 at most, that divides all.
int alignment_of(std::initializer_list<uintptr_t> numbers) {
  int alignment = 256;
  for (const uintptr_t number : numbers) {
    while (number % static_cast<uintptr_t>(alignment) != 0) alignment /= 2;
  }
  return alignment;
}
uintptr_t address(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer); }
uintptr_t bytes(int64_t elements, nf4_dtype_t dtype) {
  return static_cast<uintptr_t>(elements * nf4ref::size_of(dtype));
}

int log2(int32_t size) { return 31 - __builtin_clz(static_cast<unsigned>(size)); }

nf4::Weight weight_of(const nf4_weight_t& view) {
  nf4::Absmax absmax{view.absmax, static_cast<nf4::Dtype>(view.absmax_dtype), nullptr, nullptr, nullptr, 0};
  if (view.absmax_dtype == NF4_U8) {
    absmax.map = view.absmax_map;
    absmax.absmax2 = view.absmax2;
    absmax.offset = view.absmax_offset;
    absmax.log2_blocksize = log2(view.absmax_blocksize);
  }
  return {view.rows, view.cols, view.codes, absmax, log2(view.blocksize), view.flags == NF4_WEIGHT_CONSTANT};
}

bool same(const nf4::Problem& a, const nf4::Problem& b) {
  return a.op == b.op && a.dtype == b.dtype && a.m == b.m && a.n == b.n && a.k == b.k && a.blocksize == b.blocksize &&
         a.absmax_dtype == b.absmax_dtype && a.alignment == b.alignment && a.strided == b.strided &&
         a.experts == b.experts && a.top_k == b.top_k && a.sorted == b.sorted && a.in_order == b.in_order &&
         a.products == b.products;
}
std::string text_of(const nf4::Problem& p) {
  return "op " + std::to_string(static_cast<int>(p.op)) + " m " + std::to_string(p.m) + " n " + std::to_string(p.n) +
         " k " + std::to_string(p.k) + " blocksize " + std::to_string(p.blocksize) + " absmax " +
         std::to_string(static_cast<int>(p.absmax_dtype)) + " alignment " + std::to_string(p.alignment) +
         (p.strided ? " strided" : "") + " experts " + std::to_string(p.experts) + " top_k " + std::to_string(p.top_k) +
         (p.sorted ? " sorted" : "") + (p.in_order ? " in order" : "") + " products " + std::to_string(p.products);
}

// Sees what a call does.
class Recorder {
 public:
  Recorder() {
    fake_cuda::observe([this](const fake_cuda::Launch& launch, const void* const* arguments) {
      checks_.push_back(read(launch, arguments));
    });
  }
  ~Recorder() { fake_cuda::observe(nullptr); }
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;

  void clear() {
    fake_cuda::clear();
    selections().clear();
    checks_.clear();
    next_ = 0;
  }
  size_t launches() const { return checks_.size(); }

  bool done() const { return next_ == checks_.size(); }
  // What is wrong with the next launch.
  std::string check(Expected& call) { return done() ? "a launch is missing" : checks_[next_++](call); }

 private:
  std::vector<Check> checks_;
  size_t next_ = 0;
};

// What is wrong with what the library did in any call, on `device` and the test's stream.
std::string wrong_in_general(const nf4_options_t& options) {
  if (!fake_cuda::violations().empty()) return fake_cuda::violations().front();
  for (const fake_cuda::Launch& launch : fake_cuda::launches()) {
    if (launch.stream != kStream || launch.device != fake_cuda::current_device()) return "stream or device";
  }
  for (const Selection& selection : selections()) {
    if (selection.options.workspace != options.workspace || selection.options.workspace_size != options.workspace_size)
      return "workspace that selection was told";
    const nf4::Choice& choice = selection.choice;
    if (options.variant != nullptr && (std::string_view(options.variant) != choice.variant->name ||
                                       options.config != choice.variant->config_text(choice.config)))
      return "variant or config is not the one that was forced";
  }
  return "";
}

// ---- operations on one matrix ---------------------------------------------------------------------------------------

// What is wrong with one call of an operation that takes `launches` launches.
std::string wrong_with_call(Recorder& recorder, const nf4::Device& device, const nf4::Problem& problem,
                            const void* args, int launches) {
  if (selections().size() != 1) return "selections";
  const Selection& selection = selections().front();
  if (!same(selection.problem, problem)) return "selection was told " + text_of(selection.problem);
  const size_t workspace_size = selection.choice.workspace_size(problem, device);
  if (workspace_size > selection.options.workspace_size) return "more workspace than there is";
  Expected call{device, *selection.choice.variant, selection.choice.config, args, {}, workspace_size};
  while (call.launches < launches) {
    if (std::string wrong = recorder.check(call); !wrong.empty()) return wrong;
  }
  return recorder.done() ? "" : "a launch too many";
}

struct Matrix {
  int64_t rows, cols;
  int32_t blocksize;
  nf4_dtype_t absmax_dtype, dtype;
  size_t w_offset, codes_offset, absmax_offset;  // bytes
  int64_t gap;                                   // elements between rows

  std::string text() const {
    return std::to_string(rows) + " x " + std::to_string(cols) + " blocksize " + std::to_string(blocksize) +
           " absmax " + std::to_string(absmax_dtype) + " dtype " + std::to_string(dtype) + " offsets " +
           std::to_string(w_offset) + " " + std::to_string(codes_offset) + " " + std::to_string(absmax_offset) +
           " gap " + std::to_string(gap);
  }
};

std::vector<Matrix> matrices() {
  const std::vector<int64_t> rows = {1, 2, 7, 64, 257, 4096};
  const std::vector<int64_t> cols = {1, 31, 64, 1024, 3420, 8192};
  const std::vector<int64_t> gaps = {0, 0, 1, 8, 16};
  const std::vector<size_t> offsets = {0, 0, 4, 8, 16, 32};
  const std::vector<size_t> codes_offsets = {0, 0, 1, 2, 4, 8, 16};
  std::vector<Matrix> all;
  for (const auto& row : pairwise({rows.size(), cols.size(), kBlocksizes.size(), kAbsmaxDtypes.size(), kDtypes.size(),
                                   offsets.size(), codes_offsets.size(), offsets.size(), gaps.size()},
                                  31)) {
    all.push_back({rows[row[0]], cols[row[1]], kBlocksizes[row[2]], kAbsmaxDtypes[row[3]], kDtypes[row[4]],
                   offsets[row[5]], codes_offsets[row[6]], offsets[row[7]], gaps[row[8]]});
  }
  return all;
}

// Makes one call, of whatever operation; what is wrong with it, or none if it is not supported.
std::optional<std::string> try_matrix(Recorder& recorder, const Backend& backend, const nf4::Device& device,
                                      nf4_op_t op, const Matrix& matrix, const nf4_options_t& options) {
  using nf4::Dtype;
  Somewhere somewhere;
  const auto& [rows, cols, blocksize, absmax_dtype, dtype, w_offset, codes_offset, absmax_offset, gap] = matrix;
  const int64_t ld = cols + gap, elements = rows * cols, blocks = (elements + blocksize - 1) / blocksize;
  const bool strided = rows > 1 && gap > 0;
  const auto type = static_cast<Dtype>(dtype);
  recorder.clear();
  nf4_status_t status = NF4_SUCCESS;
  nf4::Problem problem{static_cast<nf4::Op>(op), type, 1, rows, cols, blocksize, Dtype::f32, 0, strided};
  nf4::PackArgs pack{};
  nf4::UnpackArgs unpack{};
  nf4::PackAbsmaxArgs pack_absmax{};
  nf4::UnpackAbsmaxArgs unpack_absmax{};
  const void* args = nullptr;
  int launches = 1;
  const uintptr_t row_bytes = strided ? bytes(ld, dtype) : 0;
  if (op == NF4_OP_PACK) {
    pack = {somewhere.take<uint8_t>((elements + 1) / 2, 1, codes_offset),
            somewhere.take<float>(blocks, 4, absmax_offset),
            somewhere.take<void>(rows * ld, bytes(1, dtype), w_offset),
            strided ? ld : cols,
            type,
            rows,
            cols,
            log2(blocksize)};
    problem.alignment = alignment_of({address(pack.codes), address(pack.absmax), address(pack.w), row_bytes});
    args = &pack;
    status = nf4_pack(backend.handle(), pack.codes, pack.absmax, pack.w, ld, dtype, rows, cols, blocksize, &options,
                      kStream);
  } else if (op == NF4_OP_UNPACK) {
    const nf4_weight_t weight = somewhere.weight(rows, cols, blocksize, absmax_dtype, codes_offset, absmax_offset);
    unpack = {somewhere.take<void>(rows * ld, bytes(1, dtype), w_offset), strided ? ld : cols, type, weight_of(weight)};
    problem.absmax_dtype = static_cast<Dtype>(absmax_dtype);
    problem.alignment = alignment_of({address(unpack.w), address(weight.codes), address(weight.absmax), row_bytes});
    args = &unpack;
    status = nf4_unpack(backend.handle(), unpack.w, ld, dtype, &weight, &options, kStream);
  } else if (op == NF4_OP_PACK_ABSMAX) {
    pack_absmax = {somewhere.take<uint8_t>(elements, 1, codes_offset),
                   somewhere.take<float>(blocks, 4, w_offset),
                   somewhere.take<float>(1, 4),
                   somewhere.take<float>(elements, 4, absmax_offset),
                   elements,
                   somewhere.take<float>(256, 4),
                   log2(blocksize)};
    problem.dtype = Dtype::f32;
    problem.n = 1;
    problem.k = elements;
    problem.strided = false;
    problem.alignment =
        alignment_of({address(pack_absmax.codes), address(pack_absmax.absmax2), address(pack_absmax.absmax)});
    args = &pack_absmax;
    launches = 2;
    status = nf4_pack_absmax(backend.handle(), pack_absmax.codes, pack_absmax.absmax2, pack_absmax.offset,
                             pack_absmax.absmax, elements, pack_absmax.map, blocksize, &options, kStream);
  } else {
    const nf4_weight_t weight = somewhere.weight(rows, cols, blocksize, absmax_dtype, codes_offset, absmax_offset);
    unpack_absmax = {somewhere.take<float>(blocks, 4, w_offset), weight_of(weight).absmax, blocks};
    problem.dtype = Dtype::f32;
    problem.absmax_dtype = static_cast<Dtype>(absmax_dtype);
    problem.strided = false;
    problem.alignment = alignment_of({address(unpack_absmax.out), address(weight.absmax)});
    args = &unpack_absmax;
    status = nf4_unpack_absmax(backend.handle(), unpack_absmax.out, &weight, &options, kStream);
  }
  if (status == NF4_ERROR_UNSUPPORTED && options.variant != nullptr) {
    if (recorder.launches() > 0) return "a launch by a variant that cannot run this";
    return std::nullopt;
  }
  require_success(status);
  if (std::string wrong = wrong_in_general(options); !wrong.empty()) return wrong;
  return wrong_with_call(recorder, device, problem, args, launches);
}

// ---- products -------------------------------------------------------------------------------------------------------

enum class Whose { nobody, first, last, all };

struct Products {
  int64_t m, n, k;
  int32_t blocksize;
  nf4_dtype_t absmax_dtype, dtype;
  int count;                                               // of W, each with 7 rows more than the one before
  size_t x_offset, y_offset, codes_offset, absmax_offset;  // bytes, those of W for the products in `apart`
  int64_t x_gap, y_gap;                                    // elements between rows
  Whose apart, bias, constant, strided;                    // which of the products

  bool is(Whose whose, int product) const {
    return whose == Whose::all || (whose == Whose::first && product == 0) ||
           (whose == Whose::last && product == count - 1);
  }
  std::string text() const {
    std::string text = "m " + std::to_string(m) + " n " + std::to_string(n) + " k " + std::to_string(k);
    const std::pair<const char*, int64_t> others[] = {{"blocksize", blocksize},
                                                      {"absmax", absmax_dtype},
                                                      {"dtype", dtype},
                                                      {"products", count},
                                                      {"x +", static_cast<int64_t>(x_offset)},
                                                      {"y +", static_cast<int64_t>(y_offset)},
                                                      {"codes +", static_cast<int64_t>(codes_offset)},
                                                      {"absmax +", static_cast<int64_t>(absmax_offset)},
                                                      {"ldx +", x_gap},
                                                      {"ldy +", y_gap},
                                                      {"apart", static_cast<int64_t>(apart)},
                                                      {"bias", static_cast<int64_t>(bias)},
                                                      {"constant", static_cast<int64_t>(constant)},
                                                      {"strided", static_cast<int64_t>(strided)}};
    for (const auto& [name, value] : others) text += std::string(" ") + name + " " + std::to_string(value);
    return text;
  }
};

// What tensor cores may take, `plain` or with anything in the way.
std::vector<Products> products(bool plain) {
  using Sizes = std::vector<size_t>;
  using Counts = std::vector<int64_t>;
  Counts m = {1, 2, 3, 4, 5, 8, 9, 16, 17, 31, 33, 64, 65, 130, 300};
  if (!plain) m.insert(m.end(), {1, 1, 1, 1});  // which most of the variants that take anything are for
  const Counts n = {1, 5, 16, 33, 100, 257, 1024, 5000};
  const Counts k = plain ? Counts{64, 192, 256, 320, 1024, 4096, 14336, 28672} : Counts{1, 24, 33, 64, 100, 256, 3420};
  const std::vector<int32_t> blocksizes = {32, 64, 128, 4096};
  const auto dtypes = plain ? std::vector<nf4_dtype_t>{NF4_F16, NF4_BF16} : kDtypes;
  const std::vector<int> counts = {1, 1, 2, 3, 4, 5, 9};
  const Sizes x_offsets = plain ? Sizes{0, 16} : Sizes{0, 4, 8, 16};
  const Sizes y_offsets = {0, 4, 16};
  const Sizes codes_offsets = plain ? Sizes{0, 16} : Sizes{0, 1, 2, 4, 8, 16};
  const Sizes absmax_offsets = {0, 4, 8, 16};
  const Counts x_gaps = plain ? Counts{0, 8} : Counts{0, 1, 4};
  const Counts y_gaps = {0, 1, 4};
  const std::vector<Whose> whose = {Whose::nobody, Whose::first, Whose::last, Whose::all};
  std::vector<Products> all;
  for (const auto& row :
       pairwise({m.size(), n.size(), k.size(), blocksizes.size(), kAbsmaxDtypes.size(), dtypes.size(), counts.size(),
                 x_offsets.size(), y_offsets.size(), codes_offsets.size(), absmax_offsets.size(), x_gaps.size(),
                 y_gaps.size(), whose.size(), whose.size(), whose.size(), whose.size()},
                plain ? 37 : 41)) {
    all.push_back({m[row[0]], n[row[1]], k[row[2]], blocksizes[row[3]], kAbsmaxDtypes[row[4]], dtypes[row[5]],
                   counts[row[6]], x_offsets[row[7]], y_offsets[row[8]], codes_offsets[row[9]], absmax_offsets[row[10]],
                   x_gaps[row[11]], y_gaps[row[12]], whose[row[13]], whose[row[14]], whose[row[15]], whose[row[16]]});
  }
  return all;
}

// Single products for cuBLASLt, which takes any.
std::vector<Products> products_of_one() {
  std::vector<Products> all;
  for (const int64_t m : {1, 2, 5, 300}) {
    for (const int64_t n : {1, 100, 257}) {
      for (const int64_t k : {33, 1024}) {
        for (const auto& [codes_offset, absmax_offset] : {std::pair<size_t, size_t>{0, 0}, {4, 0}, {0, 4}}) {
          const nf4_dtype_t dtype = kDtypes[all.size() % kDtypes.size()];
          all.push_back({m, n, k, 64, NF4_F32, dtype, 1, 0, 0, codes_offset, absmax_offset, 1, 3, Whose::all,
                         all.size() / 2 % 2 != 0 ? Whose::all : Whose::nobody, Whose::nobody, Whose::all});
        }
      }
    }
  }
  return all;
}

nf4_problem_t problem_for(const Products& shape) {
  nf4_problem_t problem = NF4_PROBLEM_INIT;
  problem.m = shape.m;
  problem.n = shape.n;
  problem.k = shape.k;
  problem.dtype = shape.dtype;
  return problem;
}

// The operands of a call, as callers and as launchers have them.
struct Operands {
  std::deque<nf4_weight_t> weights;
  std::vector<nf4_product_t> products;
  std::vector<nf4::GemmArgs> args;

  Operands(const Products& shape, void* workspace) {
    Somewhere somewhere;
    const size_t size = bytes(1, shape.dtype);
    const int64_t ldx = shape.k + shape.x_gap;
    void* const x = somewhere.take<void>(shape.m * ldx, size, shape.x_offset);
    for (int i = 0; i < shape.count; ++i) {
      const int64_t rows = shape.n + 7 * i;
      const bool apart = shape.is(shape.apart, i);
      weights.push_back(somewhere.weight(rows, shape.k, shape.blocksize, shape.absmax_dtype,
                                         apart ? shape.codes_offset : 0, apart ? shape.absmax_offset : 0));
      if (shape.is(shape.constant, i)) weights.back().flags = NF4_WEIGHT_CONSTANT;
      const int64_t ldy = rows + (shape.is(shape.strided, i) ? shape.y_gap : 0);
      void* const y = somewhere.take<void>(shape.m * ldy, size, shape.y_offset);
      const void* const bias = shape.is(shape.bias, i) ? somewhere.take<void>(rows, size, shape.y_offset) : nullptr;
      products.push_back({sizeof(nf4_product_t), y, ldy, &weights.back(), bias});
      args.push_back(
          {y, ldy, x, ldx, shape.m, static_cast<nf4::Dtype>(shape.dtype), weight_of(weights.back()), bias, workspace});
    }
  }

  nf4_status_t run(const Backend& backend, const Products& shape, const nf4_options_t& options) const {
    const nf4::GemmArgs& first = args.front();
    return products.size() > 1 ? nf4_gemm_group(backend.handle(), products.data(), products.size(), first.x, first.ldx,
                                                shape.m, shape.dtype, &options, kStream)
                               : nf4_gemm(backend.handle(), first.y, first.ldy, first.x, first.ldx, shape.m,
                                          shape.dtype, &weights.front(), first.bias, &options, kStream);
  }
};

// What selection must be told of products that are launched as one: all rows of W, the worst alignment, any gap.
nf4::Problem problem_of(std::span<const nf4::GemmArgs> group, const Products& shape) {
  const nf4::GemmArgs& first = group.front();
  nf4::Problem problem{nf4::Op::gemm, first.dtype, first.m, 0, shape.k, shape.blocksize, first.weight.absmax.dtype,
                       256,           false};
  problem.products = static_cast<int>(group.size());
  for (const nf4::GemmArgs& args : group) {
    problem.n += args.weight.rows;
    const uintptr_t row_bytes = args.m > 1 ? bytes(args.ldx, shape.dtype) : 0;
    problem.alignment =
        std::min(problem.alignment, alignment_of({address(args.x), address(args.weight.codes), row_bytes}));
    problem.strided = problem.strided || (args.m > 1 && (args.ldx != shape.k || args.ldy != args.weight.rows));
  }
  return problem;
}

// Goes through what was selected and launched, product by product: what is wrong with it.
std::string wrong_with_products(Recorder& recorder, const nf4::Device& device, const Operands& operands,
                                const Products& shape, bool may_group) {
  std::span<const nf4::GemmArgs> left = operands.args;
  bool alone = !may_group;  // whether the next product is asked about alone
  for (const auto& [problem, options, choice] : selections()) {
    if (left.empty()) return "a selection too many";
    const size_t count = alone ? 1 : std::min<size_t>(left.size(), nf4::kMostProducts);
    const auto group = left.first(count);
    if (!same(problem, problem_of(group, shape)))
      return "selection was told " + text_of(problem) + ", expected " + text_of(problem_of(group, shape));
    alone = count > 1 && choice.variant->launch_group == nullptr;
    if (alone) continue;  // the library asks again
    alone = !may_group;
    const size_t workspace_size = choice.workspace_size(problem, device);
    if (workspace_size > options.workspace_size) return "more workspace than there is";
    Expected call{device, *choice.variant, choice.config, nullptr, group, workspace_size};
    while (call.m0 < shape.m) {
      if (std::string wrong = recorder.check(call); !wrong.empty()) return wrong;
    }
    left = left.subspan(count);
  }
  if (!left.empty()) return "a product that was not selected for";
  return recorder.done() ? "" : "a launch too many";
}

std::optional<std::string> try_products(Recorder& recorder, const Backend& backend, const nf4::Device& device,
                                        const Products& shape, const nf4_options_t& options) {
  recorder.clear();
  const Operands operands(shape, options.workspace);
  const nf4_status_t status = operands.run(backend, shape, options);
  if (status == NF4_ERROR_UNSUPPORTED && options.variant != nullptr) {
    if (recorder.launches() > 0) return "a launch by a variant that cannot run this";
    return std::nullopt;
  }
  require_success(status);
  if (std::string wrong = wrong_in_general(options); !wrong.empty()) return wrong;
  const bool may_group = options.variant == nullptr || nf4::find_variant(options.variant)->launch_group != nullptr;
  return wrong_with_products(recorder, device, operands, shape, may_group);
}

// ---- experts --------------------------------------------------------------------------------------------------------

struct Experts {
  int64_t tokens, top_k, n, k, experts;
  int32_t blocksize;
  nf4_dtype_t absmax_dtype, dtype;
  Form form;
  bool scaled, biased;
  size_t x_offset, codes_offset;  // bytes
  int64_t x_gap, y_gap;           // elements between rows

  std::string text() const {
    std::string text;
    const std::pair<const char*, int64_t> all[] = {{"tokens", tokens},
                                                   {"top_k", top_k},
                                                   {"n", n},
                                                   {"k", k},
                                                   {"experts", experts},
                                                   {"blocksize", blocksize},
                                                   {"absmax", absmax_dtype},
                                                   {"dtype", dtype},
                                                   {"form", static_cast<int64_t>(form)},
                                                   {"scale", scaled},
                                                   {"bias", biased},
                                                   {"x +", static_cast<int64_t>(x_offset)},
                                                   {"codes +", static_cast<int64_t>(codes_offset)},
                                                   {"ldx +", x_gap},
                                                   {"ldy +", y_gap}};
    for (const auto& [name, value] : all) text += std::string(name) + " " + std::to_string(value) + " ";
    return text;
  }
};

std::vector<Experts> experts() {
  using Counts = std::vector<int64_t>;
  const Counts tokens = {1, 2, 7, 33, 300}, top_ks = {1, 2, 8}, ns = {1, 8, 33, 768}, ks = {33, 64, 704, 2048, 2880},
               counts = {1, 3, 128, 512}, gaps = {0, 0, 1, 8};
  const std::vector<int32_t> blocksizes = {32, 64, 4096};
  const std::vector<size_t> x_offsets = {0, 0, 4, 16}, codes_offsets = {0, 0, 1, 8, 16};
  std::vector<Experts> all;
  for (const auto& row : pairwise(
           {tokens.size(), top_ks.size(), ns.size(), ks.size(), counts.size(), blocksizes.size(), kAbsmaxDtypes.size(),
            kDtypes.size(), kForms.size(), 2, 2, x_offsets.size(), codes_offsets.size(), gaps.size(), gaps.size()},
           37)) {
    const int64_t k = ks[row[3]];
    const int32_t blocksize = blocksizes[row[5]];
    all.push_back({tokens[row[0]], top_ks[row[1]], whole_blocks(ns[row[2]], k, blocksize), k, counts[row[4]], blocksize,
                   kAbsmaxDtypes[row[6]], kDtypes[row[7]], kForms[row[8]], row[9] != 0, row[10] != 0,
                   x_offsets[row[11]], codes_offsets[row[12]], gaps[row[13]], gaps[row[14]]});
  }
  return all;
}

nf4_routing_t routing_of(Somewhere& somewhere, const Experts& shape) {
  const int64_t slots = shape.tokens * shape.top_k;
  nf4_routing_t routing = NF4_ROUTING_INIT;
  routing.experts = shape.experts;
  routing.slots = slots;
  routing.top_k = shape.top_k;
  routing.ids_dtype = shape.form == Form::ids32 ? NF4_I32 : NF4_I64;
  if (shape.form == Form::ids32) routing.ids = somewhere.take<void>(slots, 4);
  if (shape.form == Form::ids64) routing.ids = somewhere.take<void>(slots, 8);
  if (shape.form == Form::sorted) routing.order = somewhere.take<int32_t>(slots, 4);
  if (shape.form == Form::sorted || shape.form == Form::rows) routing.ends = somewhere.take<int32_t>(shape.experts, 4);
  if (shape.scaled) routing.scale = somewhere.take<float>(slots, 4);
  return routing;
}

nf4::Routing routing_of(const nf4_routing_t& view) {
  return {view.experts, view.slots, view.top_k, view.ids, view.ids_dtype == NF4_I64, view.ends, view.order, view.scale};
}

// What is wrong with a product with experts, or none if it is not supported.
std::optional<std::string> try_experts(Recorder& recorder, const Backend& backend, const nf4::Device& device,
                                       const Experts& shape, const nf4_options_t& options) {
  Somewhere somewhere;
  const size_t size = bytes(1, shape.dtype);
  const int64_t slots = shape.tokens * shape.top_k, ldx = shape.k + shape.x_gap, ldy = shape.n + shape.y_gap;
  const nf4_weight_t weight =
      somewhere.weight(shape.experts * shape.n, shape.k, shape.blocksize, shape.absmax_dtype, shape.codes_offset);
  const nf4_routing_t routing = routing_of(somewhere, shape);
  const nf4::GemmExpertsArgs args{somewhere.take<void>(slots * ldy, size),
                                  ldy,
                                  somewhere.take<void>(shape.tokens * ldx, size, shape.x_offset),
                                  ldx,
                                  shape.n,
                                  static_cast<nf4::Dtype>(shape.dtype),
                                  weight_of(weight),
                                  shape.biased ? somewhere.take<void>(weight.rows, size) : nullptr,
                                  routing_of(routing),
                                  options.workspace};
  const bool rows = shape.tokens > 1;
  const nf4::Problem problem{nf4::Op::gemm_experts,
                             args.dtype,
                             slots,
                             shape.n,
                             shape.k,
                             shape.blocksize,
                             args.weight.absmax.dtype,
                             alignment_of({address(args.x), address(weight.codes), rows ? bytes(ldx, shape.dtype) : 0}),
                             (rows && shape.x_gap > 0) || (slots > 1 && shape.y_gap > 0),
                             shape.experts,
                             shape.top_k,
                             routing.ends != nullptr,
                             routing.ends != nullptr && routing.order == nullptr};
  recorder.clear();
  const nf4_status_t status = nf4_gemm_experts(backend.handle(), args.y, ldy, args.x, ldx, shape.dtype, &weight,
                                               args.bias, &routing, &options, kStream);
  if (options.variant != nullptr && (status == NF4_ERROR_UNSUPPORTED || status == NF4_ERROR_WORKSPACE)) {
    if (recorder.launches() > 0) return "a launch by a variant that cannot run this";
    return std::nullopt;
  }
  require_success(status);
  if (std::string wrong = wrong_in_general(options); !wrong.empty()) return wrong;
  return wrong_with_call(recorder, device, problem, &args, static_cast<int>(recorder.launches()));
}

std::optional<std::string> try_sort(Recorder& recorder, const Backend& backend, const nf4::Device& device,
                                    const Experts& shape, const nf4_options_t& options) {
  Somewhere somewhere;
  Experts by_ids = shape;
  by_ids.form = shape.form == Form::ids32 ? Form::ids32 : Form::ids64;
  const nf4_routing_t routing = routing_of(somewhere, by_ids);
  const nf4::SortExpertsArgs args{somewhere.take<int32_t>(routing.slots, 4, shape.x_offset),
                                  somewhere.take<int32_t>(routing.experts, 4), routing_of(routing)};
  const nf4::Problem problem{nf4::Op::sort_experts,
                             nf4::Dtype::f32,
                             routing.slots,
                             0,
                             0,
                             0,
                             nf4::Dtype::f32,
                             alignment_of({address(args.order), address(args.ends), address(routing.ids)}),
                             false,
                             routing.experts};
  recorder.clear();
  require_success(nf4_sort_experts(backend.handle(), args.order, args.ends, &routing, &options, kStream));
  if (std::string wrong = wrong_in_general(options); !wrong.empty()) return wrong;
  return wrong_with_call(recorder, device, problem, &args, 1);
}

// ---- transposed products --------------------------------------------------------------------------------------------

struct Transposed {
  int64_t m, n, k;
  int32_t blocksize;
  nf4_dtype_t absmax_dtype, dtype;
  size_t x_offset, codes_offset;  // bytes
  int64_t x_gap, y_gap;           // elements between rows

  std::string text() const {
    std::string text;
    const std::pair<const char*, int64_t> all[] = {{"m", m},
                                                   {"n", n},
                                                   {"k", k},
                                                   {"blocksize", blocksize},
                                                   {"absmax", absmax_dtype},
                                                   {"dtype", dtype},
                                                   {"x +", static_cast<int64_t>(x_offset)},
                                                   {"codes +", static_cast<int64_t>(codes_offset)},
                                                   {"ldx +", x_gap},
                                                   {"ldy +", y_gap}};
    for (const auto& [name, value] : all) text += std::string(name) + " " + std::to_string(value) + " ";
    return text;
  }
};

std::vector<Transposed> transposed() {
  using Counts = std::vector<int64_t>;
  const Counts ms = {1, 2, 17, 300, 4096}, ns = {1, 33, 1024, 28672, 128256}, ks = {33, 40, 64, 1032, 4096, 8192},
               gaps = {0, 0, 1, 8};
  const std::vector<int32_t> blocksizes = {32, 64, 4096};
  const std::vector<size_t> x_offsets = {0, 0, 4, 16}, codes_offsets = {0, 0, 1, 4, 16};
  std::vector<Transposed> all;
  for (const auto& row : pairwise({ms.size(), ns.size(), ks.size(), blocksizes.size(), kAbsmaxDtypes.size(),
                                   kDtypes.size(), x_offsets.size(), codes_offsets.size(), gaps.size(), gaps.size()},
                                  43)) {
    all.push_back({ms[row[0]], ns[row[1]], ks[row[2]], blocksizes[row[3]], kAbsmaxDtypes[row[4]], kDtypes[row[5]],
                   x_offsets[row[6]], codes_offsets[row[7]], gaps[row[8]], gaps[row[9]]});
  }
  return all;
}

nf4_problem_t problem_for(const Transposed& shape) {
  nf4_problem_t problem = NF4_PROBLEM_INIT;
  problem.op = NF4_OP_GEMM_TRANSPOSED;
  problem.m = shape.m;
  problem.n = shape.n;
  problem.k = shape.k;
  problem.dtype = shape.dtype;
  return problem;
}

std::string nothing_wrong(const nf4::GemmTransposedArgs&) { return ""; }

// What is wrong with a transposed product, also as wrong_besides(args) sees it; or none if it is not supported.
template <class Check = std::string (*)(const nf4::GemmTransposedArgs&)>
std::optional<std::string> try_transposed(Recorder& recorder, const Backend& backend, const nf4::Device& device,
                                          const Transposed& shape, const nf4_options_t& options,
                                          const Check& wrong_besides = nothing_wrong) {
  Somewhere somewhere;
  const size_t size = bytes(1, shape.dtype);
  const int64_t ldx = shape.n + shape.x_gap, ldy = shape.k + shape.y_gap;
  const nf4_weight_t weight =
      somewhere.weight(shape.n, shape.k, shape.blocksize, shape.absmax_dtype, shape.codes_offset);
  const nf4::GemmTransposedArgs args{somewhere.take<void>(shape.m * ldy, size),
                                     ldy,
                                     somewhere.take<void>(shape.m * ldx, size, shape.x_offset),
                                     ldx,
                                     shape.m,
                                     static_cast<nf4::Dtype>(shape.dtype),
                                     weight_of(weight),
                                     options.workspace};
  const bool rows = shape.m > 1;
  const nf4::Problem problem{nf4::Op::gemm_transposed,
                             args.dtype,
                             shape.m,
                             shape.n,
                             shape.k,
                             shape.blocksize,
                             args.weight.absmax.dtype,
                             alignment_of({address(args.x), address(weight.codes), rows ? bytes(ldx, shape.dtype) : 0}),
                             rows && (shape.x_gap > 0 || shape.y_gap > 0)};
  recorder.clear();
  const nf4_status_t status =
      nf4_gemm_transposed(backend.handle(), args.y, ldy, args.x, ldx, shape.m, shape.dtype, &weight, &options, kStream);
  if (options.variant != nullptr && (status == NF4_ERROR_UNSUPPORTED || status == NF4_ERROR_WORKSPACE)) {
    if (recorder.launches() > 0) return "a launch by a variant that cannot run this";
    return std::nullopt;
  }
  require_success(status);
  if (std::string wrong = wrong_in_general(options); !wrong.empty()) return wrong;
  const std::string wrong = wrong_with_call(recorder, device, problem, &args, static_cast<int>(recorder.launches()));
  return wrong.empty() ? wrong_besides(args) : wrong;
}

// ---- all devices, variants and configs ------------------------------------------------------------------------------

// Calls attempt(recorder, backend, device, options, shape) for each of the shapes: with every variant and config, and
// with none forced. Each must take some shape on some device.
template <class Shape, class Attempt>
void check_all(nf4_op_t op, const std::vector<Shape>& shapes, const Attempt& attempt) {
  std::map<std::string, int> taken;
  int faults = 0;
  for (const fake_cuda::Device& fake : kDevices) {
    fake_cuda::reset({fake});
    const Backend backend(0);
    const nf4::Device device = described(fake);
    REQUIRE(same(backend.handle()->device, device));
    Recorder recorder;
    const auto try_all = [&](const nf4_options_t& options) {
      const std::string name =
          options.variant != nullptr ? std::string(options.variant) + " " + options.config : "none forced";
      taken[name] += 0;
      for (const Shape& shape : shapes) {
        const std::optional<std::string> wrong = attempt(recorder, backend, device, options, shape);
        taken[name] += wrong.has_value();
        if (!wrong || wrong->empty() || ++faults > 5) continue;
        INFO("capability " << fake.capability << ", " << fake.multiprocessors << " SMs, " << name << ": "
                           << shape.text());
        CHECK(*wrong == "");
      }
    };
    nf4_options_t free = NF4_OPTIONS_INIT;
    try_all(free);
    free.workspace = reinterpret_cast<void*>(uintptr_t{1} << 40);
    free.workspace_size = 4096;
    try_all(free);
    for_each_config(backend, op, [&](const nf4_variant_info_t&, const nf4_options_t& options) { try_all(options); });
  }
  CHECK(faults == 0);
  for (const auto& [name, count] : taken) {
    INFO(name);
    CHECK(count >= 10);
  }
}

// ---- products by cuBLASLt -------------------------------------------------------------------------------------------

bool is(const nf4_layout& layout, int64_t rows, int64_t cols, int64_t ld) {
  return layout.rows == static_cast<uint64_t>(rows) && layout.cols == static_cast<uint64_t>(cols) && layout.ld == ld;
}

// The products that the fake cuBLASLt was asked for. Loads it.
const nf4_matmuls& all_matmuls() {
  void* const library = dlopen(std::getenv("NF4_CUBLASLT"), RTLD_NOW);
  REQUIRE(library != nullptr);
  return *static_cast<const nf4_matmuls*>(dlsym(library, "nf4_matmuls"));
}

// What is wrong with what cuBLASLt was given of the workspace, of which the weights take so many bytes.
std::string wrong_with_scratch(const nf4_matmul& matmul, const void* workspace, uintptr_t weights, size_t size) {
  const uintptr_t begin = address(workspace), scratch = address(matmul.workspace);
  if (matmul.a != workspace || scratch < begin + weights || scratch % 256 != 0) return "its workspace";
  return scratch + matmul.workspace_size > begin + size ? "past the workspace" : "";
}

// What is wrong with a product of gemm.unpack_cublas: W is unpacked to the workspace, y is the bias, cuBLASLt adds the
// product, and nothing lies past the workspace that was asked for.
std::string wrong_with_cublas(Recorder& recorder, const nf4::Device& device, const nf4::GemmArgs& args,
                              const nf4_matmul& matmul, size_t workspace_size) {
  const nf4::Weight& weight = args.weight;
  const bool streams = alignment_of({address(weight.codes), address(weight.absmax.values)}) >= 16;
  const nf4::Variant& variant = *nf4::find_variant(streams ? "unpack.stream" : "unpack.lut_shared");
  const nf4::Choice& choice = selections().front().choice;
  int config = 0;
  while (streams && !variant.config_text(config).ends_with(choice.variant->config_text(choice.config))) ++config;
  const nf4::UnpackArgs unpack{args.workspace, weight.cols, args.dtype, weight};
  Expected call{device, variant, config, &unpack};
  if (std::string wrong = recorder.check(call); !wrong.empty()) return wrong;
  if (!recorder.done()) return "a launch too many";

  const auto dtype = static_cast<nf4_dtype_t>(args.dtype);
  if (matmul.b != args.x) return "operands";
  if (matmul.a_operation != CUBLAS_OP_T || !is(matmul.a_layout, weight.cols, weight.rows, weight.cols)) return "W";
  if (!is(matmul.b_layout, weight.cols, args.m, args.ldx) || !is(matmul.d_layout, weight.rows, args.m, args.ldy))
    return "sizes";
  if (matmul.c != args.y || matmul.d != args.y || matmul.stream != kStream) return "output or stream";
  if (matmul.alpha != 1.0f || matmul.beta != (args.bias != nullptr ? 1.0f : 0.0f)) return "factors";
  const uintptr_t unpacked = bytes(weight.rows * weight.cols, dtype);
  if (std::string wrong = wrong_with_scratch(matmul, args.workspace, unpacked, workspace_size); !wrong.empty())
    return wrong;
  for (int64_t row = 0; args.bias != nullptr && row < args.m; ++row) {
    const auto* const y = static_cast<const uint8_t*>(args.y) + bytes(row * args.ldy, dtype);
    if (std::memcmp(y, args.bias, bytes(weight.rows, dtype)) != 0) return "bias";
  }
  return "";
}

// What is wrong with the products of gemm_transposed.unpack_cublas from number `first` on: each is of a slab of W, the
// columns of y follow one another.
std::string wrong_with_slabs(const nf4_matmuls& matmuls, int first, const nf4::GemmTransposedArgs& args,
                             size_t workspace_size) {
  const nf4::Weight& weight = args.weight;
  const auto dtype = static_cast<nf4_dtype_t>(args.dtype);
  int64_t begin = 0;
  for (int i = first; i < matmuls.count; ++i) {
    const nf4_matmul& matmul = matmuls.last[i % NF4_MATMULS];
    const auto width = static_cast<int64_t>(matmul.a_layout.rows);
    const auto* const y = static_cast<const uint8_t*>(args.y) + bytes(begin, dtype);
    if (matmul.a_operation != CUBLAS_OP_N || !is(matmul.a_layout, width, weight.rows, width)) return "W";
    if (matmul.b != args.x || !is(matmul.b_layout, weight.rows, args.m, args.ldx)) return "x";
    if (matmul.c != y || matmul.d != y || !is(matmul.d_layout, width, args.m, args.ldy)) return "y";
    if (matmul.alpha != 1.0f || matmul.beta != 0.0f || matmul.stream != kStream) return "factors or stream";
    const std::string wrong =
        wrong_with_scratch(matmul, args.workspace, bytes(width * weight.rows, dtype), workspace_size);
    if (!wrong.empty()) return wrong;
    begin += width;
  }
  return begin != weight.cols ? "columns of y" : matmuls.count > first + NF4_MATMULS ? "more than are kept" : "";
}

}  // namespace

TEST_CASE("arguments: a product by cuBLASLt stays within the workspace that it asks for", "[.][cublaslt]") {
  const nf4_matmuls& matmuls = all_matmuls();
  int products = 0;
  for (const fake_cuda::Device& fake : kDevices) {
    fake_cuda::reset({fake});
    const Backend backend(0);
    Recorder recorder;
    for_each_config(backend, NF4_OP_GEMM, [&](const nf4_variant_info_t& info, nf4_options_t options) {
      if (std::string_view(info.name) != "gemm.unpack_cublas") return;
      CHECK(std::string_view(info.accuracy) == "unpacked");
      for (const Products& shape : products_of_one()) {
        INFO("capability " << fake.capability << ": " << shape.text());
        options.workspace = reinterpret_cast<void*>(uintptr_t{1} << 40);
        Operands operands(shape, options.workspace);
        options.workspace_size = workspace_needed(backend, problem_for(shape), options);
        // Bias and y are written and read, and so are there.
        nf4::GemmArgs& args = operands.args.front();
        std::vector<uint64_t> y(static_cast<size_t>(shape.m * args.ldy)),
            bias(static_cast<size_t>(shape.n), 0x3c3c3c3c);
        operands.products.front().y = args.y = y.data();
        if (args.bias != nullptr) args.bias = bias.data();
        recorder.clear();
        const int before = matmuls.count;
        require_success(operands.run(backend, shape, options));
        CHECK(matmuls.count == before + 1);
        const nf4_matmul& matmul = matmuls.last[before % NF4_MATMULS];
        CHECK(wrong_in_general(options) == "");
        CHECK(wrong_with_cublas(recorder, described(fake), args, matmul, options.workspace_size) == "");
        --options.workspace_size;
        check_failed(operands.run(backend, shape, options), NF4_ERROR_WORKSPACE, "needs");
        ++products;
      }
    });
  }
  CHECK(products > 100);
}

TEST_CASE("arguments: slabs of W are unpacked and multiplied one after the other", "[.][cublaslt]") {
  const nf4_matmuls& matmuls = all_matmuls();
  int products = 0, several = 0;
  for (const fake_cuda::Device& fake : kDevices) {
    fake_cuda::reset({fake});
    const Backend backend(0);
    Recorder recorder;
    for_each_config(backend, NF4_OP_GEMM_TRANSPOSED, [&](const nf4_variant_info_t& info, nf4_options_t options) {
      if (std::string_view(info.name) != "gemm_transposed.unpack_cublas") return;
      CHECK(std::string_view(info.accuracy) == "unpacked");
      options.workspace = reinterpret_cast<void*>(uintptr_t{1} << 40);
      for (const Transposed& shape : transposed()) {
        if (shape.k % 8 != 0 || shape.codes_offset % 4 != 0 || bytes(shape.n + shape.x_gap, shape.dtype) % 4 != 0)
          continue;
        INFO("capability " << fake.capability << ": " << shape.text());
        options.workspace_size = workspace_needed(backend, problem_for(shape), options);
        const int before = matmuls.count;
        const std::optional<std::string> wrong = try_transposed(
            recorder, backend, described(fake), shape, options,
            [&](const auto& args) { return wrong_with_slabs(matmuls, before, args, options.workspace_size); });
        CHECK(wrong.value_or("unsupported") == "");
        several += matmuls.count > before + 1;
        --options.workspace_size;
        CHECK(!try_transposed(recorder, backend, described(fake), shape, options).has_value());
        ++products;
      }
    });
  }
  CHECK(products > 100);
  CHECK(several > 10);
}

TEST_CASE("arguments: the launches of transposed products are what the call asks") {
  check_all(NF4_OP_GEMM_TRANSPOSED, transposed(),
            [](Recorder& recorder, const Backend& backend, const nf4::Device& device, const nf4_options_t& options,
               const Transposed& shape) { return try_transposed(recorder, backend, device, shape, options); });
}

TEST_CASE("arguments: pack, unpack and the scales' launches are what the call asks") {
  for (const nf4_op_t op : {NF4_OP_PACK, NF4_OP_UNPACK, NF4_OP_PACK_ABSMAX, NF4_OP_UNPACK_ABSMAX}) {
    INFO("op " << op);
    check_all(op, matrices(),
              [&](Recorder& recorder, const Backend& backend, const nf4::Device& device, const nf4_options_t& options,
                  const Matrix& matrix) { return try_matrix(recorder, backend, device, op, matrix, options); });
  }
}

TEST_CASE("arguments: the launches of products with experts are what the call asks") {
  check_all(NF4_OP_GEMM_EXPERTS, experts(),
            [](Recorder& recorder, const Backend& backend, const nf4::Device& device, const nf4_options_t& options,
               const Experts& shape) { return try_experts(recorder, backend, device, shape, options); });
  check_all(NF4_OP_SORT_EXPERTS, experts(),
            [](Recorder& recorder, const Backend& backend, const nf4::Device& device, const nf4_options_t& options,
               const Experts& shape) { return try_sort(recorder, backend, device, shape, options); });
}

TEST_CASE("arguments: the launches of products are what the call asks") {
  std::vector<Products> shapes = products(true);
  const std::vector<Products> others = products(false);
  shapes.insert(shapes.end(), others.begin(), others.end());
  check_all(NF4_OP_GEMM, shapes,
            [&](Recorder& recorder, const Backend& backend, const nf4::Device& device, const nf4_options_t& options,
                const Products& shape) { return try_products(recorder, backend, device, shape, options); });
}

}  // namespace nf4test
