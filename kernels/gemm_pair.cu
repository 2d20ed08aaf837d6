// gemv.pair, gemm.pair8 and gemm.pair16: the fused product on the tensor cores, for M = 1, to 8, and to 16 a pass.
//
// Decoding. A byte of codes is looked up at once: the pair table holds, for each of the 256 bytes, its two codebook
// values in x's 16-bit type. Lane l reads only bank l of it (an entry is repeated for every lane), so look-ups never
// conflict. Entries lie 256 bytes apart: then one byte permute of a code word with the lane's offset is the whole
// address computation.
//
//     address = [ 0 | 0 | byte of codes | lane * 4 ]     table: 256 entries x 256 bytes, the upper half of each unused
//
// Product. The weights are the A operand of mma.m16n8k16, x is B. K may be permuted freely inside a block of the format
// if x is permuted alike, so the native layout serves: in a 64-weight block (32 bytes) of a row, lane t of a quad holds
// bytes 8t to 8t+7, and step j = 0..3 of the four that cover the block takes its bytes 2j and 2j+1:
//
//     A register   row    bytes of the block        B register   x elements of the block
//     a0           g      8t + 2j                   b0           16t + 4j, + 1
//     a1           g + 8  8t + 2j                   b1           16t + 4j + 2, + 3
//     a2           g      8t + 2j + 1                            column g = row of x
//     a3           g + 8  8t + 2j + 1               (g = lane / 4, t = lane % 4)
//
// All of a block's products meet in one accumulator, which is multiplied by the block's absmax in fp32. Blocks of the
// format larger than 64 are treated as several of 64.
//
// Work. A warp owns `blocks` consecutive 64-weight blocks of K, whose x stays in its registers, and walks down the
// tiles of 16 rows. Warps side by side share K (`parts`) and rows. Codes arrive by cp.async in a ring of stages that
// belongs to the warp; there is no barrier among warps but where partial sums meet. If K is longer than the warps cover
// it is walked in chunks. The CTAs of a cluster split K between them and add up through distributed shared memory, in
// rank order.
#include <cooperative_groups.h>

#include <atomic>

#include "chunk.cuh"
#include "codebook.hpp"
#include "dispatch.hpp"
#include "families.hpp"
#include "launch.cuh"
#include "ptx.cuh"

namespace nf4 {
namespace {

constexpr int kRows = 16;        // of W in a tile
constexpr int kBlock = 64;       // weights that share an accumulator
constexpr int kBlockBytes = 32;  // of codes
constexpr int kTableBytes = 256 * 256;
constexpr int kArchitecture = 90;          // clusters
constexpr int kSharedMemory = 227 * 1024;  // that its configs may use

struct Config {
  int warps;
  int blocks;   // 64-weight blocks of K that a warp holds x of
  int stages;   // of the ring
  int cluster;  // CTAs that split K

  constexpr int threads() const { return warps * kWarpSize; }
  // Rows of a stage are an odd number of 32 bytes apart, so that four rows fall in different banks.
  constexpr int pitch() const { return (blocks | 1) * kBlockBytes; }
  constexpr int stage_bytes() const { return kRows * (pitch() + blocks * static_cast<int>(sizeof(float))); }
  constexpr int ring_bytes() const { return warps * stages * stage_bytes(); }

  std::string text() const {
    return "warps=" + std::to_string(warps) + " blocks=" + std::to_string(blocks) +
           " stages=" + std::to_string(stages) + " cluster=" + std::to_string(cluster);
  }
  bool operator==(const Config&) const = default;
};

// How partial sums meet, by the number of columns (rows of x) that a tile holds.
template <int Cols>
struct Sums {
  static constexpr int kTile = kRows * Cols;             // outputs of a tile
  static constexpr int kSteps = Cols == 1 ? 8 : 1;       // steps that are collected before they are added up
  static constexpr int kGroup = Cols == 1 ? kSteps : 2;  // steps that a walk over the chunks of K takes along
  static constexpr int kKept = kGroup / kSteps;          // sums that a thread keeps meanwhile

  static constexpr int collect_bytes(const Config& c) {  // two buffers, used in turn
    return 2 * kSteps * c.warps * kTile * static_cast<int>(sizeof(float));
  }
  static constexpr int exchange_bytes(const Config& c) {  // two buffers for each other CTA of the cluster
    return 2 * (c.cluster - 1) * c.threads() * kKept * static_cast<int>(sizeof(float));
  }
  static constexpr int shared_bytes(const Config& c) {
    return kTableBytes + c.ring_bytes() + collect_bytes(c) + exchange_bytes(c);
  }
};

constexpr Config kConfigs1[] = {{16, 4, 3, 1}, {16, 4, 3, 2}, {16, 5, 3, 1}, {12, 7, 2, 1},
                                {12, 7, 2, 2}, {12, 8, 2, 1}, {8, 8, 3, 1}};
constexpr Config kConfigs8[] = {{16, 4, 3, 1}, {16, 4, 3, 2}, {16, 5, 3, 1}, {12, 8, 2, 1}};
constexpr Config kConfigs16[] = {{16, 4, 2, 1}, {16, 4, 2, 2}};

template <int Cols>
constexpr const auto& configs() {
  if constexpr (Cols == 1) {
    return kConfigs1;
  } else if constexpr (Cols == 8) {
    return kConfigs8;
  } else {
    return kConfigs16;
  }
}

// What the host works out for a launch; see the head of the file.
struct Plan {
  Shares tiles;           // tiles of 16 rows among clusters
  Shares blocks;          // 64-weight blocks of K among the CTAs of a cluster
  int parts;              // warps side by side along K
  int abreast;            // warps side by side along rows
  int chunks;             // walks over K
  uint16_t codebook[16];  // in x's type; as a parameter it is at hand when the kernel starts
};

// Entry e of the table: the values of codes e >> 4 and e & 15, the first in the low half. Warp w writes its share.
template <int Warps>
__device__ void fill_table(uint8_t* table, const uint16_t (&codebook)[16]) {
  const int lane = threadIdx.x % kWarpSize;
  for (int e = threadIdx.x / kWarpSize; e < 256; e += Warps) {
    const uint32_t entry = uint32_t{codebook[e & 15]} << 16 | codebook[e >> 4];
    *reinterpret_cast<uint32_t*>(table + e * 256 + lane * 4) = entry;
  }
}

// The position in a CTA's walk: groups of steps, for each group the chunks of K, for each chunk the steps.
struct Walk {
  int first;  // tile of the group's first step
  int steps;  // in the group
  int chunk;
  int step;
};

// Plain: absmax is fp32, one for each 64-weight block; otherwise of any dtype and blocksize.
template <class T, int ConfigIndex, int Cols, bool Plain>
__global__ void __launch_bounds__(configs<Cols>()[ConfigIndex].threads(), 1)
    gemm_pair(T* __restrict__ y,        // [m, weight.rows]
              int64_t ldy,              // elements
              const T* __restrict__ x,  // [m, weight.cols]
              int64_t ldx,              // elements
              int m,                    // 1 to Cols
              const __grid_constant__ Weight weight,
              const T* __restrict__ bias,  // [weight.rows] or null
              const __grid_constant__ Plan plan) {
#if !defined(__CUDA_ARCH__) || \
    __CUDA_ARCH__ >= 10 * 90  // kArchitecture; unsupported() sees to it that nobody runs less
  constexpr Config config = configs<Cols>()[ConfigIndex];
  constexpr int kBlocks = config.blocks;
  constexpr int kStages = config.stages;
  constexpr int kColTiles = (Cols + 7) / 8;
  constexpr int kScales = (kBlocks + 1) / 2;            // of a stage, per lane
  constexpr int kCopyLanes = kBlocks % 2 == 0 ? 4 : 2;  // that copy a row's codes side by side
  constexpr int kCopyRows = kWarpSize / kCopyLanes;     // at a time
  constexpr int kCopies = 2 * kBlocks / kCopyLanes;     // of 16 bytes, per lane and row
  using Sums = Sums<Cols>;

  extern __shared__ __align__(1024) uint8_t shared[];
  uint8_t* const table = shared;
  const int lane = threadIdx.x % kWarpSize;
  const int warp = threadIdx.x / kWarpSize;
  const int g = lane / 4;
  const int t = lane % 4;
  uint8_t* const ring = shared + kTableBytes + warp * kStages * config.stage_bytes();
  float* const collected = reinterpret_cast<float*>(shared + kTableBytes + config.ring_bytes());
  float* const exchange = collected + Sums::collect_bytes(config) / sizeof(float);

  const int rank = blockIdx.x % config.cluster;
  const int cluster = blockIdx.x / config.cluster;
  const int my_abreast = warp / plan.parts;
  const int my_part = warp - my_abreast * plan.parts;
  const int tile_begin = plan.tiles.begin(cluster);
  const int tile_end = plan.tiles.begin(cluster + 1);
  const int block_begin = plan.blocks.begin(rank);
  const int block_end = plan.blocks.begin(rank + 1);
  const int64_t row_bytes = weight.cols / 2;

  const auto steps_from = [&](int first) {
    return min(Sums::kGroup, (tile_end - first + plan.abreast - 1) / plan.abreast);
  };
  const auto advance = [&](Walk& walk) {
    if (++walk.step < walk.steps) return;
    walk.step = 0;
    if (++walk.chunk < plan.chunks) return;
    walk.chunk = 0;
    walk.first += Sums::kGroup * plan.abreast;
    walk.steps = steps_from(walk.first);
  };
  const auto tile_of = [&](const Walk& walk) { return walk.first + walk.step * plan.abreast + my_abreast; };
  const auto block_of = [&](const Walk& walk) { return block_begin + (walk.chunk * plan.parts + my_part) * kBlocks; };
  const auto has_tile = [&](const Walk& walk) { return tile_of(walk) < tile_end; };
  // A row of the tile; past the matrix its last row, whose sums nobody writes.
  const auto row_of = [&](const Walk& walk, int row) {
    return min(int64_t{tile_of(walk)} * kRows + row, weight.rows - 1);
  };

  // Codes go to the ring asynchronously; blocks past the end of K are zeros.
  const auto issue_codes = [&](const Walk& walk, int slot) {
    if (has_tile(walk)) {
      const int valid = max(block_end - block_of(walk), 0);
      const int column = lane % kCopyLanes * 16;
      const int64_t begin = valid > 0 ? int64_t{block_of(walk)} * kBlockBytes : 0;
#pragma unroll
      for (int r = 0; r < kRows; r += kCopyRows) {
        const int row = r + lane / kCopyLanes;
        const uint8_t* source = weight.codes + row_of(walk, row) * row_bytes + begin + column;
        const uint32_t stage = static_cast<uint32_t>(__cvta_generic_to_shared(ring)) + slot * config.stage_bytes() +
                               row * config.pitch() + column;
#pragma unroll
        for (int i = 0; i < kCopies; ++i) {
          const int offset = i * kCopyLanes * 16;
          copy_async(stage + offset, source + offset, column + offset < valid * kBlockBytes);
        }
      }
    }
    commit_copies();
  };

  // Scales go through registers, since they may need decoding: lane 2r + h has those of row r, blocks h, h + 2, ...
  using Scales = float[kScales];
  const auto load_scales = [&](const Walk& walk, Scales& scales) {
    const bool tile = has_tile(walk);
    const int half = lane % 2;
    const int block = block_of(walk) + half;
    const int64_t row = row_of(walk, lane / 2);
#pragma unroll
    for (int i = 0; i < kScales; ++i) {
      const bool inside = tile && 2 * i + half < kBlocks && block + 2 * i < block_end;
      scales[i] = 0.0f;
      if constexpr (Plain) {
        if (inside)
          scales[i] =
              __ldg(static_cast<const float*>(weight.absmax.values) + row * (weight.cols / kBlock) + block + 2 * i);
      } else {
        if (inside)
          scales[i] = absmax_at(weight.absmax, (row * weight.cols + (block + 2 * i) * kBlock) >> weight.log2_blocksize);
      }
    }
  };
  const auto store_scales = [&](int slot, const Scales& scales) {
    float* stage = reinterpret_cast<float*>(ring + slot * config.stage_bytes() + kRows * config.pitch()) +
                   lane / 2 * kBlocks + lane % 2;
#pragma unroll
    for (int i = 0; i < kScales; ++i) {
      if (2 * i + lane % 2 < kBlocks) stage[2 * i] = scales[i];
    }
  };

  uint32_t xs[kColTiles][kBlocks][8];  // B registers: two for each of a block's four steps
  const auto load_x = [&](const Walk& walk) {
    const int block = block_of(walk);
#pragma unroll
    for (int c = 0; c < kColTiles; ++c) {
      const T* row = x + (c * 8 + g) * ldx + int64_t{block} * kBlock + t * 16;
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) {
        uint4 low{};
        uint4 high{};
        if (c * 8 + g < m && block + b < block_end) {
          low = __ldg(reinterpret_cast<const uint4*>(row + b * kBlock));
          high = __ldg(reinterpret_cast<const uint4*>(row + b * kBlock) + 1);
        }
        const uint32_t words[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
        for (int i = 0; i < 8; ++i) xs[c][b][i] = words[i];
      }
    }
  };

  // All loads of the first stages are on their way before any is waited for.
  Walk walk{tile_begin, steps_from(tile_begin), 0, 0};
  Walk ahead = walk;
  {
    Scales first[kStages - 1];
#pragma unroll
    for (int slot = 0; slot < kStages - 1; ++slot) {
      issue_codes(ahead, slot);
      load_scales(ahead, first[slot]);
      advance(ahead);
    }
    load_x(walk);
    fill_table<config.warps>(table, plan.codebook);
#pragma unroll
    for (int slot = 0; slot < kStages - 1; ++slot) store_scales(slot, first[slot]);
  }
  __syncthreads();
  if constexpr (config.cluster > 1) cooperative_groups::this_cluster().sync();  // all run before one is written to

  float kept[Sums::kKept] = {};
  int slot = 0;
  int buffer = 0;           // of collected
  int exchange_buffer = 0;  // of exchange
  const auto next = [&] {
    advance(walk);
    if (walk.step == 0 && plan.chunks > 1 && walk.first < tile_end) load_x(walk);
  };
  for (; walk.first < tile_end; next()) {
    wait_copies<kStages - 2>();
    __syncwarp();
    const int next_slot = slot == 0 ? kStages - 1 : slot - 1;  // the one consumed last
    issue_codes(ahead, next_slot);
    Scales scales;
    load_scales(ahead, scales);
    advance(ahead);

    const uint8_t* stage = ring + slot * config.stage_bytes();
    const uint8_t* codes = stage + g * config.pitch() + t * 8;
    const float* absmax = reinterpret_cast<const float*>(stage + kRows * config.pitch()) + g * kBlocks;
    float sum[kColTiles][4] = {};
    if (has_tile(walk)) {
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) {
        const uint2 upper = *reinterpret_cast<const uint2*>(codes + b * kBlockBytes);
        const uint2 lower = *reinterpret_cast<const uint2*>(codes + 8 * config.pitch() + b * kBlockBytes);
        float dot[kColTiles][4] = {};
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const uint32_t word0 = j < 2 ? upper.x : upper.y;
          const uint32_t word1 = j < 2 ? lower.x : lower.y;
          const auto look_up = [&](uint32_t word, int byte) {
            const uint32_t address = __byte_perm(word, lane * 4, 0x5504 | byte << 4);
            return *reinterpret_cast<const uint32_t*>(table + address);
          };
          const int byte = j % 2 * 2;
          const uint32_t a[4] = {look_up(word0, byte), look_up(word1, byte), look_up(word0, byte + 1),
                                 look_up(word1, byte + 1)};
#pragma unroll
          for (int c = 0; c < kColTiles; ++c) mma<T>(dot[c], a, xs[c][b][2 * j], xs[c][b][2 * j + 1]);
        }
        const float scale0 = absmax[b];
        const float scale1 = absmax[8 * kBlocks + b];
#pragma unroll
        for (int c = 0; c < kColTiles; ++c) {
          sum[c][0] = fmaf(dot[c][0], scale0, sum[c][0]);
          sum[c][1] = fmaf(dot[c][1], scale0, sum[c][1]);
          sum[c][2] = fmaf(dot[c][2], scale1, sum[c][2]);
          sum[c][3] = fmaf(dot[c][3], scale1, sum[c][3]);
        }
      }
    }
    store_scales(next_slot, scales);
    slot = slot + 1 == kStages ? 0 : slot + 1;

    // The warp's sums: row g in sum[.][0] and [1], row g + 8 in [2] and [3], columns 2t and 2t + 1.
    const int collect_step = walk.step % Sums::kSteps;
    float* const out = collected + ((buffer * Sums::kSteps + collect_step) * config.warps + warp) * Sums::kTile;
    if constexpr (Cols == 1) {
      if (t == 0) {
        out[g] = sum[0][0];
        out[g + 8] = sum[0][2];
      }
    } else {
#pragma unroll
      for (int c = 0; c < kColTiles; ++c) {
        *reinterpret_cast<float2*>(out + g * Cols + c * 8 + 2 * t) = make_float2(sum[c][0], sum[c][1]);
        *reinterpret_cast<float2*>(out + (g + 8) * Cols + c * 8 + 2 * t) = make_float2(sum[c][2], sum[c][3]);
      }
    }

    const bool last_step = walk.step + 1 == walk.steps;
    if (!last_step && collect_step + 1 < Sums::kSteps) continue;

    // Adding up. Thread i owns output i of the steps collected: tile i / kTile among them, element i % kTile of it.
    __syncthreads();
    const int owned = threadIdx.x;
    const int owned_tile = owned / Sums::kTile;
    if (owned_tile < Sums::kSteps * plan.abreast) {
      const int owned_step = owned_tile / plan.abreast;
      const float* in =
          collected +
          ((buffer * Sums::kSteps + owned_step) * config.warps + owned_tile % plan.abreast * plan.parts) * Sums::kTile +
          owned % Sums::kTile;
      float total = 0.0f;
      for (int p = 0; p < plan.parts; ++p) total += in[p * Sums::kTile];
#pragma unroll
      for (int i = 0; i < Sums::kKept; ++i) {
        if (i == walk.step / Sums::kSteps) kept[i] += total;
      }
    }
    buffer ^= 1;
    if (!last_step || walk.chunk + 1 < plan.chunks) continue;

    // The group is complete in this CTA.
    if constexpr (config.cluster > 1) {
      const auto this_cluster = cooperative_groups::this_cluster();
      float* mine = exchange + exchange_buffer * (config.cluster - 1) * config.threads() * Sums::kKept;
      if (rank > 0) {
        float* theirs = this_cluster.map_shared_rank(mine, 0) + (rank - 1) * config.threads() * Sums::kKept;
#pragma unroll
        for (int i = 0; i < Sums::kKept; ++i) theirs[i * config.threads() + threadIdx.x] = kept[i];
      }
      this_cluster.sync();
      if (rank == 0) {
        for (int other = 0; other < config.cluster - 1; ++other) {
#pragma unroll
          for (int i = 0; i < Sums::kKept; ++i)
            kept[i] += mine[(other * Sums::kKept + i) * config.threads() + threadIdx.x];
        }
      }
      exchange_buffer ^= 1;
    }
    if (rank == 0) {
#pragma unroll
      for (int i = 0; i < Sums::kKept; ++i) {
        const int tile = walk.first + i * Sums::kSteps * plan.abreast + owned_tile;
        const int64_t row = int64_t{tile} * kRows + owned % Sums::kTile / Cols;
        const int column = owned % Cols;
        const bool written =
            owned_tile < Sums::kSteps * plan.abreast && i * Sums::kSteps < walk.steps && tile < tile_end;
        if (written && row < weight.rows && column < m) {
          y[column * ldy + row] = from_float<T>(bias != nullptr ? kept[i] + to_float(bias[row]) : kept[i]);
        }
      }
    }
#pragma unroll
    for (int i = 0; i < Sums::kKept; ++i) kept[i] = 0.0f;
  }
#endif
}

// Divides the work: as many parts along K as keep most warps busy, more parts among equals.
template <class T, int Cols>
Plan make_plan(const Weight& weight, const Device& device, const Config& config) {
  const int64_t tiles = ceil_div(weight.rows, kRows);
  const int clusters = static_cast<int>(std::min<int64_t>(tiles, std::max(1, device.multiprocessors / config.cluster)));
  Plan plan{};
  plan.tiles = Shares::of(tiles, clusters);
  plan.blocks = Shares::of(weight.cols / kBlock, config.cluster);
  const int64_t most_tiles = ceil_div(tiles, clusters);
  const int64_t most_blocks = ceil_div(weight.cols / kBlock, config.cluster);
  double best = 0.0;
  for (int abreast = 1; abreast <= config.warps; ++abreast) {
    if (config.warps % abreast != 0) continue;
    // Every output of the steps that are added up together needs a thread of its own.
    if (abreast * Sums<Cols>::kTile * Sums<Cols>::kSteps > config.threads()) break;
    const int parts = config.warps / abreast;
    const int64_t chunks = ceil_div(most_blocks, parts * config.blocks);
    const double busy = static_cast<double>(most_blocks * most_tiles) /
                        static_cast<double>(chunks * parts * config.blocks * ceil_div(most_tiles, abreast) * abreast);
    if (busy > best + 1e-9) {
      best = busy;
      plan.parts = parts;
      plan.abreast = abreast;
      plan.chunks = static_cast<int>(chunks);
    }
  }
  for (int code = 0; code < 16; ++code) plan.codebook[code] = from_float<T>(kCodebook[code]).bits;
  return plan;
}

template <class T, int ConfigIndex, int Cols, bool Plain>
int launch_pass(const GemmArgs& args, int64_t m0, const Device& device, Stream stream) {
  constexpr Config config = configs<Cols>()[ConfigIndex];
  constexpr int kSharedBytes = Sums<Cols>::shared_bytes(config);
  static_assert(kSharedBytes <= kSharedMemory, "more shared memory than an SM has");
  const auto kernel = gemm_pair<T, ConfigIndex, Cols, Plain>;

  // Allowed once per device; the bit is set only after CUDA agreed.
  static std::atomic<uint64_t> allowed{0};
  const uint64_t bit = uint64_t{1} << (device.ordinal % 64);
  if ((allowed.load(std::memory_order_relaxed) & bit) == 0) {
    const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes);
    if (error != cudaSuccess) return static_cast<int>(error);
    allowed.fetch_or(bit, std::memory_order_relaxed);
  }

  const Plan plan = make_plan<T, Cols>(args.weight, device, config);
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {static_cast<unsigned>(config.cluster), 1, 1};
  cudaLaunchConfig_t launch{};
  launch.gridDim = static_cast<unsigned>(plan.tiles.count * config.cluster);
  launch.blockDim = config.threads();
  launch.dynamicSmemBytes = kSharedBytes;
  launch.stream = stream;
  launch.attrs = &attribute;
  launch.numAttrs = config.cluster > 1 ? 1 : 0;
  const int m = static_cast<int>(std::min<int64_t>(args.m - m0, Cols));
  return static_cast<int>(cudaLaunchKernelEx(&launch, kernel, static_cast<T*>(args.y) + m0 * args.ldy, args.ldy,
                                             static_cast<const T*>(args.x) + m0 * args.ldx, args.ldx, m, args.weight,
                                             static_cast<const T*>(args.bias), plan));
}

template <class T, int ConfigIndex, int Cols>
int launch_passes(const GemmArgs& args, const Device& device, Stream stream) {
  const bool plain = args.weight.absmax.dtype == Dtype::f32 && 1 << args.weight.log2_blocksize == kBlock;
  for (int64_t m0 = 0; m0 < args.m; m0 += Cols) {
    const int error = plain ? launch_pass<T, ConfigIndex, Cols, true>(args, m0, device, stream)
                            : launch_pass<T, ConfigIndex, Cols, false>(args, m0, device, stream);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

template <int Cols>
int launch_gemm_pair(const GemmArgs& args, const Device& device, int config, Stream stream) {
  return with_config<configs<Cols>()>(config, [&](auto index) {
    constexpr int kIndex = decltype(index)::value;
    return args.dtype == Dtype::bf16 ? launch_passes<bf16, kIndex, Cols>(args, device, stream)
                                     : launch_passes<f16, kIndex, Cols>(args, device, stream);
  });
}

template <int Cols>
const char* unsupported(const Problem& problem, const Device& device) {
  if (problem.dtype == Dtype::f32) return "pair tables hold 16-bit values, for f16 and bf16 activations";
  if (device.architecture < kArchitecture) return "it needs code for compute capability 9.0 or newer, on such a device";
  if (device.shared_memory < kSharedMemory) return "it needs 227 KiB of shared memory per block";
  if (problem.k == 0 || problem.k % kBlock != 0) return "k must be a multiple of 64, and not 0";
  if (problem.blocksize < kBlock) return "blocksize must be 64 or more";
  if (problem.alignment < 16) return "pointers and leading dimensions must be aligned to 16 bytes";
  if (Cols < 16 && problem.m > Cols)
    return Cols == 1 ? "gemv variants take one row of x (m = 1)" : "it takes 8 rows of x at most";
  if (problem.n > int64_t{1} << 30 || problem.k > int64_t{1} << 30) return "n and k must be 2^30 at most";
  return nullptr;
}

template <int Cols>
constexpr Variant variant(const char* name, const char* description) {
  return {name,
          description,
          "codebook16",
          Op::gemm,
          false,
          static_cast<int>(std::size(configs<Cols>())),
          config_text<configs<Cols>()>,
          unsupported<Cols>,
          nullptr,
          erased<GemmArgs, launch_gemm_pair<Cols>>};
}

constexpr Variant kVariants[] = {
    variant<1>("gemv.pair", "tensor cores, a byte's two weights looked up at once in a conflict-free table"),
    variant<8>("gemm.pair8", "gemv.pair for up to 8 rows of x"),
    variant<16>("gemm.pair16", "gemv.pair for 16 rows of x a pass, any M"),
};

}  // namespace

std::span<const Variant> gemm_pair_variants() { return kVariants; }

}  // namespace nf4
