#include "gemv.hpp"

#include <algorithm>
#include <atomic>
#include <new>

#include "decode.hpp"
#include "dispatch.hpp"
#include "parallel.hpp"

namespace nf4 {
namespace {

constexpr int64_t kBytes = 16;        // of a row, a panel: its tables fill most of a first-level cache
constexpr int64_t kFewestRows = 256;  // of W that pay for the tables
constexpr int64_t kMostRows = 4096;   // of W whose sums are kept at a time
constexpr int64_t kAhead = 32;        // rows from the one that is added to the one whose codes are fetched

// What a byte of codes in one place of a row adds to the row's sum, before its scale.
using Table = double[256];

struct Scratch {
  Table tables[kBytes];
  double sums[kMostRows];
};
constexpr auto kScratch = static_cast<int64_t>(sizeof(Scratch) / sizeof(double));

int threads_of(const GemmArgs& args, const Device& device) {
  return static_cast<int>(std::min<int64_t>(args.weight.rows / kFewestRows, device.multiprocessors));
}

// In fp64 the products are exact, so each entry is rounded once, whether or not the compiler fuses.
void tabulate(const double* x, int64_t bytes, Table* tables) {
  for (int64_t i = 0; i < bytes; ++i) {
    double low[16];
    for (size_t code = 0; code < 16; ++code) low[code] = static_cast<double>(kCodebook[code]) * x[2 * i + 1];
    for (size_t high = 0; high < 16; ++high) {
      const double sum = static_cast<double>(kCodebook[high]) * x[2 * i];
      for (size_t code = 0; code < 16; ++code) tables[i][high * 16 + code] = sum + low[code];
    }
  }
}

double look_up(const Table* tables, const uint8_t* codes, int64_t bytes) {
  double sum = 0.0;
  for (int64_t i = 0; i < bytes; ++i) sum += tables[i][codes[i]];
  return sum;
}

// The same for a whole panel.
double look_up(const Table* tables, const uint8_t* codes) {
  double sum = 0.0;
  for (int64_t i = 0; i < kBytes; i += kWord) {
    const uint64_t word = word_of(codes + i);
#pragma GCC unroll 8
    for (int64_t byte = 0; byte < kWord; ++byte) sum += tables[i + byte][word >> 8 * byte & 255];
  }
  return sum;
}

// Adds what `bytes` bytes of each row, from column k on, add to the sums of rows [first, last). Rows are often a power
// of two apart, so that few sets of a cache must hold all their codes: these are fetched again for each panel.
void add_panel(const Weight& weight, int64_t first, int64_t last, int64_t k, int64_t bytes, Scratch& scratch) {
  for (int64_t row = first; row < last; ++row) {
    __builtin_prefetch(weight.codes + (std::min(row + kAhead, last - 1) * weight.cols + k) / 2);
    const int64_t begin = row * weight.cols + k;
    const int64_t end = begin + 2 * bytes;
    double& sum = scratch.sums[row - first];
    const int64_t block = begin >> weight.log2_blocksize;
    if (bytes == kBytes && block == (end - 1) >> weight.log2_blocksize) {
      sum += look_up(scratch.tables, weight.codes + begin / 2) * static_cast<double>(absmax_at(weight.absmax, block));
    } else {
      for_each_block(weight, begin, end, [&](int64_t i, int64_t part, float absmax) {
        sum += look_up(scratch.tables + (i - begin) / 2, weight.codes + i / 2, (part - i) / 2) *
               static_cast<double>(absmax);
      });
    }
  }
}

}  // namespace

bool prefers_tables(const GemmArgs& args) {
  return args.m == 1 && args.weight.cols % 2 == 0 && args.weight.rows >= kFewestRows;
}

// x in fp64, and tables and sums for each thread.
int64_t host_gemv_scratch(const GemmArgs& args, const Device& device) {
  return args.weight.cols + threads_of(args, device) * kScratch;
}

int host_gemv(const GemmArgs& args, const Device& device) {
  const Weight& weight = args.weight;
  const int threads = threads_of(args, device);
  double* const x = static_cast<double*>(args.workspace);
  auto* const scratches = new (x + weight.cols) Scratch[static_cast<size_t>(threads)];
  with_dtype(args.dtype, [&](auto type) {
    using T = decltype(type);
    const T* bias = static_cast<const T*>(args.bias);
    T* y = static_cast<T*>(args.y);
    std::transform(static_cast<const T*>(args.x), static_cast<const T*>(args.x) + weight.cols, x,
                   [](T value) { return static_cast<double>(to_float(value)); });
    std::atomic<int> ranges = 0;
    parallel_for(threads, weight.rows, weight.cols / 2, [&](int64_t begin, int64_t end) {
      Scratch& scratch = scratches[ranges++];
      for (int64_t first = begin; first < end; first += kMostRows) {
        const int64_t last = std::min(first + kMostRows, end);
        std::fill_n(scratch.sums, last - first, 0.0);
        for (int64_t k = 0; k < weight.cols; k += 2 * kBytes) {
          const int64_t bytes = std::min(kBytes, (weight.cols - k) / 2);
          tabulate(x + k, bytes, scratch.tables);
          add_panel(weight, first, last, k, bytes, scratch);
        }
        for (int64_t n = first; n < last; ++n) {
          const double addend = bias != nullptr ? static_cast<double>(to_float(bias[n])) : 0.0;
          y[n] = from_float<T>(static_cast<float>(scratch.sums[n - first] + addend));
        }
      }
    });
  });
  return 0;
}

}  // namespace nf4
