// How calls behave on streams: capture, order, concurrency, and which kernel a forced variant launches.
#include "catch.hpp"

#if NF4_HAVE_CUDA

#include <algorithm>
#include <atomic>
#include <chrono>
#include <set>
#include <thread>

#include "support/calls.hpp"
#include "support/dependent.hpp"

namespace nf4test {
namespace {

// One product on the GPU, its operands and its expected result.
struct Product {
  std::mt19937 random;
  WeightData data;
  Arena arena{false};
  std::unique_ptr<ArenaWeight> weight;
  Arena::Slot x, y;
  int64_t m;

  Product(unsigned seed, int64_t rows, int64_t rows_of_x, int64_t cols)
      : random(seed), data(random_weight(random, rows, cols, 64, NF4_F32)), m(rows_of_x) {
    weight = std::make_unique<ArenaWeight>(arena, data);
    x = arena.add(raw(uniform(random, static_cast<size_t>(m * cols), -1.0f, 1.0f), NF4_BF16));
    y = arena.add_output(static_cast<size_t>(m * rows) * sizeof(uint16_t));
    arena.upload();
  }

  nf4_status_t call(const Backend& backend, const nf4_options_t* options, nf4_stream_t stream) const {
    const nf4_weight_t view = weight->view();
    return nf4_gemm(backend.handle(), arena.at(y), data.rows, arena.at(x), data.cols, m, NF4_BF16, &view, nullptr,
                    options, stream);
  }

  // Whether y holds the product with x as given.
  bool right(const std::vector<uint8_t>& x_now, const char* accuracy) {
    arena.download();
    const nf4ref::Product product{data.view(), x_now.data(), data.cols, m, NF4_BF16, nullptr};
    nf4ref::Verdict verdict(NF4_BF16, nf4ref::accuracy_g(accuracy, NF4_BF16, data.cols));
    verdict.add_all(arena.after(y), data.rows, nf4ref::references(product), m, data.rows);
    return verdict.ok();
  }
  std::vector<uint8_t> x_before() const {
    const auto* bytes = arena.before<uint8_t>(x);
    return {bytes, bytes + x.size};
  }
};

struct Stream {
  cudaStream_t stream = nullptr;
  Stream() { check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking)); }
  ~Stream() { cudaStreamDestroy(stream); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
};

// The first kernel that `call` launches, and its launch's dimensions, found by capturing it.
template <class Call>
std::string captured_launch(const Call& call) {
  const Stream stream;
  cudaGraph_t graph = nullptr;
  check_cuda(cudaStreamBeginCapture(stream.stream, cudaStreamCaptureModeGlobal));
  require_success(call(stream.stream));
  check_cuda(cudaStreamEndCapture(stream.stream, &graph));
  size_t count = 1;
  cudaGraphNode_t node = nullptr;
  check_cuda(cudaGraphGetRootNodes(graph, &node, &count));
  REQUIRE(count == 1);
  cudaKernelNodeParams params{};
  check_cuda(cudaGraphKernelNodeGetParams(node, &params));
  const char* name = nullptr;
  check_cuda(cudaFuncGetName(&name, params.func));
  const std::string result = std::string(name) + " grid " + std::to_string(params.gridDim.x) + " block " +
                             std::to_string(params.blockDim.x) + " shared " + std::to_string(params.sharedMemBytes);
  check_cuda(cudaGraphDestroy(graph));
  return result;
}

}  // namespace

TEST_CASE("streams: each forced variant and config launches in a way of its own", "[gpu]") {
  REQUIRE_GPU();
  const Backend backend(0);
  const Product product(1, 320, 1, 512);  // enough rows for tiles of all sizes to make different grids
  std::set<std::string> launches;
  size_t configs = 0;
  for_each_config(backend, NF4_OP_GEMM, [&](const nf4_variant_info_t&, const nf4_options_t& options) {
    const std::string launch =
        captured_launch([&](cudaStream_t stream) { return product.call(backend, &options, stream); });
    INFO(launch);
    CHECK(launches.insert(launch).second);
    ++configs;
  });
  CHECK(launches.size() == configs);
}

// DataParallel and servers call from threads that have not called CUDA before.
TEST_CASE("streams: a thread's first call of CUDA may be one of the library", "[gpu]") {
  REQUIRE_GPU();
  const Backend backend(0);
  for_each_config(backend, NF4_OP_GEMM, [&](const nf4_variant_info_t& info, const nf4_options_t& options) {
    Product product(4, 200, 1, 1024);
    require_success(product.call(backend, &options, nullptr));  // what a process asks only once is known then
    std::string message;
    std::thread([&] {
      if (product.call(backend, &options, nullptr) != NF4_SUCCESS) message = nf4_last_error_message();
    }).join();
    CHECK(message == "");
    CHECK(product.right(product.x_before(), info.accuracy));
  });
}

TEST_CASE("streams: a captured call replays with changed inputs", "[gpu]") {
  REQUIRE_GPU();
  const Backend backend(0);
  for_each_config(backend, NF4_OP_GEMM, [&](const nf4_variant_info_t& info, const nf4_options_t& options) {
    Product product(2, 200, 1, 1024);
    const Stream stream;
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    check_cuda(cudaStreamBeginCapture(stream.stream, cudaStreamCaptureModeGlobal));
    require_success(product.call(backend, &options, stream.stream));
    check_cuda(cudaStreamEndCapture(stream.stream, &graph));
    check_cuda(cudaGraphInstantiate(&executable, graph, 0));
    std::vector<uint8_t> x = product.x_before();
    for (int replay = 0; replay < 3; ++replay) {
      std::shuffle(x.begin(), x.end(), product.random);  // of the exponents' bytes none makes an Inf
      for (size_t i = 1; i < x.size(); i += 2) x[i] = static_cast<uint8_t>((x[i] & 0x80) | 0x3f);
      check_cuda(cudaMemcpy(product.arena.at(product.x), x.data(), product.x.size, cudaMemcpyHostToDevice));
      check_cuda(cudaDeviceSynchronize());
      check_cuda(cudaGraphLaunch(executable, stream.stream));
      check_cuda(cudaStreamSynchronize(stream.stream));
      CHECK(product.right(x, info.accuracy));
    }
    check_cuda(cudaGraphExecDestroy(executable));
    check_cuda(cudaGraphDestroy(graph));
  });
}

TEST_CASE("streams: every operation can be captured, and replays", "[gpu]") {
  REQUIRE_GPU();
  const Backend backend(0);
  for (const nf4_op_t op : kAllOps) {
    for_each_config(backend, op, [&](const nf4_variant_info_t& info, const nf4_options_t& options) {
      Call call(false, op, dtypes_of(op).back(), {1, 67, 256});
      const Stream stream;
      cudaGraph_t graph = nullptr;
      cudaGraphExec_t executable = nullptr;
      check_cuda(cudaStreamBeginCapture(stream.stream, cudaStreamCaptureModeGlobal));
      require_success(call.run(backend, &options, stream.stream));
      check_cuda(cudaStreamEndCapture(stream.stream, &graph));
      check_cuda(cudaGraphInstantiate(&executable, graph, 0));
      for (int replay = 0; replay < 2; ++replay) {
        call.poison();
        check_cuda(cudaGraphLaunch(executable, stream.stream));
        check_cuda(cudaStreamSynchronize(stream.stream));
        call.check(info.accuracy);
      }
      check_cuda(cudaGraphExecDestroy(executable));
      check_cuda(cudaGraphDestroy(graph));
    });
  }
}

TEST_CASE("streams: a call waits for its own stream only, and does not wait itself", "[gpu]") {
  REQUIRE_GPU();
  const Backend backend(0);
  for_each_config(backend, NF4_OP_GEMM, [&](const nf4_variant_info_t& info, const nf4_options_t& options) {
    {
      // CUDA loads a kernel when it is first launched, and that may wait for the device.
      const Product first(2, 200, 1, 1024);
      require_success(first.call(backend, &options, nullptr));
      check_cuda(cudaDeviceSynchronize());
    }
    Product product(3, 200, 1, 1024);
    const Stream blocked;
    const Stream free_stream;
    std::atomic<bool> release{false};
    // A host function that waits holds `blocked` up; if the call synchronized, or ran on another stream, this would
    // show.
    check_cuda(cudaLaunchHostFunc(
        blocked.stream,
        [](void* flag) {
          while (!static_cast<std::atomic<bool>*>(flag)->load()) std::this_thread::yield();
        },
        &release));
    std::vector<uint16_t> y(product.y.size / sizeof(uint16_t), 0);
    const nf4_status_t status = product.call(backend, &options, blocked.stream);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // enough for the kernel, if nothing holds it up
    const cudaError_t copied = cudaMemcpyAsync(y.data(), product.arena.at(product.y), product.y.size,
                                               cudaMemcpyDeviceToHost, free_stream.stream);
    const cudaError_t synchronized = cudaStreamSynchronize(free_stream.stream);
    const cudaError_t state = cudaStreamQuery(blocked.stream);
    cudaGetLastError();  // CUDA keeps what a query answers as an error, and the next call would find it
    release = true;      // before any check that may end the test: the host function reads it
    check_cuda(cudaStreamSynchronize(blocked.stream));
    require_success(status);
    check_cuda(copied);
    check_cuda(synchronized);
    CHECK(state == cudaErrorNotReady);
    CHECK(std::all_of(y.begin(), y.end(), [](uint16_t value) { return value == 0xffff; }));  // not yet written
    CHECK(product.right(product.x_before(), info.accuracy));
  });
}

TEST_CASE("streams: a product waits for the kernels that write its weights and its x", "[gpu]") {
  REQUIRE_GPU();
  const Backend backend(0);
  for_each_config(backend, NF4_OP_GEMM, [&](const nf4_variant_info_t&, const nf4_options_t& options) {
    for (const auto& [m, grouped] : {std::pair<int64_t, bool>{1, false}, {5, false}, {1, true}, {5, true}}) {
      // Two products take turns: each packs its weights anew, from a matrix that takes longer than a launch, and the
      // second reads what the first wrote. All of it in one go, with no wait in between. In a group they follow one by
      // weights that are constant, as theirs are not.
      constexpr int64_t kSize = 2048;
      std::mt19937 random(7);
      Arena arena(false);
      const auto dense = [&] {
        return arena.add(raw(uniform(random, static_cast<size_t>(kSize * kSize), -1.0f, 1.0f), NF4_BF16));
      };
      const Arena::Slot sources[2] = {dense(), dense()};
      const Arena::Slot codes = arena.add_output(kSize * kSize / 2);
      const Arena::Slot absmax = arena.add_output(kSize * kSize / 64 * sizeof(float));
      const Arena::Slot x = arena.add(raw(uniform(random, static_cast<size_t>(m * kSize), -1.0f, 1.0f), NF4_BF16));
      const Arena::Slot y = arena.add_output(static_cast<size_t>(m * kSize) * sizeof(uint16_t));
      const Arena::Slot z = arena.add_output(static_cast<size_t>(m * kSize) * sizeof(uint16_t));
      const WeightData kept = random_weight(random, 64, kSize, 64, NF4_F32);
      const ArenaWeight kept_weight(arena, kept);
      const Arena::Slot of_kept = arena.add_output(static_cast<size_t>(m * kept.rows) * sizeof(uint16_t));
      arena.upload();
      nf4_weight_t constant = kept_weight.view();
      constant.flags = NF4_WEIGHT_CONSTANT;
      nf4_weight_t weight = NF4_WEIGHT_INIT;
      weight.rows = weight.cols = kSize;
      weight.codes = arena.at<uint8_t>(codes);
      weight.absmax = arena.at(absmax);
      bool runs = true;
      const auto round = [&](const nf4_options_t& how, bool wait) {
        const void* from = arena.at(x);
        for (int step = 0; step < 2; ++step) {
          void* to = arena.at(step == 0 ? y : z);
          require_success(nf4_pack(backend.handle(), arena.at<uint8_t>(codes), arena.at<float>(absmax),
                                   arena.at(sources[step]), kSize, NF4_BF16, kSize, kSize, 64, nullptr, nullptr));
          if (wait) check_cuda(cudaDeviceSynchronize());
          const nf4_product_t products[] = {{sizeof(nf4_product_t), arena.at(of_kept), kept.rows, &constant, nullptr},
                                            {sizeof(nf4_product_t), to, kSize, &weight, nullptr}};
          const nf4_status_t status =
              grouped
                  ? nf4_gemm_group(backend.handle(), products, 2, from, kSize, m, NF4_BF16, &how, nullptr)
                  : nf4_gemm(backend.handle(), to, kSize, from, kSize, m, NF4_BF16, &weight, nullptr, &how, nullptr);
          runs = runs && status != NF4_ERROR_UNSUPPORTED;
          if (!runs) return;
          require_success(status);
          if (wait) check_cuda(cudaDeviceSynchronize());
          from = to;
        }
      };
      round(options, true);
      if (!runs) return;
      arena.download();
      const std::vector<uint8_t> expected(arena.after<uint8_t>(z), arena.after<uint8_t>(z) + z.size);
      for (int repeat = 0; repeat < 5; ++repeat) round(options, false);
      check_cuda(cudaDeviceSynchronize());
      arena.download();
      CHECK(std::equal(expected.begin(), expected.end(), arena.after<uint8_t>(z)));
    }
  });
}

TEST_CASE("streams: a kernel that a product lets start early finds what came before complete", "[gpu]") {
  REQUIRE_GPU();
  const Backend backend(0);
  int major = 0;
  check_cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0));
  if (major < 9) {
    skip("kernels start early from compute capability 9.0 on");
    return;
  }
  int* flags = nullptr;  // what the kernel before the product sets, and what the one after it sees
  check_cuda(cudaMalloc(&flags, 2 * sizeof(int)));
  const Stream stream;
  int taken = 0;
  for (const int64_t m : {int64_t{1}, int64_t{5}, int64_t{65}}) {
    Product product(4, 320, m, 1024);
    for_each_config(backend, NF4_OP_GEMM, [&](const nf4_variant_info_t&, const nf4_options_t& options) {
      // The first round loads the kernels, which may wait for the device.
      for (int round = 0; round < 2; ++round) {
        check_cuda(cudaMemsetAsync(flags, 0, 2 * sizeof(int), stream.stream));
        check_cuda(cudaStreamSynchronize(stream.stream));
        check_cuda(set_late(flags, stream.stream));
        const nf4_status_t status = product.call(backend, &options, stream.stream);
        check_cuda(look_early(flags, flags + 1, stream.stream));
        check_cuda(cudaStreamSynchronize(stream.stream));
        if (status == NF4_ERROR_UNSUPPORTED) return;
        require_success(status);
        ++taken;
        int seen[2] = {};
        check_cuda(cudaMemcpy(seen, flags, sizeof seen, cudaMemcpyDeviceToHost));
        CHECK(seen[0] == 1);
        CHECK(seen[1] == 1);
      }
    });
  }
  CHECK(taken > 0);
  check_cuda(cudaFree(flags));
}

TEST_CASE("streams: eight threads with a stream each share one handle", "[gpu]") {
  REQUIRE_GPU();
  const Backend backend(0);
  std::vector<std::unique_ptr<Product>> products;
  for (unsigned t = 0; t < 8; ++t) products.push_back(std::make_unique<Product>(10 + t, 300 + t, 1 + t, 2048));
  std::atomic<int> failures{0};
  std::vector<std::thread> threads;
  for (auto& product : products) {
    threads.emplace_back([&backend, &failures, &product] {
      cudaStream_t stream = nullptr;
      failures += cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) != cudaSuccess;
      for (int i = 0; i < 50; ++i) failures += product->call(backend, nullptr, stream) != NF4_SUCCESS;
      failures += cudaStreamSynchronize(stream) != cudaSuccess;
      cudaStreamDestroy(stream);
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(failures == 0);
  for (auto& product : products) CHECK(product->right(product->x_before(), "codebook16"));
}

}  // namespace nf4test

#endif
