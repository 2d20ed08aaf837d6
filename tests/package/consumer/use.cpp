// nf4.hpp: what it computes, and what it says when a buffer is too small.
#include <nf4/nf4.hpp>

#include <cstdio>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

// A product's weight must outlive the call that it is in: a temporary would not.
static_assert(std::is_constructible_v<decltype(nf4::Product::weight), nf4::Weight&>);
static_assert(std::is_constructible_v<decltype(nf4::Product::weight), const nf4_weight_t&>);
static_assert(!std::is_constructible_v<decltype(nf4::Product::weight), nf4::Weight>);

int failures = 0;

void expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "failed: %s\n", what);
  ++failures;
}

// Runs `call`, which must throw an INVALID_ARGUMENT; with a message, that very one.
template <class Call>
void expect_error(Call call, const std::string& message = "") {
  try {
    call();
    expect(false, ("no error, expected: " + message).c_str());
  } catch (const nf4::Error& error) {
    expect(error.status() == NF4_ERROR_INVALID_ARGUMENT, "status INVALID_ARGUMENT");
    expect(*error.what() != '\0', "an error has a message");
    expect(message.empty() || message == error.what(), error.what());
  }
}

void products(const nf4::Handle& handle) {
  const std::vector<float> w = {2, 0, 0, 0, -2, 0};  // exact in NF4: 1, 0 and -1 times absmax
  std::vector<std::uint8_t> codes(3);
  std::vector<float> absmax(1), again(6), y(2), y2(4);
  nf4::pack(handle, codes, absmax, nf4::ConstMatrix(w, 2, 3));
  const nf4::Weight weight(2, 3, codes, absmax);
  nf4::unpack(handle, nf4::Matrix(again, 2, 3), weight);
  expect(again == w, "unpack(pack(w)) == w");

  const std::vector<float> x = {1, 2, 3}, bias = {10, 20}, x2 = {1, 2, 3, -1, 4, 5, 6};  // ld 4
  nf4::gemv(handle, y, x, weight, bias);
  expect(y == std::vector<float>{12, 16}, "gemv");
  nf4::gemm(handle, nf4::Matrix(y2, 2, 2), nf4::ConstMatrix(x2, 2, 3, 4), weight);
  expect(y2 == std::vector<float>{2, -4, 8, -10}, "gemm");

  std::vector<float> group1(4), group2(4);
  nf4::gemm_group(handle, {{nf4::Matrix(group1, 2, 2), weight, bias}, {nf4::Matrix(group2, 2, 2), weight}},
                  nf4::ConstMatrix(x2, 2, 3, 4));
  expect(group1 == std::vector<float>{12, 16, 18, 10} && group2 == y2, "gemm_group");
  expect(nf4::gemm_workspace(handle, 1, NF4_F32, weight) == 0, "gemm_workspace: the host needs none");
  expect(nf4::gemm_group_workspace(handle, {{nf4::Matrix(group1, 2, 2), weight}}) == 0, "gemm_group_workspace");
  expect_error(
      [&] {
        nf4::gemm_group(handle, {{nf4::Matrix(y, 1, 2), weight}}, nf4::ConstMatrix(x2, 2, 3));
      },
      "gemm_group: y.rows is 1, x.rows is 2");

  expect_error([&] { nf4::pack(handle, codes, nf4::Span<float>(), nf4::ConstMatrix(w, 2, 3)); },
               "pack: absmax holds 0 elements, expected 1");
  expect_error([&] { nf4::Weight(2, 4, codes, absmax); }, "Weight: codes holds 3 elements, expected 4");
  expect_error([&] { nf4::ConstMatrix(x2, 2, 3, 5); },
               "Matrix: [2, 3] with leading dimension 5 does not fit in 7 elements");
  expect_error([&] { nf4::unpack(handle, nf4::Matrix(again, 3, 2), weight); }, "unpack: w.rows is 3, weight.rows is 2");
  expect_error([&] { nf4::gemv(handle, y, y, weight); }, "gemv: x holds 2 elements, expected 3");
  expect_error([&] { nf4::gemv(handle, y, x, weight, absmax); }, "gemv: bias holds 1 elements, expected 2");
  expect_error([&] { nf4::gemv(handle, y, codes, weight); }, "gemv: y.dtype is 0, x.dtype is 3");
  expect_error([&] { nf4::gemm(handle, nf4::Matrix(y, 1, 2), nf4::ConstMatrix(x2, 2, 3), weight); },
               "gemm: y.rows is 1, x.rows is 2");
  expect_error([&] { nf4::packed_size(-1, 2); });
}

void experts(const nf4::Handle& handle) {
  std::vector<float> w(2 * 64, 1.0f);  // two experts of one row: of ones, and of twos
  for (size_t i = 64; i < w.size(); ++i) w[i] = 2.0f;
  std::vector<std::uint8_t> codes(64);
  std::vector<float> absmax(2), y(4), again(4);
  nf4::pack(handle, codes, absmax, nf4::ConstMatrix(w, 2, 64));
  const nf4::Weight weight(2, 64, codes, absmax);
  std::vector<float> x(2 * 64, 1.0f);
  for (size_t i = 64; i < x.size(); ++i) x[i] = -1.0f;
  const std::vector<std::int64_t> ids = {1, 0, 0, 7};
  const std::vector<float> bias = {1, 2}, scale = {1, 2, 3, 4};
  const nf4::ConstMatrix rows(x, 2, 64);
  nf4::Routing routing = nf4::Routing::of_ids(2, ids, 2);
  nf4::gemm_experts(handle, nf4::Matrix(y, 4, 1), rows, weight, routing.scaled_by(scale), bias);
  expect(y == std::vector<float>{130, 130, -189, 0}, "gemm_experts");
  expect(nf4::gemm_experts_workspace(handle, NF4_F32, weight, routing) == 0, "gemm_experts_workspace");

  std::vector<std::int32_t> order(4), ends(2);
  nf4::sort_experts(handle, order, ends, routing);
  expect(order == std::vector<std::int32_t>{1, 2, 0, 3} && ends == std::vector<std::int32_t>{2, 3}, "sort_experts");
  nf4::gemm_experts(handle, nf4::Matrix(again, 4, 1), rows, weight,
                    nf4::Routing::of_sorted(order, ends, 2).scaled_by(scale), bias);
  expect(again == y, "gemm_experts by sorted slots");

  expect_error([&] { nf4::gemm_experts(handle, nf4::Matrix(y, 3, 1), rows, weight, routing); },
               "gemm_experts: y.rows is 3, routing.slots is 4");
  expect_error([&] { nf4::gemm_experts(handle, nf4::Matrix(y, 4, 1), nf4::ConstMatrix(x, 1, 64), weight, routing); },
               "gemm_experts: x.rows is 1, routing.slots / routing.top_k is 2");
  expect_error([&] { nf4::gemm_experts(handle, nf4::Matrix(y, 2, 2), rows, weight, nf4::Routing()); });
  expect_error(
      [&] {
        nf4::gemm_experts(handle, nf4::Matrix(y, 4, 1), rows, weight, routing, nf4::ConstData(x.data(), 1, NF4_F32));
      },
      "gemm_experts: bias holds 1 elements, expected 2");
  expect_error([&] { nf4::Routing::of_ids(2, ids, 2).scaled_by(bias); }, "Routing: scale holds 2 elements, expected 4");
  expect_error([&] { nf4::sort_experts(handle, nf4::Span<std::int32_t>(), ends, routing); },
               "sort_experts: order holds 0 elements, expected 4");
}

void transposed(const nf4::Handle& handle) {
  std::vector<float> w(2 * 32, 1.0f);  // a row of ones, and one of twos
  for (size_t i = 32; i < w.size(); ++i) w[i] = 2.0f;
  std::vector<std::uint8_t> codes(32);
  std::vector<float> absmax(2), y(3 * 32);
  nf4::pack(handle, codes, absmax, nf4::ConstMatrix(w, 2, 32), 32);
  const nf4::Weight weight(2, 32, codes, absmax, 32);
  const std::vector<float> x = {1, 1, 0, 1, -3, 2};
  nf4::gemm_transposed(handle, nf4::Matrix(y, 3, 32), nf4::ConstMatrix(x, 3, 2), weight);
  expect(y[0] == 3 && y[32] == 2 && y[95] == 1, "gemm_transposed");
  expect(nf4::gemm_transposed_workspace(handle, 3, NF4_F32, weight) == 0, "gemm_transposed_workspace");
  expect_error([&] { nf4::gemm_transposed(handle, nf4::Matrix(y, 3, 32), nf4::ConstMatrix(x, 2, 3), weight); },
               "gemm_transposed: y.rows is 3, x.rows is 2");
  expect_error([&] { nf4::gemm_transposed(handle, nf4::Matrix(y, 2, 32), nf4::ConstMatrix(x, 2, 3), weight); },
               "gemm_transposed: x.cols is 3, weight.rows is 2");
  expect_error([&] { nf4::gemm_transposed(handle, nf4::Matrix(y, 3, 16), nf4::ConstMatrix(x, 3, 2), weight); },
               "gemm_transposed: y.cols is 16, weight.cols is 32");
}

void nested_absmax(const nf4::Handle& handle) {
  const auto map = nf4::dynamic_map();
  const std::vector<float> scales = {1, 2, 3};
  std::vector<std::uint8_t> codes(96, 0x77), absmax_codes(3);
  std::vector<float> absmax2(1), offset(1), again(3);
  nf4::pack_absmax(handle, absmax_codes, absmax2, offset, scales, map);
  const nf4::Weight weight(3, 64, codes, absmax_codes, {map, absmax2, offset});
  nf4::unpack_absmax(handle, again, weight);
  expect(offset[0] == 2.0f && again[1] == 2.0f, "pack_absmax, unpack_absmax");
  expect_error(
      [&] {
        nf4::Weight(3, 64, codes, absmax_codes, {map, absmax2, {}});
      },
      "Weight: nested.offset holds 0 elements, expected 1");
}

void selection(const nf4::Handle& handle) {
  nf4::Problem problem;
  problem.n = problem.k = 64;
  const std::string selected = nf4::select(handle, problem).variant;
  bool listed = false;
  for (const auto& variant : nf4::variants(handle, NF4_OP_GEMM)) listed = listed || variant.name == selected;
  expect(listed, "the selected variant is one of those listed");

  nf4::Options options;
  options.variant = "no.such.variant";
  try {
    nf4::select(handle, problem, options);
    expect(false, "an unknown variant is an error");
  } catch (const nf4::Error& error) {
    expect(error.status() == NF4_ERROR_UNKNOWN_VARIANT, "status UNKNOWN_VARIANT");
  }
}

}  // namespace

int main() {
  nf4::Handle first(NF4_HOST_DEVICE);
  const nf4::Handle handle = std::move(first);
  expect(first.get() == nullptr && handle.get() != nullptr, "a handle moves");
  expect(handle.device_info().device == NF4_HOST_DEVICE, "device_info");
  expect(nf4::codebook()[15] == 1.0f, "codebook");
  products(handle);
  experts(handle);
  transposed(handle);
  nested_absmax(handle);
  selection(handle);
  return failures ? 1 : 0;
}
