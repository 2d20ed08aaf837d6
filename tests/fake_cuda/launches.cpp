// What is launched: on the caller's stream and the handle's device, within the limits of hardware, and by small shapes
// every kernel that there is.
#include <algorithm>
#include <set>
#include <string>
#include <thread>

#include "runtime.hpp"
#include "somewhere.hpp"
#include "support/calls.hpp"

namespace nf4test {
namespace {

// From the oldest on.
constexpr fake_cuda::Device kDevices[] = {{75, 75, 64 << 10, 40},    {80, 80, 163 << 10, 108}, {86, 80, 99 << 10, 84},
                                          {89, 80, 99 << 10, 128},   fake_cuda::kH200,         {90, 75, 227 << 10, 132},
                                          {100, 90, 227 << 10, 148}, {120, 75, 99 << 10, 1}};

const auto kStream = reinterpret_cast<nf4_stream_t>(uintptr_t{0x5eed});

bool all_on_the_stream() {
  const auto& launches = fake_cuda::launches();
  return !launches.empty() && std::all_of(launches.begin(), launches.end(), [](const fake_cuda::Launch& launch) {
    return launch.stream == kStream && launch.device == fake_cuda::current_device();
  });
}

// An operation on an n x k matrix, on memory that is not there.
nf4_status_t call_somewhere(const Backend& backend, nf4_op_t op, nf4_dtype_t dtype, int64_t m, int64_t n, int64_t k,
                            int32_t blocksize, nf4_dtype_t absmax_dtype, const nf4_options_t* options) {
  Somewhere somewhere;
  nf4_handle_t const handle = backend.handle();
  const nf4_weight_t weight = somewhere.weight(n, k, blocksize, absmax_dtype);
  const auto size = static_cast<size_t>(nf4ref::size_of(dtype));
  const auto matrix = [&](int64_t rows, int64_t cols) { return somewhere.take<void>(rows * cols, size); };
  const auto floats = [&](int64_t count) { return somewhere.take<float>(count, sizeof(float)); };
  const auto bytes = [&](int64_t count) { return somewhere.take<uint8_t>(count, 1); };
  const int64_t blocks = (n * k + blocksize - 1) / blocksize;
  switch (op) {
    case NF4_OP_PACK:
      return nf4_pack(handle, bytes((n * k + 1) / 2), floats(blocks), matrix(n, k), k, dtype, n, k, blocksize, options,
                      kStream);
    case NF4_OP_UNPACK:
      return nf4_unpack(handle, matrix(n, k), k, dtype, &weight, options, kStream);
    case NF4_OP_GEMM:
      return nf4_gemm(handle, matrix(m, n), n, matrix(m, k), k, m, dtype, &weight, nullptr, options, kStream);
    case NF4_OP_GEMM_TRANSPOSED:
      return nf4_gemm_transposed(handle, matrix(m, k), k, matrix(m, n), n, m, dtype, &weight, options, kStream);
    case NF4_OP_PACK_ABSMAX:
      return nf4_pack_absmax(handle, bytes(n * k), floats(blocks), floats(1), floats(n * k), n * k, floats(256),
                             blocksize, options, kStream);
    case NF4_OP_GEMM_EXPERTS:
    case NF4_OP_SORT_EXPERTS: {
      nf4_routing_t routing = NF4_ROUTING_INIT;
      routing.experts = op == NF4_OP_GEMM_EXPERTS ? 1 : std::min<int64_t>(n, INT32_MAX);
      routing.slots = op == NF4_OP_GEMM_EXPERTS ? m : std::min<int64_t>(k, INT32_MAX);
      routing.ids = somewhere.take<void>(routing.slots, 8);
      const auto ints = [&](int64_t count) { return somewhere.take<int32_t>(count, sizeof(int32_t)); };
      if (op == NF4_OP_SORT_EXPERTS)
        return nf4_sort_experts(handle, ints(routing.slots), ints(routing.experts), &routing, options, kStream);
      return nf4_gemm_experts(handle, matrix(m, n), n, matrix(m, k), k, dtype, &weight, nullptr, &routing, options,
                              kStream);
    }
    default:
      return nf4_unpack_absmax(handle, floats(blocks), &weight, options, kStream);
  }
}

}  // namespace

TEST_CASE("launches: small shapes reach every kernel", "[.][cublaslt]") {
  fake_cuda::reset({fake_cuda::kH200});
  const Backend backend(0);
  fake_cuda::clear();
  for (const nf4_op_t op : kAllOps) {
    for_each_call(backend, op, small_shapes(op), [](Call&, const nf4_variant_info_t&, const nf4_options_t&) {});
  }
  std::set<std::string_view> launched;
  for (const fake_cuda::Launch& launch : fake_cuda::launches()) launched.insert(launch.kernel);
  std::vector<std::string_view> missing;
  for (const std::string_view kernel : fake_cuda::kernels()) {
    const bool asked_only =
        kernel.find("7witness") != std::string_view::npos;  // of kernels/device/architecture.cu, never launched
    if (launched.count(kernel) == 0 && !asked_only) missing.push_back(kernel);
  }
  CAPTURE(missing);
  CHECK(missing.empty());
  CHECK(launched.size() > 100);
  WARN(launched.size() << " kernels launched");
}

TEST_CASE("launches: variants are described, and no two configs of one have the same name") {
  fake_cuda::reset({fake_cuda::kH200});
  const Backend backend(0);
  for (const nf4_op_t op : kAllOps) {
    for_each_variant(backend, op, [&](const nf4_variant_info_t& info) {
      INFO(info.name);
      CHECK(std::string(info.description) != "");
      std::set<std::string> configs;
      for (int32_t i = 0; i < info.configs; ++i) {
        char text[128];
        require_success(nf4_variant_config(backend.handle(), info.name, static_cast<size_t>(i), text, sizeof text));
        CHECK(configs.insert(text).second);
      }
    });
  }
}

TEST_CASE("launches: on the caller's stream and the handle's device") {
  fake_cuda::reset({fake_cuda::kH200, fake_cuda::kH200});
  REQUIRE(cudaSetDevice(1) == cudaSuccess);
  const Backend backend(1);
  for (const nf4_op_t op : kAllOps) {
    for_each_call(backend, op, small_shapes(op),
                  [&](Call& call, const nf4_variant_info_t&, const nf4_options_t& options) {
                    fake_cuda::clear();
                    require_success(call.run(backend, &options, kStream));
                    CHECK(all_on_the_stream());
                  });
  }
}

// DataParallel and servers call from threads that have not called CUDA before.
TEST_CASE("launches: a thread's first call of CUDA may be one of the library") {
  fake_cuda::reset({fake_cuda::kH200});
  const Backend backend(0);
  for (const nf4_op_t op : kAllOps) {
    for_each_call(backend, op, small_shapes(op),
                  [&](Call& call, const nf4_variant_info_t&, const nf4_options_t& options) {
                    std::string message;
                    std::thread([&] {
                      if (call.run(backend, &options, kStream) != NF4_SUCCESS) message = nf4_last_error_message();
                    }).join();
                    CHECK(message == "");
                  });
  }
}

// Sizes around the limits of 31 and 32 bits and up to the largest that nf4.h takes, on devices from the oldest on: what
// is launched fits the device, or the variant says that it cannot.
TEST_CASE("launches: extreme shapes stay within the limits of every device") {
  const std::vector<int64_t> sizes = {1,
                                      63,
                                      64,
                                      4096,
                                      (int64_t{1} << 30),
                                      (int64_t{1} << 31) - 64,
                                      (int64_t{1} << 31) - 1,
                                      (int64_t{1} << 31),
                                      (int64_t{1} << 32) + 64,
                                      (int64_t{1} << 40),
                                      (int64_t{1} << 60)};
  int64_t launches = 0;
  for (const fake_cuda::Device& device : kDevices) {
    fake_cuda::reset({device});
    const Backend backend(0);
    for (const nf4_op_t op : kAllOps) {
      int64_t defaults = 0;  // calls that no variant was forced on: each must find one
      const auto try_shapes = [&](const nf4_options_t* options) {
        for (const int64_t n : sizes) {
          for (const int64_t k : sizes) {
            if (n > (int64_t{1} << 60) / k) continue;
            for (const int64_t m : {1, 8, 33, 1000}) {
              const bool product = op == NF4_OP_GEMM || op == NF4_OP_GEMM_EXPERTS || op == NF4_OP_GEMM_TRANSPOSED;
              if (m > 1 && (!product || m > (int64_t{1} << 60) / std::max(n, k))) continue;
              const nf4_dtype_t absmax_dtype = n % 2 == 0 ? NF4_U8 : NF4_F32;
              const nf4_dtype_t dtype = m % 2 == 0 ? NF4_F32 : NF4_BF16;
              INFO("capability " << device.capability << " op " << op << " m " << m << " n " << n << " k " << k);
              fake_cuda::clear();
              const int32_t blocksize = m == 8 ? 4096 : 64;
              if (op == NF4_OP_GEMM_EXPERTS && n * k % blocksize != 0) continue;  // an expert of part of a block
              const nf4_status_t status = call_somewhere(backend, op, dtype, m, n, k, blocksize, absmax_dtype, options);
              if (options != nullptr && (status == NF4_ERROR_UNSUPPORTED || status == NF4_ERROR_WORKSPACE)) continue;
              require_success(status);
              REQUIRE(fake_cuda::violations() == std::vector<std::string>{});
              REQUIRE(all_on_the_stream());
              launches += static_cast<int64_t>(fake_cuda::launches().size());
              defaults += options == nullptr;
            }
          }
        }
      };
      try_shapes(nullptr);
      CHECK(defaults > 50);
      for_each_config(backend, op,
                      [&](const nf4_variant_info_t&, const nf4_options_t& options) { try_shapes(&options); });
    }
  }
  WARN(launches << " launches");
}

TEST_CASE("launches: who would run an empty shape can be asked") {
  for (const fake_cuda::Device& device : kDevices) {
    INFO("capability " << device.capability);
    fake_cuda::reset({device});
    const Backend backend(0);
    for (const int empty : {1, 2, 4, 3, 5, 6, 7}) {
      nf4_problem_t problem = NF4_PROBLEM_INIT;
      problem.dtype = NF4_BF16;
      problem.m = empty & 1 ? 0 : 40;
      problem.n = empty & 2 ? 0 : 256;
      problem.k = empty & 4 ? 0 : 256;
      for_each_variant(backend, NF4_OP_GEMM, [&](const nf4_variant_info_t& info) {
        int32_t supported = -1;
        require_success(nf4_variant_supports(backend.handle(), info.name, &problem, &supported, nullptr, 0));
        CHECK((supported == 0 || supported == 1));
      });
      nf4_selection_t selection{};
      selection.struct_size = sizeof selection;
      require_success(nf4_select(backend.handle(), &problem, nullptr, &selection));
      CHECK(selection.variant[0] != '\0');
    }
  }
}

// Up to 64 rows and beyond; without a workspace too.
TEST_CASE("launches: compute capability 8.x has a fused product on tensor cores") {
  for (const fake_cuda::Device& device : kDevices) {
    if (device.capability / 10 != 8) continue;
    fake_cuda::reset({device});
    const Backend backend(0);
    for (const nf4_dtype_t dtype : {NF4_F16, NF4_BF16}) {
      for (const int64_t m : {2, 4, 8, 16, 32, 64, 256}) {
        for (const int64_t n : {1024, 4096, 28672}) {
          for (const size_t workspace : {size_t{0}, SIZE_MAX}) {
            INFO("capability " << device.capability << " m " << m << " n " << n << " workspace " << workspace);
            nf4_problem_t problem = NF4_PROBLEM_INIT;
            problem.dtype = dtype;
            problem.m = m;
            problem.n = n;
            problem.k = 8192;
            nf4_options_t options = NF4_OPTIONS_INIT;
            options.workspace_size = workspace;
            nf4_selection_t selection{};
            selection.struct_size = sizeof selection;
            require_success(nf4_select(backend.handle(), &problem, &options, &selection));
            // Where W is large, two passes of 32 rows take longer than one of 64, but on 8.0 (docs/design/kernels/).
            // On 8.0 small ones are unpacked for many rows, by cuBLASLt, which is kept out of these tests.
            const bool unpacked = m > 64 && n <= 6144 && device.capability == 80;
            const bool many = (m > 64 && !unpacked) || (m == 64 && n > 2048 && device.capability > 80);
            CHECK(std::string(selection.variant) ==
                  (many && workspace > 0 ? "gemm.scaled_mma" : "gemm.pair_multistage"));
            CHECK((selection.workspace_size == 0) == (workspace == 0 || unpacked));
          }
        }
      }
    }
  }
}

TEST_CASE("launches: how many rows of W experts may have for gemm_experts.scaled_wgmma") {
  fake_cuda::reset({fake_cuda::kH200});
  const Backend backend(0);
  for (const int64_t n : {int64_t{1} << 20, (int64_t{1} << 20) + 64}) {
    nf4_problem_t problem = NF4_PROBLEM_INIT;
    problem.op = NF4_OP_GEMM_EXPERTS;
    problem.dtype = NF4_BF16;
    problem.m = 4096;
    problem.n = n;
    problem.k = 64;
    problem.experts = 1024;
    problem.top_k = 1;
    int32_t supported = -1;
    char reason[256] = "";
    require_success(nf4_variant_supports(backend.handle(), "gemm_experts.scaled_wgmma", &problem, &supported, reason,
                                         sizeof reason));
    CHECK(std::string(reason) == (n == 1 << 20 ? "" : "all experts must have 2^30 rows of W at most"));
    CHECK(supported == (n == 1 << 20 ? 1 : 0));
  }
}

// The variant of a product by 32 experts [2880, 2880].
nf4_selection_t selected_for(const Backend& backend, int64_t slots, bool sorted, size_t workspace,
                             nf4_dtype_t dtype = NF4_BF16) {
  nf4_problem_t problem = NF4_PROBLEM_INIT;
  problem.op = NF4_OP_GEMM_EXPERTS;
  problem.dtype = dtype;
  problem.m = slots;
  problem.n = problem.k = 2880;
  problem.experts = 32;
  problem.top_k = 4;
  problem.sorted = sorted;
  nf4_options_t options = NF4_OPTIONS_INIT;
  options.workspace_size = workspace;
  nf4_selection_t selection{};
  selection.struct_size = sizeof selection;
  require_success(nf4_select(backend.handle(), &problem, &options, &selection));
  return selection;
}

TEST_CASE("launches: products with experts use tensor cores, for many slots with a workspace") {
  fake_cuda::reset({fake_cuda::kH200});
  const Backend backend(0);
  const auto variant = [&](int64_t slots, bool sorted, size_t workspace, nf4_dtype_t dtype = NF4_BF16) {
    return std::string(selected_for(backend, slots, sorted, workspace, dtype).variant);
  };
  for (const bool sorted : {false, true}) {
    INFO("sorted " << sorted);
    for (const int64_t slots : {4, 32, 128, 512}) {
      CHECK(variant(slots, sorted, SIZE_MAX) == "gemm_experts.pair_tma");
      CHECK(variant(slots, sorted, 0) == "gemm_experts.pair_tma");
      CHECK(variant(slots, sorted, SIZE_MAX, NF4_F32) == "gemm_experts.slots");
    }
    for (const int64_t slots : {2048, 8192, 65536}) {
      CHECK(variant(slots, sorted, SIZE_MAX) == "gemm_experts.scaled_wgmma");
      const size_t needed = selected_for(backend, slots, sorted, SIZE_MAX).workspace_size;
      CHECK(needed >= static_cast<size_t>(slots) * 2880 * 2);
      CHECK(variant(slots, sorted, needed) == "gemm_experts.scaled_wgmma");
      const bool pair_takes_it = sorted || slots <= 8192;
      CHECK(variant(slots, sorted, needed - 1) == (pair_takes_it ? "gemm_experts.pair_tma" : "gemm_experts.slots"));
      CHECK(variant(slots, sorted, SIZE_MAX, NF4_F32) == "gemm_experts.slots");
    }
  }
  for (const fake_cuda::Device& device : kDevices) {
    if (device.capability / 10 == 9 || device.architecture < 80) continue;
    INFO("capability " << device.capability);
    fake_cuda::reset({device});
    const Backend other(0);
    for (const int64_t slots : {4, 128, 8192}) {
      CHECK(std::string(selected_for(other, slots, false, 0).variant) == "gemm_experts.pair");
    }
  }
}

// Rows of x that lie in the order of experts are multiplied where they are.
TEST_CASE("launches: products with experts need no workspace where rows lie sorted, one for each slot") {
  fake_cuda::reset({fake_cuda::kH200});
  const Backend backend(0);
  Somewhere somewhere;
  const nf4_weight_t weight = somewhere.weight(32 * 128, 256, 64, NF4_F32);
  nf4_routing_t routing = NF4_ROUTING_INIT;
  routing.experts = 32;
  routing.slots = 4096;
  routing.ends = somewhere.take<int32_t>(32, 4);
  const auto launches = [&](const nf4_routing_t& given) {
    size_t bytes = 1;
    require_success(nf4_gemm_experts_workspace(backend.handle(), NF4_BF16, &weight, &given, &bytes));
    fake_cuda::clear();
    require_success(nf4_gemm_experts(backend.handle(), somewhere.take<void>(given.slots * 128, 2), 128,
                                     somewhere.take<void>(given.slots * 256, 2), 256, NF4_BF16, &weight, nullptr,
                                     &given, nullptr, kStream));
    REQUIRE(fake_cuda::launches().size() == 1);
    const bool scaled = fake_cuda::launches().front().kernel.find("gemm_experts_scaled") != std::string_view::npos;
    return std::pair(scaled, bytes == 0);
  };
  CHECK(launches(routing) == std::pair(true, true));
  nf4_routing_t repeated = routing;
  repeated.top_k = 2;
  CHECK(launches(repeated) == std::pair(false, false));
  nf4_routing_t ordered = routing;
  ordered.order = somewhere.take<int32_t>(routing.slots, 4);
  CHECK(launches(ordered) == std::pair(false, false));
}

TEST_CASE("launches: products of the same x share a launch where they can") {
  fake_cuda::reset({fake_cuda::kH200});
  const Backend backend(0);
  struct Factor {
    int64_t rows;
    int32_t blocksize = 64;
    nf4_dtype_t absmax_dtype = NF4_F32;
  };
  // How many kernels are launched for the products of an x by such W.
  const auto launches = [&](const std::vector<Factor>& factors, int64_t m, const char* variant = nullptr,
                            nf4_dtype_t dtype = NF4_BF16) {
    nf4_options_t options = NF4_OPTIONS_INIT;
    options.variant = variant;
    Somewhere somewhere;
    std::vector<nf4_weight_t> weights;
    for (const Factor& factor : factors)
      weights.push_back(somewhere.weight(factor.rows, 8192, factor.blocksize, factor.absmax_dtype));
    std::vector<nf4_product_t> products;
    for (const nf4_weight_t& weight : weights)
      products.push_back(
          {sizeof(nf4_product_t), somewhere.take<void>(m * weight.rows, 4), weight.rows, &weight, nullptr});
    fake_cuda::clear();
    require_success(nf4_gemm_group(backend.handle(), products.data(), products.size(),
                                   somewhere.take<void>(m * 8192, 4), 8192, m, dtype, &options, kStream));
    CHECK(fake_cuda::violations() == std::vector<std::string>{});
    CHECK(all_on_the_stream());
    return fake_cuda::launches().size();
  };
  const std::vector<Factor> qkv = {{8192}, {1024}, {1024}};
  for (const int64_t m : {1, 2, 4, 8, 16, 32}) {
    INFO(m << " rows of x");
    CHECK(launches(qkv, m) == 1);
    CHECK(launches({{28672}, {28672}}, m) == 1);
    CHECK(launches({{1024, 64, NF4_U8}, {1024, 64, NF4_U8}, {8192, 64, NF4_U8}}, m) == 1);
  }
  CHECK(launches(qkv, 9, "gemm.pair_tma") == 3);      // passes of 4, 4 and 1 rows of x
  CHECK(launches(qkv, 65, "gemm.pair_stream") == 2);  // of 64 and 1
  CHECK(launches({{1}, {2}, {3}, {4}, {5}, {6}, {7}, {8}, {9}}, 1) == 3);
  CHECK(launches({{64}, {0}, {64}}, 1) == 1);
  CHECK(launches({{64}, {64, 128}, {64, 128}, {64, 128, NF4_U8}}, 1) == 3);
  CHECK(launches({{int64_t{1} << 29}, {int64_t{1} << 29}, {1}}, 1) > 0);  // more than the pair kernels take
  CHECK(launches(qkv, 1, "gemm.tiled") == 3);
  CHECK(launches(qkv, 1, nullptr, NF4_F32) == 3);
}

TEST_CASE("launches: empty shapes launch nothing but the offset of no scales and the sums of nothing") {
  fake_cuda::reset({fake_cuda::kH200});
  const Backend backend(0);
  const auto launches = [&](nf4_op_t op, int64_t m, int64_t n, int64_t k) {
    fake_cuda::clear();
    require_success(call_somewhere(backend, op, NF4_BF16, m, n, k, 64, NF4_F32, nullptr));
    return fake_cuda::launches().size();
  };
  for (const nf4_op_t op : {NF4_OP_PACK, NF4_OP_UNPACK, NF4_OP_UNPACK_ABSMAX}) {
    CHECK(launches(op, 1, 0, 64) == 0);
    CHECK(launches(op, 1, 64, 0) == 0);
  }
  CHECK(launches(NF4_OP_PACK_ABSMAX, 1, 0, 64) == 1);
  CHECK(launches(NF4_OP_GEMM, 0, 64, 64) == 0);
  CHECK(launches(NF4_OP_GEMM, 1, 0, 64) == 0);
  CHECK(launches(NF4_OP_GEMM, 1, 64, 0) == 1);
  CHECK(launches(NF4_OP_GEMM_TRANSPOSED, 0, 64, 64) == 0);
  CHECK(launches(NF4_OP_GEMM_TRANSPOSED, 1, 64, 0) == 0);
  CHECK(launches(NF4_OP_GEMM_TRANSPOSED, 1, 0, 64) == 1);
  CHECK(launches(NF4_OP_GEMM_EXPERTS, 0, 64, 64) == 0);
  CHECK(launches(NF4_OP_GEMM_EXPERTS, 1, 0, 64) == 0);
  CHECK(launches(NF4_OP_GEMM_EXPERTS, 1, 64, 0) == 1);
  CHECK(launches(NF4_OP_SORT_EXPERTS, 1, 0, 64) == 1);
  CHECK(launches(NF4_OP_SORT_EXPERTS, 1, 64, 0) == 1);
  CHECK(launches(NF4_OP_SORT_EXPERTS, 1, 0, 0) == 0);
}

}  // namespace nf4test
