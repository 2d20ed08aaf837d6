// A linear layer with NF4 weights: packed once, its scales packed too (nested quantization), then applied to batches of
// any size.
//
//   c++ -std=c++17 layer.cpp -lnf4
#include <nf4/nf4.hpp>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

class Linear {
 public:
  Linear(const nf4::Handle& handle, const std::vector<float>& w, std::vector<float> bias, std::int64_t in)
      : handle_(handle), in_(in), out_(static_cast<std::int64_t>(bias.size())), bias_(std::move(bias)) {
    const nf4::PackedSize size = nf4::packed_size(out_, in_);
    codes_.resize(static_cast<std::size_t>(size.codes));
    absmax_.resize(static_cast<std::size_t>(size.absmax));
    absmax2_.resize((absmax_.size() + 255) / 256);

    std::vector<float> scales(absmax_.size());  // needed until they are packed themselves
    nf4::pack(handle, codes_, scales, nf4::ConstMatrix(w, out_, in_));
    nf4::pack_absmax(handle, absmax_, absmax2_, offset_, scales, map_);
  }

  // y [batch, out] = x [batch, in] W^T + bias
  std::vector<float> forward(const std::vector<float>& x) const {
    const auto batch = static_cast<std::int64_t>(x.size()) / in_;
    std::vector<float> y(static_cast<std::size_t>(batch * out_));
    nf4::gemm(handle_, nf4::Matrix(y, batch, out_), nf4::ConstMatrix(x, batch, in_), weight(), bias_);
    return y;
  }

  std::size_t bytes() const { return codes_.size() + absmax_.size() + 4 * (absmax2_.size() + offset_.size()); }

 private:
  // A weight is a view: cheap to make, and owning nothing.
  nf4::Weight weight() const { return {out_, in_, codes_, absmax_, {map_, absmax2_, offset_}}; }

  const nf4::Handle& handle_;
  std::int64_t in_, out_;
  std::vector<float> bias_;
  std::vector<std::uint8_t> codes_, absmax_;
  std::vector<float> absmax2_;
  std::array<float, 1> offset_{};
  std::array<float, 256> map_ = nf4::dynamic_map();
};

// The same, of the weights as they were.
std::vector<float> exact_forward(const std::vector<float>& w, const std::vector<float>& bias,
                                 const std::vector<float>& x) {
  const std::size_t out = bias.size(), in = w.size() / out;
  std::vector<float> y;
  for (auto row = x.begin(); row != x.end(); row += static_cast<std::ptrdiff_t>(in)) {
    for (std::size_t n = 0; n < out; ++n) {
      y.push_back(std::inner_product(row, row + static_cast<std::ptrdiff_t>(in), &w[n * in], bias[n]));
    }
  }
  return y;
}

double relative_error(const std::vector<float>& y, const std::vector<float>& exact) {
  double difference = 0, length = 0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    difference += std::pow(y[i] - exact[i], 2);
    length += std::pow(exact[i], 2);
  }
  return std::sqrt(difference / length);
}

int main() try {
  const std::int64_t in = 768, out = 512;
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  const auto tensor = [&](std::int64_t size) {
    std::vector<float> values(static_cast<std::size_t>(size));
    for (float& value : values) value = normal(random);
    return values;
  };

  const nf4::Handle handle(NF4_HOST_DEVICE);
  const std::vector<float> w = tensor(out * in), bias = tensor(out);
  const Linear layer(handle, w, bias, in);
  std::printf("on %s: %.2f bits a weight\n", handle.device_info().name,
              8.0 * static_cast<double>(layer.bytes()) / static_cast<double>(out * in));

  bool good = true;
  for (const std::int64_t batch : {1, 16}) {
    nf4::Problem problem;  // what forward() is about to ask for
    problem.dtype = NF4_F32;
    problem.m = batch;
    problem.n = out;
    problem.k = in;
    problem.absmax_dtype = NF4_U8;
    const nf4_selection_t selection = nf4::select(handle, problem);

    const std::vector<float> x = tensor(batch * in);
    const double error = relative_error(layer.forward(x), exact_forward(w, bias, x));
    std::printf("batch %2d: %s (%s), relative error %.4f from quantizing\n", static_cast<int>(batch), selection.variant,
                selection.reason, error);
    good = good && error < 0.15;
  }
  return good ? 0 : 1;
} catch (const nf4::Error& error) {
  std::fprintf(stderr, "%s: %s\n", nf4_status_string(error.status()), error.what());
  return 1;
}
