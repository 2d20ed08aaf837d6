// pack.binned: pack as fast as memory gives the weights, without a division or 15 comparisons for each.
//
// A warp's unit is `steps` times 512 consecutive bytes, 16 to a lane, all under way at once:
//
//     lane            0           1       ...       31
//     step 0     [ 8 weights | 8 weights | ... | 8 weights ]   or 4 of f32
//     step 1     [ 8 weights | 8 weights | ... | 8 weights ]
//     ...
//
// The largest magnitude of a block is found among the weights of a lane; among the lanes of a step that share the
// block, by shuffles; among the steps that do; and, where a block is larger than a unit, among warps, through shared
// memory. How weights are coded is told in binned.hpp. Look-ups never conflict: 32 bins lie in 32 banks.
#include <type_traits>

#include "device/launch.cuh"
#include "device/math.hpp"
#include "device/ptx.cuh"
#include "device/vector.cuh"
#include "device/warp.hpp"
#include "dispatch.hpp"
#include "families.hpp"
#include "pack/binned.hpp"

namespace nf4 {
namespace {

constexpr int kLargestBlock = 4096;  // of the format

struct Config {
  int threads;  // per block
  int steps;    // of a unit
  int blocks;   // that an SM shall hold
  Grid grid;

  std::string text() const {
    return "threads=" + std::to_string(threads) + " steps=" + std::to_string(steps) +
           " blocks=" + std::to_string(blocks) + " grid=" + name_of(grid);
  }
  bool operator==(const Config&) const = default;
};

constexpr Config kConfigs[] = {
    {256, 4, 4, Grid::tiles},    {256, 4, 4, Grid::resident}, {128, 8, 6, Grid::tiles},
    {128, 8, 6, Grid::resident}, {256, 8, 3, Grid::resident}, {512, 4, 2, Grid::resident},
};

template <class T>
__device__ const BinTable<T> kDeviceBinTable = kBinTable<T>;

// The table in shared memory, at a multiple of 128 bytes, so that an entry's address is an or.
struct SharedBins {
  uint32_t address;

  __device__ uint32_t first(uint32_t at) const { return load_shared(address | at); }
  __device__ uint32_t second(uint32_t at) const { return load_shared<4 * kBins>(address | at); }
};

// A magnitude as a whole number that compares as the magnitude does, Inf above every number and NaN above Inf.
template <class T>
struct Magnitude {
  static __device__ uint32_t largest(const Vector<T>& weights) {  // two at once
    uint32_t pair = 0;
    for (const uint32_t word : weights.words) pair = __vmaxu2(pair, word & 0x7fff7fffu);
    return max(pair >> 16, pair & 0xffffu);
  }
  static __device__ float value(uint32_t magnitude) { return to_float(T{static_cast<uint16_t>(magnitude)}); }
};

template <>
struct Magnitude<float> {
  static __device__ uint32_t largest(const Vector<float>& weights) {
    uint32_t result = 0;
    for (const uint32_t word : weights.words) result = max(result, word & 0x7fffffffu);
    return result;
  }
  static __device__ float value(uint32_t magnitude) { return bits_to_float(magnitude); }
};

// The rest of the matrix that is no whole block or unit: a warp per block of the format, in the plainest way.
template <class T>
__device__ void pack_rest(uint8_t* codes, float* absmax, const T* w, int64_t begin, int64_t end, int log2_blocksize,
                          int warp, int warps, int lane) {
  const int64_t blocksize = int64_t{1} << log2_blocksize;
  for (int64_t first = begin + warp * blocksize; first < end; first += warps * blocksize) {
    const int64_t last = min(first + blocksize, end);
    uint32_t largest = 0;
    for (int64_t i = first + lane; i < last; i += kWarpSize) {
      largest = max(largest, float_to_bits(to_float(w[i])) & 0x7fffffffu);
    }
    for (int other = kWarpSize / 2; other > 0; other /= 2) {
      largest = max(largest, __shfl_xor_sync(~0u, largest, other));
    }
    const float scale = bits_to_float(largest);
    if (lane == 0) absmax[first >> log2_blocksize] = scale;
    for (int64_t i = first + 2 * lane; i < last; i += 2 * kWarpSize) {
      const uint32_t high = encode(to_float(w[i]) / scale);
      const uint32_t low = i + 1 < last ? encode(to_float(w[i + 1]) / scale) : kZeroCode;
      codes[i / 2] = static_cast<uint8_t>(high << 4 | low);
    }
  }
}

template <class T, int ConfigIndex>
__global__ void __launch_bounds__(kConfigs[ConfigIndex].threads,
                                  resident_blocks(kConfigs[ConfigIndex].threads, kConfigs[ConfigIndex].blocks))
    pack_binned(uint8_t* __restrict__ codes,  // [ceil(elements / 2)]
                float* __restrict__ absmax,   // [ceil(elements / blocksize)]
                const T* __restrict__ w,      // [elements]
                int64_t elements, int log2_blocksize) {
  constexpr Config config = kConfigs[ConfigIndex];
  constexpr int kVector = Vector<T>::kCount;
  constexpr int kStep = kWarpSize * kVector;   // weights of a step
  constexpr int kUnit = config.steps * kStep;  // of a warp
  constexpr int kWarps = config.threads / kWarpSize;
  constexpr int kTile = kWarps * kUnit;  // of a CUDA block
  static_assert(kTile % kLargestBlock == 0, "a block of the format must not pass from one CUDA block to another");
  using Word = std::conditional_t<kVector == 8, uint32_t, uint16_t>;  // of a vector's codes

  __shared__ __align__(4 * kBins) uint32_t words[BinTable<T>::kWords];
  __shared__ uint32_t largest_of[kWarps];
  const int lane = threadIdx.x % kWarpSize;
  const int warp = threadIdx.x / kWarpSize;
  const int blocksize = 1 << log2_blocksize;
  const bool alone = blocksize <= kUnit;  // a warp needs no other
  const int64_t portion = alone ? kUnit : blocksize;
  const int64_t whole = elements & -portion;  // what whole units and blocks cover

  Vector<T> weights[config.steps];
  const auto load = [&](int64_t begin) {
    const T* const from = w + begin + lane * kVector;
#pragma unroll
    for (int step = 0; step < config.steps; ++step) weights[step] = load_vector(from + step * kStep);
  };

  int64_t tile = int64_t{blockIdx.x} * kTile;
  if (tile + warp * kUnit < whole) load(tile + warp * kUnit);
  for (int i = threadIdx.x; i < BinTable<T>::kWords; i += config.threads) words[i] = kDeviceBinTable<T>.words[i];
  __syncthreads();
  const SharedBins table{static_cast<uint32_t>(__cvta_generic_to_shared(words))};
  while (tile < whole) {
    const int64_t begin = tile + warp * kUnit;
    const bool has_unit = begin < whole;
    uint32_t largest[config.steps];
    if (has_unit) {
#pragma unroll
      for (int step = 0; step < config.steps; ++step) largest[step] = Magnitude<T>::largest(weights[step]);
#pragma unroll
      for (int other = 1; other < kWarpSize; other *= 2) {
        if (blocksize <= other * kVector) break;
#pragma unroll
        for (int step = 0; step < config.steps; ++step) {
          largest[step] = max(largest[step], __shfl_xor_sync(~0u, largest[step], other));
        }
      }
#pragma unroll
      for (int span = 1; span < config.steps; span *= 2) {
        if (blocksize <= span * kStep) break;
#pragma unroll
        for (int step = 0; step < config.steps; ++step) {
          if ((step & span) == 0) largest[step] = largest[step + span] = max(largest[step], largest[step + span]);
        }
      }
    }
    if (!alone) {
      if (has_unit && lane == 0) largest_of[warp] = largest[0];
      __syncthreads();
      const int sharing = blocksize / kUnit;  // warps of a block
      uint32_t all = 0;
      for (int other = warp & -sharing; has_unit && other < (warp & -sharing) + sharing; ++other) {
        all = max(all, largest_of[other]);
      }
#pragma unroll
      for (int step = 0; step < config.steps; ++step) largest[step] = all;
      __syncthreads();  // before the next tile's are written
    }
    if (has_unit) {
      auto* const to = reinterpret_cast<Word*>(codes + begin / 2) + lane;
#pragma unroll
      for (int step = 0; step < config.steps; ++step) {
        float values[kVector];
#pragma unroll
        for (int j = 0; j < kVector; ++j) values[j] = to_float(weights[step][j]);
        const uint32_t word = codes_of<T>(values, Magnitude<T>::value(largest[step]), table);
        __stcs(to + step * kWarpSize, static_cast<Word>(word));
      }
      if (((static_cast<int>(begin) + lane * kVector) & (blocksize - 1)) == 0) {  // a block begins with the lane
        float* const scales = absmax + ((begin + lane * kVector) >> log2_blocksize);
#pragma unroll
        for (int step = 0; step < config.steps; ++step) {
          if ((step * kStep & (blocksize - 1)) == 0) {
            scales[step * kStep >> log2_blocksize] = Magnitude<T>::value(largest[step]);
          }
        }
      }
    }
    tile += int64_t{gridDim.x} * kTile;
    if (tile + warp * kUnit < whole) load(tile + warp * kUnit);
  }
  if (blockIdx.x == gridDim.x - 1) {
    pack_rest(codes, absmax, w, whole, elements, log2_blocksize, warp, kWarps, lane);
  }
}

int launch_pack_binned(const PackArgs& args, const Device& device, int config, Stream stream) {
  return with_dtype(args.dtype, [&](auto type) {
    using T = decltype(type);
    return with_config<kConfigs>(config, [&](auto index) {
      constexpr int kIndex = decltype(index)::value;
      constexpr Config kConfig = kConfigs[kIndex];
      const int64_t elements = args.rows * args.cols;
      const int64_t tiles = ceil_div(elements, kConfig.threads * kConfig.steps * Vector<T>::kCount);
      return launch(pack_binned<T, kIndex>, grid_for(tiles, kConfig.grid, kConfig.blocks * device.multiprocessors),
                    kConfig.threads, stream, args.codes, args.absmax, static_cast<const T*>(args.w), elements,
                    args.log2_blocksize);
    });
  });
}

const char* unsupported(const Problem& problem, const Device&) {
  if (problem.strided) return "it reads weights without gaps between rows";
  if (problem.alignment < 16) return "pointers must be aligned to 16 bytes";
  return nullptr;
}

constexpr Variant kVariants[] = {
    {"pack.binned", "codes by bins and one exact comparison, no division a weight", "exact", Op::pack, false,
     std::size(kConfigs), config_text<kConfigs>, unsupported, nullptr, erased<PackArgs, launch_pack_binned>},
};

}  // namespace

std::span<const Variant> pack_binned_variants() { return kVariants; }

}  // namespace nf4
