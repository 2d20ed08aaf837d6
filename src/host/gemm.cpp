#include <algorithm>
#include <atomic>
#include <memory>
#include <new>

#include "decode.hpp"
#include "dispatch.hpp"
#include "gemv.hpp"
#include "host.hpp"
#include "parallel.hpp"
#include "tile.hpp"

namespace nf4 {
namespace {

constexpr int64_t kLength = 256;  // of a row of x at a time: a tile's weights and its x stay in the first-level cache
constexpr int64_t kOutputs =
    int64_t{16} * kTileRows;    // of a row of y whose sums are kept: the second-level cache holds them beside x
constexpr int64_t kPass = 256;  // rows of x at a time, a multiple of kTileLanes

struct Scratch {
  double w[kOutputs][kLength];  // of W^T all, else the first kTileRows
  double sums[kOutputs][kPass];
};
constexpr int64_t kLine = 8;  // doubles of a cache line: panels and scratch begin at one, so that no vector crosses two
constexpr auto kScratch = static_cast<int64_t>(sizeof(Scratch) / sizeof(double));

int64_t round_up(int64_t size, int64_t multiple) { return (size + multiple - 1) / multiple * multiple; }

// Rows m0 to m0 + m of x as panels [ceil(m / kTileLanes), length, kTileLanes] of fp64, with zeros for rows that it does
// not have.
template <class T>
void make_panels(const HostProduct& product, int64_t m0, int64_t m, int threads, double* panels) {
  const T* const x = static_cast<const T*>(product.x);
  const int64_t length = product.length();
  parallel_for(threads, round_up(m, kTileLanes) / kTileLanes, length * 4 * kTileLanes,
               [&](int64_t first, int64_t last) {
                 for (int64_t row = first * kTileLanes; row < last * kTileLanes; ++row) {
                   const int64_t begin = row < m ? product.x_row(m0 + row) * product.ldx : 0;
                   double* out = panels + row / kTileLanes * kTileLanes * length + row % kTileLanes;
                   for (int64_t k = 0; k < length; ++k)
                     out[k * kTileLanes] = row < m ? static_cast<double>(to_float(x[begin + k])) : 0.0;
                 }
               });
}

// Fetches the codes of kLength elements from `begin` on. The next columns of a row lie behind those of other rows, too
// far for a CPU to foresee.
void fetch(const Weight& weight, int64_t begin) {
  constexpr int64_t kLineCodes = 128;
  const int64_t end = std::min(begin + kLength, weight.rows * weight.cols);
  for (int64_t i = begin; i < end; i += kLineCodes) __builtin_prefetch(weight.codes + i / 2);
}

// In fp64 codebook * absmax is exact.
void decode_exactly(const Weight& weight, int64_t begin, int64_t size, double* out) {
  decode<double>(weight, begin, begin + size, out, [](double value) { return value; });
}

// w [kTileRows, size] = columns k to k + size of rows n to n + kTileRows of W, of which those from `last` on repeat row
// last - 1.
void decode_rows(const Weight& weight, int64_t n, int64_t last, int64_t k, int64_t size, double (*w)[kLength]) {
  for (int64_t r = 0; r < kTileRows; ++r) {
    const int64_t begin = std::min(n + r, last - 1) * weight.cols + k;
    fetch(weight, begin + kLength);
    decode_exactly(weight, begin, size, w[r]);
  }
}

// w [count, size] = columns k to k + count of rows n to n + size of W, transposed, and as many more as make whole
// tiles, which repeat the last.
void decode_columns(const Weight& weight, int64_t k, int64_t count, int64_t n, int64_t size, double (*w)[kLength]) {
  double row[kOutputs];
  for (int64_t i = 0; i < size; ++i) {
    decode_exactly(weight, (n + i) * weight.cols + k, count, row);
    for (int64_t c = 0; c < round_up(count, kTileRows); ++c) w[c][i] = row[std::min(c, count - 1)];
  }
}

// scratch.sums [count, lanes] = x times outputs first to first + count. The last tile may have outputs left: it repeats
// the last.
void multiply_outputs(const HostProduct& product, int64_t first, int64_t count, const double* panels, int64_t lanes,
                      MultiplyTile multiply, Scratch& scratch) {
  const Weight& weight = product.weight;
  const int64_t length = product.length();
  for (int64_t r = 0; r < round_up(count, kTileRows); ++r) std::fill_n(scratch.sums[r], lanes, 0.0);
  for (int64_t k = 0; k < length; k += kLength) {
    const int64_t size = std::min(kLength, length - k);
    if (product.transposed) decode_columns(weight, first, count, k, size, scratch.w);
    for (int64_t r = 0; r < count; r += kTileRows) {
      if (!product.transposed) decode_rows(weight, first + r, first + count, k, size, scratch.w);
      for (int64_t lane = 0; lane < lanes; lane += kTileLanes) {
        multiply(scratch.w[product.transposed ? r : 0], kLength, panels + lane * length + k * kTileLanes, size,
                 scratch.sums[r] + lane, kPass);
      }
    }
  }
}

// Products with rows m0 to m0 + m of x, at most kPass.
template <class T>
void multiply_pass(const HostProduct& product, int64_t m0, int64_t m, int threads, double* panels, Scratch* scratches) {
  const T* bias = static_cast<const T*>(product.bias);
  T* const y = static_cast<T*>(product.y);
  make_panels<T>(product, m0, m, threads, panels);
  const int64_t lanes = round_up(m, kTileLanes);
  const MultiplyTile multiply = multiply_tile();
  std::atomic<int> ranges = 0;
  parallel_for(threads, product.outputs, product.length() * (lanes + 8) / 16, [&](int64_t first, int64_t last) {
    Scratch& scratch = scratches[ranges++];
    for (int64_t n = first; n < last; n += kOutputs) {
      const int64_t count = std::min(kOutputs, last - n);
      multiply_outputs(product, product.first + n, count, panels, lanes, multiply, scratch);
      for (int64_t i = 0; i < m; ++i) {
        T* const out = y + product.y_row(m0 + i) * product.ldy + n;
        const double scale = product.scale_of(m0 + i);
        for (int64_t r = 0; r < count; ++r) {
          const double addend = bias != nullptr ? static_cast<double>(to_float(bias[n + r])) : 0.0;
          out[r] = from_float<T>(static_cast<float>((scratch.sums[r][i] + addend) * scale));
        }
      }
    }
  });
}

int threads_of(const HostProduct& product, const Device& device) {
  return static_cast<int>(std::clamp<int64_t>(product.outputs / kTileRows, 1, device.multiprocessors));
}

// Of the panels of a pass, in doubles.
int64_t panels_size(const HostProduct& product) {
  return round_up(std::min(product.m, kPass), kTileLanes) * product.length();
}

HostProduct product_of(const GemmArgs& args) {
  return {args.y, args.ldy, args.x, args.ldx, args.m, args.dtype, args.weight, 0, args.weight.rows, args.bias};
}

HostProduct product_of(const GemmTransposedArgs& args) {
  HostProduct product{args.y,     args.ldy,    args.x, args.ldx,         args.m,
                      args.dtype, args.weight, 0,      args.weight.cols, nullptr};
  product.transposed = true;
  return product;
}

}  // namespace

// Panels of x, and a tile's weights and its sums for each thread.
int64_t host_product_scratch(const HostProduct& product, const Device& device) {
  if (host_gemv_supports(product)) return host_gemv_scratch(product);
  return panels_size(product) + threads_of(product, device) * kScratch + kLine;
}

void host_product(const HostProduct& product, const Device& device, double* scratch) {
  if (host_gemv_supports(product)) return host_gemv(product, device, scratch);
  const int threads = threads_of(product, device);
  void* memory = scratch;
  size_t space = static_cast<size_t>(host_product_scratch(product, device)) * sizeof(double);
  auto* const panels = static_cast<double*>(std::align(kLine * sizeof(double), sizeof(double), memory, space));
  auto* const scratches = new (panels + panels_size(product)) Scratch[static_cast<size_t>(threads)];
  with_dtype(product.dtype, [&](auto type) {
    for (int64_t m = 0; m < product.m; m += kPass)
      multiply_pass<decltype(type)>(product, m, std::min(kPass, product.m - m), threads, panels, scratches);
  });
}

int64_t host_gemm_scratch(const GemmArgs& args, const Device& device) {
  return host_product_scratch(product_of(args), device);
}

int host_gemm(const GemmArgs& args, const Device& device, int, Stream) {
  host_product(product_of(args), device, static_cast<double*>(args.workspace));
  return 0;
}

int64_t host_gemm_transposed_scratch(const GemmTransposedArgs& args, const Device& device) {
  return host_product_scratch(product_of(args), device);
}

int host_gemm_transposed(const GemmTransposedArgs& args, const Device& device, int, Stream) {
  host_product(product_of(args), device, static_cast<double*>(args.workspace));
  return 0;
}

}  // namespace nf4
