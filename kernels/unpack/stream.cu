// unpack.stream: unpack as fast as memory takes the weights.
//
// A warp's unit is 1024 consecutive weights of 16 bits, or 512 of f32: blocks of the format cover it, or it lies in
// one. It is unpacked in 4 steps. In each the warp makes 512 bytes of weights, 16 to a lane, which go out in one
// coalesced store; the 4 or 2 bytes of codes that a lane needs for it are a coalesced load too:
//
//     lane            0           1       ...       31
//     step 0     [ 8 weights | 8 weights | ... | 8 weights ]   or 4 of f32
//     ...
//     step 3     [ 8 weights | 8 weights | ... | 8 weights ]
//
// All codes of a unit are under way before the first is used, those of the next unit while this one is unpacked, and
// the first before the table is made. Scales: lane b decodes that of the unit's block b, once, in whatever way it is
// stored; a shuffle a step hands it to the lanes that need it. Look-ups never conflict: 16 values lie in 16 banks.
#include <type_traits>

#include "device/launch.cuh"
#include "device/math.hpp"
#include "device/ptx.cuh"
#include "device/table.cuh"
#include "device/vector.cuh"
#include "device/warp.hpp"
#include "dispatch.hpp"
#include "families.hpp"
#include "format/codebook.hpp"

namespace nf4 {
namespace {

struct Config {
  int threads;  // per block
  int blocks;   // that an SM shall hold
  Grid grid;
  bool streaming;  // weights leave the L2 cache first, else as it sees fit

  std::string text() const {
    return "threads=" + std::to_string(threads) + " blocks=" + std::to_string(blocks) + " grid=" + name_of(grid) +
           " stores=" + (streaming ? "streaming" : "cached");
  }
  bool operator==(const Config&) const = default;
};

constexpr Config kConfigs[] = {
    {256, 6, Grid::tiles, true},     {256, 6, Grid::resident, true}, {128, 12, Grid::tiles, true},
    {512, 3, Grid::resident, true},  {256, 4, Grid::resident, true}, {256, 6, Grid::tiles, false},
    {256, 6, Grid::resident, false},
};

// The codebook in shared memory, at a multiple of 256 bytes: the address of a value is that of the table with its last
// byte replaced by the value's offset, one instruction where an offset comes as a byte of a word. Every thread of the
// block must call make().
struct Table {
  uint32_t address;

  static __device__ Table make() {
    __shared__ __align__(256) float values[16];
    if (threadIdx.x < 16) values[threadIdx.x] = kDeviceCodebook[threadIdx.x];
    __syncthreads();
    return {static_cast<uint32_t>(__cvta_generic_to_shared(values))};
  }
  __device__ float at(uint32_t offsets, int byte) const {
    return bits_to_float(load_shared(__byte_perm(offsets, address, 0x7650 | byte)));
  }
};

// What a lane holds of a unit.
template <class T>
struct Unit {
  static constexpr int kVector = Vector<T>::kCount;
  static constexpr int kStep = kWarpSize * kVector;  // weights of a step
  static constexpr int kSteps = 4;
  static constexpr int kWeights = kSteps * kStep;  // no more than 32 blocks of the format, a lane each
  using Codes = std::conditional_t<kVector == 8, uint32_t, uint16_t>;  // of a step

  Codes codes[kSteps];
  float scale;  // of the unit's block `lane`, if it has so many

  static __device__ Unit load(const Weight& weight, int64_t begin, int lane) {
    Unit unit;
    const auto* const codes = reinterpret_cast<const Codes*>(weight.codes + begin / 2) + lane;
#pragma unroll
    for (int step = 0; step < kSteps; ++step) unit.codes[step] = __ldcs(codes + step * kWarpSize);
    unit.scale = lane << weight.log2_blocksize < kWeights
                     ? absmax_at(weight.absmax, (begin >> weight.log2_blocksize) + lane)
                     : 0.0f;
    return unit;
  }
};

template <class T, int ConfigIndex>
__global__ void __launch_bounds__(kConfigs[ConfigIndex].threads,
                                  resident_blocks(kConfigs[ConfigIndex].threads, kConfigs[ConfigIndex].blocks))
    unpack_stream(T* __restrict__ w,  // [weight.rows, weight.cols], without gaps
                  const __grid_constant__ Weight weight) {
  using Unit = Unit<T>;
  constexpr Config config = kConfigs[ConfigIndex];
  constexpr int64_t kTile = config.threads / kWarpSize * Unit::kWeights;
  const int lane = threadIdx.x % kWarpSize;
  const int64_t elements = weight.rows * weight.cols;
  const int64_t whole = elements / Unit::kWeights * Unit::kWeights;  // what units cover
  const int64_t stride = gridDim.x * kTile;
  int64_t begin = blockIdx.x * kTile + threadIdx.x / kWarpSize * Unit::kWeights;
  Unit next;
  if (begin < whole) next = Unit::load(weight, begin, lane);
  const Table table = Table::make();
  for (; begin < whole; begin += stride) {
    const Unit unit = next;
    if (begin + stride < whole) next = Unit::load(weight, begin + stride, lane);
    T* const out = w + begin + lane * Unit::kVector;
#pragma unroll
    for (int step = 0; step < Unit::kSteps; ++step) {
      const int offset = step * Unit::kStep + lane * Unit::kVector;  // in the unit
      const float scale = __shfl_sync(~0u, unit.scale, offset >> weight.log2_blocksize);
      const uint32_t even = even_offsets(unit.codes[step]);
      const uint32_t odd = odd_offsets(unit.codes[step]);
      Vector<T> weights;
#pragma unroll
      for (int byte = 0; byte < Unit::kVector / 2; ++byte) {
        weights.set_pair(2 * byte, table.at(even, byte) * scale, table.at(odd, byte) * scale);
      }
      store_vector<config.streaming>(out + step * Unit::kStep, weights);
    }
  }
  if (blockIdx.x == gridDim.x - 1) {  // the rest, less than a unit
    for (int64_t i = whole + threadIdx.x; i < elements; i += config.threads) {
      const float value = table.at(4 * code_at(weight.codes, i), 0);
      w[i] = from_float<T>(value * absmax_at(weight.absmax, i >> weight.log2_blocksize));
    }
  }
}

int launch_unpack_stream(const UnpackArgs& args, const Device& device, int config, Stream stream) {
  return with_dtype(args.dtype, [&](auto type) {
    using T = decltype(type);
    return with_config<kConfigs>(config, [&](auto index) {
      constexpr int kIndex = decltype(index)::value;
      constexpr Config kConfig = kConfigs[kIndex];
      const int64_t tiles =
          ceil_div(args.weight.rows * args.weight.cols, kConfig.threads / kWarpSize * Unit<T>::kWeights);
      return launch(unpack_stream<T, kIndex>, grid_for(tiles, kConfig.grid, kConfig.blocks * device.multiprocessors),
                    kConfig.threads, stream, static_cast<T*>(args.w), args.weight);
    });
  });
}

const char* unsupported(const Problem& problem, const Device&) {
  if (problem.strided) return "it writes weights without gaps between rows";
  if (problem.alignment < 16) return "pointers must be aligned to 16 bytes";
  return nullptr;
}

constexpr Variant kVariants[] = {
    {"unpack.stream", "a warp per 2 KiB of weights, coalesced, codes loaded ahead", "exact", Op::unpack, false,
     std::size(kConfigs), config_text<kConfigs>, unsupported, nullptr, erased<UnpackArgs, launch_unpack_stream>},
};

}  // namespace

std::span<const Variant> unpack_stream_variants() { return kVariants; }

}  // namespace nf4
