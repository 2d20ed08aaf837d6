// nf4_unpack: bit for bit fp32 arithmetic, by every variant.
#include <cstring>

#include "support/operands.hpp"
#include "support/pairwise.hpp"

namespace nf4test {
namespace {

const std::vector<int64_t> kRows = {1, 2, 3, 17, 64};
const std::vector<int64_t> kCols = {1, 2, 7, 8, 31, 33, 63, 64, 65, 3420, 8192};

void check_unpack(const Backend& backend) {
  const auto rows =
      pairwise({kDtypes.size(), kBlocksizes.size(), kAbsmaxDtypes.size(), kRows.size(), kCols.size(), 2, 2, 2}, 3);
  for_each_config(backend, NF4_OP_UNPACK, [&](const nf4_variant_info_t& info, const nf4_options_t& options) {
    std::mt19937 random(5);
    for (const auto& row : rows) {
      const nf4_dtype_t dtype = kDtypes[row[0]];
      const int64_t n = kRows[row[3]];
      const int64_t k = kCols[row[4]];
      int64_t ldw = k + (row[5] != 0 ? 5 : 0);
      const auto size = static_cast<size_t>(nf4ref::size_of(dtype));
      size_t w_skew = row[6] * size;
      size_t codes_skew = row[7];
      nf4_problem_t problem = NF4_PROBLEM_INIT;
      problem.op = NF4_OP_UNPACK;
      problem.dtype = dtype;
      problem.n = n;
      problem.k = k;
      problem.blocksize = kBlocksizes[row[1]];
      problem.absmax_dtype = kAbsmaxDtypes[row[2]];
      problem.strided = n > 1 && ldw != k;
      if (!takes(backend, info, problem, w_skew | codes_skew)) {  // a variant may decline gaps and skews, nothing else
        ldw = k;
        problem.strided = 0;
        w_skew = codes_skew = 0;
      }
      INFO("dtype " << dtype << " blocksize " << kBlocksizes[row[1]] << " absmax " << kAbsmaxDtypes[row[2]] << " " << n
                    << "x" << k << " ldw " << ldw << " skew " << w_skew << "/" << codes_skew);
      REQUIRE(takes(backend, info, problem, w_skew | codes_skew));
      WeightData data = random_weight(random, n, k, kBlocksizes[row[1]], kAbsmaxDtypes[row[2]]);
      if (data.absmax_dtype == NF4_F32) {  // and values that bend arithmetic, in turn
        constexpr float kSpecial[] = {0.0f,
                                      1e-40f,
                                      3e38f,
                                      70000.0f,
                                      std::numeric_limits<float>::infinity(),
                                      std::numeric_limits<float>::quiet_NaN(),
                                      6e-8f,
                                      1.17549435e-38f};
        auto* absmax = reinterpret_cast<float*>(data.absmax.data());
        for (int64_t i = 0; i < data.blocks(); i += 2) absmax[i] = kSpecial[random() % 8];
      }
      Arena arena(backend.on_host());
      const ArenaWeight weight(arena, data, codes_skew);
      const Arena::Slot w = arena.add_output(static_cast<size_t>(n * ldw) * size, w_skew);
      arena.upload();
      const nf4_weight_t view = weight.view();
      require_success(nf4_unpack(backend.handle(), arena.at(w), ldw, dtype, &view, &options, nullptr));
      arena.download();
      CHECK(arena.trespass({w}) == "");
      const nf4_weight_t host_view = data.view();
      int64_t wrong = 0;
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t j = 0; j < k; ++j)
          wrong += !nf4ref::unpacks_to(arena.after(w), dtype, i * ldw + j, host_view, i * k + j);
        const size_t gap = static_cast<size_t>(i * ldw + k) * size;
        wrong += std::memcmp(arena.after<char>(w) + gap, arena.before<char>(w) + gap,
                             static_cast<size_t>(ldw - k) * size) != 0;
      }
      CHECK(wrong == 0);
    }
  });
}

// Matrices over which every block of threads walks several times: byte for byte what the host backend writes.
void check_long(const Backend& backend) {
  const Backend host(NF4_HOST_DEVICE);
  struct Case {
    nf4_dtype_t dtype;
    int32_t blocksize;
    nf4_dtype_t absmax_dtype;
  };
  std::mt19937 random(41);
  for (const Case& c : {Case{NF4_BF16, 64, NF4_F32}, Case{NF4_F16, 32, NF4_U8}, Case{NF4_F32, 64, NF4_U8},
                        Case{NF4_BF16, 4096, NF4_BF16}, Case{NF4_F32, 2048, NF4_F16}}) {
    constexpr int64_t kN = 7;
    constexpr int64_t kK = 4'000'001;
    const WeightData data = random_weight(random, kN, kK, c.blocksize, c.absmax_dtype);
    const auto bytes = static_cast<size_t>(kN * kK * nf4ref::size_of(c.dtype));
    std::vector<uint8_t> expected(bytes);
    const nf4_weight_t host_view = data.view();
    require_success(nf4_unpack(host.handle(), expected.data(), kK, c.dtype, &host_view, nullptr, nullptr));
    for_each_config(backend, NF4_OP_UNPACK, [&](const nf4_variant_info_t&, const nf4_options_t& options) {
      Arena arena(false);
      const ArenaWeight weight(arena, data);
      const Arena::Slot w = arena.add_output(bytes);
      arena.upload();
      const nf4_weight_t view = weight.view();
      require_success(nf4_unpack(backend.handle(), arena.at(w), kK, c.dtype, &view, &options, nullptr));
      arena.download();
      INFO("dtype " << c.dtype << " blocksize " << c.blocksize << " absmax " << c.absmax_dtype);
      CHECK(std::memcmp(arena.after(w), expected.data(), bytes) == 0);
    });
  }
}

}  // namespace

NF4_ON_BOTH("unpack: exact fp32 arithmetic", "", check_unpack(backend))
NF4_ON_CUDA("unpack: long matrices", "", check_long(backend))

}  // namespace nf4test
