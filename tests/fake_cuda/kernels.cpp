#include "kernels.hpp"

#include <cxxabi.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "dispatch.hpp"
#include "gemm/experts_scaled_layout.hpp"
#include "gemm/experts_slots_layout.hpp"
#include "gemm/group.hpp"
#include "gemm/row_pieces.hpp"
#include "kernels/gemm/experts_pair_layout.hpp"
#include "kernels/gemm/fma_layout.hpp"
#include "kernels/gemm/pair_layout.hpp"
#include "kernels/gemm/pair_multistage_layout.hpp"
#include "kernels/gemm/pair_stream_layout.hpp"
#include "kernels/gemm/pair_wgmma_layout.hpp"
#include "kernels/gemm/scaled_mma_layout.hpp"
#include "kernels/gemm/scaled_wgmma_layout.hpp"

namespace nf4test {
namespace {

using fake_cuda::Launch;
using fake_cuda::TensorMap;
using nf4::Dtype;

// ---- names ----------------------------------------------------------------------------------------------------------

void erase_all(std::string& text, std::string_view part, std::string_view by = {}) {
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += by.size())
    text.replace(at, part.size(), by);
}

// "StreamShape<2, F32Scales>" in its parts.
struct Name {
  std::string text;
  std::vector<std::string> arguments{};  // of the template

  explicit Name(const std::string& all) : text(all.substr(0, all.find_first_of("<("))) {
    if (text.size() == all.size() || all[text.size()] != '<') return;
    std::string argument;
    int depth = 0;
    for (size_t i = text.size(); i < all.size(); ++i) {
      const char c = all[i];
      if (c == '<' && ++depth == 1) continue;
      if (c == '>' && --depth == 0) break;
      if (c == ',' && depth == 1) {
        arguments.push_back(std::exchange(argument, {}));
      } else if (c != ' ' || !argument.empty()) {
        argument += c;
      }
    }
    arguments.push_back(argument);
  }

  int number(size_t i) const { return std::atoi(arguments.at(i).c_str()); }
};

Name name_of(std::string_view mangled) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> demangled(
      abi::__cxa_demangle(std::string(mangled).c_str(), nullptr, nullptr, &status), std::free);
  std::string text = status == 0 ? demangled.get() : std::string(mangled);
  for (const char* part : {"nf4::", "(anonymous namespace)::", "void ", "(int)"}) erase_all(text, part);
  erase_all(text, " >", ">");
  erase_all(text, "(bool)1", "true");
  erase_all(text, "(bool)0", "false");
  return Name(text);
}

std::string type_name(Dtype dtype) { return dtype == Dtype::f32 ? "float" : dtype == Dtype::f16 ? "f16" : "bf16"; }
std::string text_of(bool value) { return value ? "true" : "false"; }

// ---- what any kernel has --------------------------------------------------------------------------------------------

template <class T>
const T& argument(const void* const* arguments, size_t i) {
  return *static_cast<const T*>(arguments[i]);
}

bool aligned(const void* pointer, size_t bytes) { return reinterpret_cast<uintptr_t>(pointer) % bytes == 0; }
int64_t size_of(Dtype dtype) { return dtype == Dtype::f32 ? 4 : dtype == Dtype::u8 ? 1 : 2; }
int64_t up(int64_t a, int64_t b) { return (a + b - 1) / b; }

bool same(const nf4::Absmax& a, const nf4::Absmax& b) {
  return a.values == b.values && a.dtype == b.dtype && a.map == b.map && a.absmax2 == b.absmax2 &&
         a.offset == b.offset && a.log2_blocksize == b.log2_blocksize;
}
bool same(const nf4::Weight& a, const nf4::Weight& b) {
  return a.rows == b.rows && a.cols == b.cols && a.codes == b.codes && same(a.absmax, b.absmax) &&
         a.log2_blocksize == b.log2_blocksize && a.constant == b.constant;
}

// Number `name` of a config's text, "threads=256 grid=tiles", and whether it has a setting.
int setting(const Expected& call, const std::string& name) {
  const std::string text = call.variant.config_text(call.config);
  const size_t at = text.find(name + "=");
  return at != std::string::npos ? std::atoi(text.c_str() + at + name.size() + 1) : 0;
}
bool has_setting(const Expected& call, const std::string& setting) {
  return call.variant.config_text(call.config).find(setting) != std::string::npos;
}

// How a kernel without clusters, dynamic shared memory and dependent launch is launched.
std::string wrong_with_grid(const Launch& launch, int64_t grid, int64_t block) {
  if (launch.grid != std::min<int64_t>(grid, 0x7fffffff)) return "grid, expected " + std::to_string(grid);
  if (launch.block != block) return "block, expected " + std::to_string(block);
  if (launch.cluster != 1 || launch.shared_memory != 0 || launch.dependent) return "attributes of the launch";
  return "";
}

// A grid of one block for each tile, or as many as are resident, as the config says.
std::string wrong_with_grid(const Launch& launch, const Expected& call, int64_t tiles) {
  const int64_t resident = int64_t{setting(call, "blocks")} * call.device.multiprocessors;
  const bool one_each = has_setting(call, "grid=tiles");
  if (!one_each && !has_setting(call, "grid=resident")) return "a grid that is neither";
  return wrong_with_grid(launch, one_each ? tiles : std::min(tiles, resident), setting(call, "threads"));
}

std::string wrong_with_name(const Name& kernel, const std::vector<std::string>& expected) {
  std::string text;
  for (const std::string& part : expected) text += " " + part;
  std::string found;
  for (const std::string& part : kernel.arguments) found += " " + part;
  return found == text ? "" : "template arguments" + found + ", expected" + text;
}

// The first text that is not empty.
std::string first_of(std::initializer_list<std::string> faults) {
  for (const std::string& fault : faults) {
    if (!fault.empty()) return fault;
  }
  return "";
}

// ---- products -------------------------------------------------------------------------------------------------------

// Outputs of one product that one block, or one cluster, writes: rows of W by rows of x, the last ones perhaps past
// their ends.
struct Tile {
  int product;
  int64_t row, rows, x_row, x_rows;
};

struct Box {
  int64_t rows, columns;
};

struct GemmLaunch {
  std::vector<nf4::GroupProduct> products;
  int64_t m;      // rows of x
  int64_t most;   // that a launch of the variant can take,
  int64_t cols;   // that this kernel can,
  int64_t fewer;  // and that the next narrower one can
  std::vector<Tile> tiles{};
  int64_t grid = 0, block = 0;
  int cluster = 1;
  bool dependent = false;
  int oldest = 0, newest = 1000;            // architectures whose code the kernel is in
  std::optional<bool> constant{}, quads{};  // as the kernel is told
  bool transposed = false;                  // columns of W make outputs, and its rows are summed over

  // How the kernel reads x and codes: by their addresses, or by tensor maps, in boxes.
  const void* x = nullptr;
  int64_t ldx = 0;
  std::optional<TensorMap> x_map{};
  Box x_box{};
  std::vector<TensorMap> codes_maps{};
  Box codes_box{};
};

using Interval = std::pair<int64_t, int64_t>;  // first, and one past the last

// Whether they cover [0, end) once. The last may reach past it; none lies past it.
bool cover_once(std::vector<Interval> intervals, int64_t end) {
  std::sort(intervals.begin(), intervals.end());
  int64_t next = 0;
  for (const auto& [first, past] : intervals) {
    if (first != next || first >= end || past <= first) return false;
    next = past;
  }
  return next >= end;
}

std::string wrong_with_tiles(const GemmLaunch& launch) {
  for (size_t p = 0; p < launch.products.size(); ++p) {
    std::map<Interval, std::vector<Interval>> rows;  // of W, by rows of x
    for (const Tile& tile : launch.tiles) {
      if (tile.product == static_cast<int>(p))
        rows[{tile.x_row, tile.x_row + tile.x_rows}].push_back({tile.row, tile.row + tile.rows});
    }
    std::vector<Interval> x_rows;
    for (const auto& [x, w] : rows) {
      x_rows.push_back(x);
      const nf4::Weight& weight = launch.products[p].weight;
      if (!cover_once(w, launch.transposed ? weight.cols : weight.rows)) return "rows of W are not covered once";
    }
    if (!cover_once(x_rows, launch.m)) return "rows of x are not covered once";
  }
  return "";
}

std::string wrong_with_map(const TensorMap& map, CUtensorMapDataType type, const void* address, int64_t rows,
                           int64_t columns, int64_t pitch, const Box& box) {
  const int64_t row_bytes = box.columns * (type == CU_TENSOR_MAP_DATA_TYPE_UINT8 ? 1 : 2);
  const CUtensorMapSwizzle swizzle = row_bytes == 32   ? CU_TENSOR_MAP_SWIZZLE_32B
                                     : row_bytes == 64 ? CU_TENSOR_MAP_SWIZZLE_64B
                                                       : CU_TENSOR_MAP_SWIZZLE_128B;
  if (map.address != address) return "address of a tensor map";
  if (static_cast<int64_t>(map.rows) != rows || static_cast<int64_t>(map.columns) != columns)
    return "sizes of a tensor map";
  if (static_cast<int64_t>(map.pitch) != pitch) return "pitch of a tensor map";
  if (map.box_rows != box.rows || map.box_columns != box.columns) return "box of a tensor map";
  return map.type != type || map.swizzle != swizzle ? "type or swizzle of a tensor map" : "";
}

std::string wrong_with_x(const GemmLaunch& launch, const nf4::GemmArgs& first, int64_t m0) {
  const int64_t size = size_of(first.dtype);
  const void* const x = static_cast<const uint8_t*>(first.x) + m0 * first.ldx * size;
  if (launch.x_map) {
    const int64_t cols = launch.transposed ? first.weight.rows : first.weight.cols;
    const int64_t pitch =
        first.m > 1 ? first.ldx * size : up(cols * size, 16) * 16;  // one row may be followed by anything
    return wrong_with_map(*launch.x_map, CU_TENSOR_MAP_DATA_TYPE_UINT16, x, launch.m, cols, pitch, launch.x_box);
  }
  return launch.x != x || (launch.m > 1 && launch.ldx != first.ldx) ? "x" : "";
}

std::string wrong_with_product(const nf4::GroupProduct& found, const nf4::GemmArgs& args, int64_t m0, int64_t m) {
  if (!same(found.weight, args.weight)) return "weight";
  if (found.bias != args.bias) return "bias";
  if (found.y != static_cast<uint8_t*>(args.y) + m0 * args.ldy * size_of(args.dtype)) return "y";
  return m > 1 && found.ldy != args.ldy ? "leading dimension of y" : "";
}

// Whether every W has fours of scales that are aligned, in one row, and of one second level.
bool quads(std::span<const nf4::GemmArgs> products) {
  return std::all_of(products.begin(), products.end(), [](const nf4::GemmArgs& args) {
    const nf4::Absmax& absmax = args.weight.absmax;
    return args.weight.log2_blocksize == 6 && args.weight.cols % 256 == 0 &&
           aligned(absmax.values, static_cast<size_t>(4 * size_of(absmax.dtype)));
  });
}

std::string wrong_with_gemm(const GemmLaunch& found, const Launch& launch, Expected& call) {
  const nf4::GemmArgs& first = call.products.front();
  const int64_t left = first.m - call.m0;
  if (found.products.size() != call.products.size()) return "products";
  if (found.m != std::min(left, found.most) || found.m > found.cols || found.m <= found.fewer)
    return "rows of x in a pass";
  if (launch.grid != found.grid) return "grid, expected " + std::to_string(found.grid);
  if (launch.block != found.block) return "block, expected " + std::to_string(found.block);
  if (static_cast<int>(launch.cluster) != found.cluster) return "cluster, expected " + std::to_string(found.cluster);
  if (launch.dependent != found.dependent) return "dependent launch";
  if (call.device.architecture < found.oldest || call.device.architecture > found.newest)
    return "a device that has no code of it";
  if (found.constant && *found.constant != std::all_of(call.products.begin(), call.products.end(),
                                                       [](const auto& args) { return args.weight.constant; }))
    return "constant";
  if (found.quads && *found.quads != quads(call.products)) return "quads of scales";
  for (size_t p = 0; p < found.products.size(); ++p) {
    const nf4::GemmArgs& args = call.products[p];
    if (std::string wrong = wrong_with_product(found.products[p], args, call.m0, found.m); !wrong.empty()) return wrong;
    if (found.codes_maps.empty()) continue;
    const std::string wrong =
        wrong_with_map(found.codes_maps.at(p), CU_TENSOR_MAP_DATA_TYPE_UINT8, args.weight.codes, args.weight.rows,
                       args.weight.cols / 2, args.weight.cols / 2, found.codes_box);
    if (!wrong.empty()) return wrong;
  }
  const std::string wrong = first_of({wrong_with_x(found, first, call.m0), wrong_with_tiles(found)});
  call.m0 += found.m;
  return wrong;
}

std::vector<int64_t> rows_of(std::span<const nf4::GemmArgs> products) {
  std::vector<int64_t> rows;
  for (const nf4::GemmArgs& args : products) rows.push_back(args.weight.rows);
  return rows;
}

template <int Most>
std::vector<nf4::GroupProduct> products_of(const nf4::Group<Most>& group) {
  return {group.products, group.products + std::clamp(group.count, 1, Most)};
}

std::vector<TensorMap> read_maps(const void* maps, size_t count) {
  std::vector<TensorMap> all;
  for (size_t i = 0; i < count; ++i) all.push_back(fake_cuda::read(static_cast<const CUtensorMap*>(maps)[i]));
  return all;
}

bool same(const nf4::PairCodebook& a, const nf4::PairCodebook& b) {
  return std::equal(std::begin(a.values), std::end(a.values), b.values);
}
std::string wrong_with_codebook(const nf4::PairCodebook& found, Dtype dtype) {
  return same(found, nf4::with_16bit(dtype, [](auto type) { return nf4::pair_codebook<decltype(type)>(); }))
             ? ""
             : "codebook";
}

// Calls f(Constant<value>{}) if `value` is one of Values.
template <int... Values, class F>
std::string with_one_of(int value, const F& f) {
  std::string result = "template argument " + std::to_string(value);
  (void)((value == Values ? (result = f(nf4::Constant<Values>{}), true) : false) || ...);
  return result;
}

// The most rows of x for which there is room in shared memory, of what a call has left.
int64_t most_pair_cols(const Expected& call, bool tma, int maps) {
  const nf4::GemmArgs& first = call.products.front();
  const std::vector<int64_t> rows = rows_of(call.products);
  const auto has_room = [&](auto cols) {
    constexpr int kCols = decltype(cols)::value;
    using Shape = nf4::PairShape<kCols>;
    nf4::PairLaunch launch;
    return first.m - call.m0 > kCols / 2 &&
           nf4::lay_out_pair<kCols>(nf4::count_tiles(rows, Shape::kRows), first.weight.cols, maps, call.device,
                                    nf4::PairTmaConfigs::kMostCluster, nf4::PairTmaConfigs::kConfigs[call.config],
                                    launch);
  };
  if (!tma) return 1;
  return has_room(nf4::Constant<4>{}) ? 4 : has_room(nf4::Constant<2>{}) ? 2 : 1;
}

// gemm_pair<T, Cols, Copy, Scales, Products>(x, ldx, m, group, plan, source)
template <int Products>
Check read_pair_of(const Launch& launch, const Name& kernel, const void* const* arguments) {
  const auto x = argument<const void*>(arguments, 0);
  const auto ldx = argument<int64_t>(arguments, 1);
  const int64_t m = argument<int>(arguments, 2);
  const auto group = argument<nf4::Group<Products>>(arguments, 3);
  const auto plan = argument<nf4::PairPlan>(arguments, 4);
  const int cols = kernel.number(1);
  const bool tma = kernel.arguments.at(2) == "TmaCopy";
  const std::vector<TensorMap> maps = tma ? read_maps(arguments[5], Products) : std::vector<TensorMap>{};
  return [=](Expected& call) {
    const nf4::GemmArgs& first = call.products.front();
    constexpr int rows = nf4::PairShape<1>::kRows;
    const std::vector<int64_t> all_rows = rows_of(call.products);
    const int maps_kept = first.weight.absmax.dtype == Dtype::u8 ? static_cast<int>(all_rows.size()) : 1;
    GemmLaunch found{products_of(group), m, most_pair_cols(call, tma, maps_kept), cols, cols / 2};
    found.x = x;
    found.ldx = ldx;
    found.grid = int64_t{plan.tiles.count} * plan.cluster;
    found.block = launch.block;  // which the layout's check looks at
    found.cluster = plan.cluster;
    found.dependent = tma;
    found.oldest = tma ? 90 : 80;
    found.constant = plan.constant_weights;
    found.quads = plan.quads;
    found.codes_maps = maps;
    found.codes_box = {rows, 128};
    for (int tile = 0; tile < plan.tiles.begin(plan.tiles.count); ++tile) {
      const int product = group.tiles.product(tile);
      found.tiles.push_back({product, int64_t{group.tiles.in_product(tile, product)} * rows, rows, 0, cols});
    }
    const bool f32 = first.weight.absmax.dtype == Dtype::f32;
    const auto& config =
        tma ? nf4::PairTmaConfigs::kConfigs[call.config] : nf4::PairCpAsyncConfigs::kConfigs[call.config];
    const int most_cluster = tma ? nf4::PairTmaConfigs::kMostCluster : nf4::PairCpAsyncConfigs::kMostCluster;
    const nf4::PairLaunch layout{plan, static_cast<int>(launch.block), static_cast<int>(launch.shared_memory)};
    return first_of({wrong_with_name(kernel, {type_name(first.dtype), std::to_string(cols),
                                              tma ? "TmaCopy" : "AsyncCopy", f32 ? "F32Scales" : "PackedScales",
                                              std::to_string(all_rows.size() == 1 ? 1 : nf4::kMostProducts)}),
                     with_one_of<1, 2, 4>(cols,
                                          [&](auto width) {
                                            return wrong_with<decltype(width)::value>(
                                                layout, config, call.device, most_cluster,
                                                nf4::count_tiles(all_rows, rows), first.weight.cols, maps_kept);
                                          }),
                     group.count == static_cast<int>(all_rows.size()) ? "" : "products",
                     wrong_with_codebook(plan.codebook, first.dtype), wrong_with_gemm(found, launch, call)});
  };
}
Check read_pair(const Launch& launch, const Name& kernel, const void* const* arguments) {
  return kernel.arguments.at(4) == "1" ? read_pair_of<1>(launch, kernel, arguments)
                                       : read_pair_of<nf4::kMostProducts>(launch, kernel, arguments);
}

// gemm_pair_stream<T, StreamShape<ColTiles, Scales>>(m, group, plan, {codes[], x})
Check read_pair_stream(const Launch& launch, const Name& kernel, const void* const* arguments) {
  const int64_t m = argument<int>(arguments, 0);
  const auto group = argument<nf4::Group<nf4::kMostProducts>>(arguments, 1);
  const auto plan = argument<nf4::StreamPlan>(arguments, 2);
  const std::vector<TensorMap> maps = read_maps(arguments[3], nf4::kMostProducts + 1);
  const Name shape(kernel.arguments.at(1));
  return [=](Expected& call) {
    const nf4::GemmArgs& first = call.products.front();
    const int cols = 8 * shape.number(0);
    GemmLaunch found{products_of(group), m, 64, cols, cols > 8 ? cols / 2 : 0};
    found.x_map = maps.back();
    found.x_box = {cols, 64};
    found.codes_maps = maps;
    found.codes_box = {plan.box_rows, 128};
    found.grid = plan.tiles * plan.cluster;
    found.block = launch.block;
    found.cluster = plan.cluster;
    found.dependent = true;
    found.oldest = found.newest = 90;
    found.constant = plan.constant_weights;
    found.quads = plan.quads;
    for (int tile = 0; tile < plan.tiles; ++tile) {
      const int product = group.tiles.product(tile);
      found.tiles.push_back({product, int64_t{group.tiles.in_product(tile, product)} * plan.rows, plan.rows, 0, cols});
    }
    const bool f32 = first.weight.absmax.dtype == Dtype::f32;
    const std::vector<int64_t> rows = rows_of(call.products);
    const auto wrong_with_layout = [&](auto col_tiles) {
      const auto wrong = [&](auto copied) {
        using Sizes = nf4::StreamSizes<decltype(col_tiles)::value, decltype(copied)::value>;
        return wrong_with<Sizes>(plan, nf4::kStreamConfigs[call.config], call.device, rows, first.weight.cols);
      };
      return f32 ? wrong(std::true_type{}) : wrong(std::false_type{});
    };
    return first_of({wrong_with_name(kernel, {type_name(first.dtype), kernel.arguments.at(1)}),
                     wrong_with_name(shape, {shape.arguments.at(0), f32 ? "F32Scales" : "PackedScales"}),
                     with_one_of<1, 2, 4, 8>(shape.number(0), wrong_with_layout),
                     static_cast<int>(launch.block) == plan.threads ? "" : "threads",
                     static_cast<int>(launch.shared_memory) == plan.shared_bytes ? "" : "shared memory",
                     group.count == static_cast<int>(rows.size()) ? "" : "products",
                     wrong_with_codebook(plan.codebook, first.dtype), wrong_with_gemm(found, launch, call)});
  };
}

// What a launch with even division puts into the workspace, [counters | parts], lies within what the call gives. Each
// of so many warps of a CTA has a counter, and two parts of so many bytes.
std::string wrong_with_workspace(const uint64_t* counters, const float* parts, uint64_t number, bool even, int64_t ctas,
                                 int64_t warps, int64_t part_bytes, const Expected& call) {
  const auto* const workspace = static_cast<const uint8_t*>(call.products.front().workspace);
  if (!even) return counters == nullptr && parts == nullptr ? "" : "a workspace where none is used";
  const auto* const first_part = reinterpret_cast<const uint8_t*>(parts);
  if (reinterpret_cast<const uint8_t*>(counters) != workspace || first_part < workspace + ctas * warps * 8 ||
      !aligned(first_part, 256)) {
    return "workspace";
  }
  if (first_part - workspace + 2 * ctas * warps * part_bytes > static_cast<int64_t>(call.workspace_size))
    return "past the workspace";
  return number >> 40 == 0xff ? "" : "number of the launch";
}
std::string wrong_with_workspace(const nf4::MultistagePlan& plan, nf4::MultistageSplit split, int cols,
                                 const Expected& call) {
  return wrong_with_workspace(plan.counters, plan.parts, plan.launch, split == nf4::MultistageSplit::even,
                              plan.shares.count, plan.groups, int64_t{32} * cols * 4, call);
}

// gemm_pair_multistage<T, ColTiles, Scales>({x, ldx, m}, group, plan)
Check read_pair_multistage(const Launch& launch, const Name& kernel, const void* const* arguments) {
  struct X {  // as the kernel has it, of any type
    const void* values;
    int64_t ld;
    int rows;
  };
  const auto x = argument<X>(arguments, 0);
  const auto group = argument<nf4::Group<nf4::kMostProducts>>(arguments, 1);
  const auto plan = argument<nf4::MultistagePlan>(arguments, 2);
  return [=](Expected& call) {
    const nf4::GemmArgs& first = call.products.front();
    const nf4::MultistageConfig& config = nf4::kMultistageConfigs[call.config];
    const int cols = 8 * kernel.number(1);
    GemmLaunch found{products_of(group), x.rows, 32, cols, cols > 8 ? cols / 2 : 0};
    found.x = x.values;
    found.ldx = x.ld;
    found.grid = plan.shares.count;
    found.block = plan.threads;
    found.quads = plan.quads;
    const std::vector<int64_t> rows = rows_of(call.products);
    for (int tile = 0; tile < nf4::count_tiles(rows, plan.rows); ++tile) {  // whose steps the layout's check counts
      const int product = group.tiles.product(tile);
      found.tiles.push_back({product, int64_t{group.tiles.in_product(tile, product)} * plan.rows, plan.rows, 0, cols});
    }
    const Dtype absmax = first.weight.absmax.dtype;
    const int maps = absmax == Dtype::u8 ? static_cast<int>(rows.size()) : 0;
    const auto wrong_with_layout = [&](auto col_tiles) {
      return wrong_with<nf4::MultistageSizes<decltype(col_tiles)::value>>(plan, config, call.device, rows,
                                                                          first.weight.cols, maps);
    };
    return first_of({wrong_with_name(kernel, {type_name(first.dtype), kernel.arguments.at(1),
                                              absmax == Dtype::f32 ? "F32Scales" : "PackedScales"}),
                     with_one_of<1, 2, 4>(kernel.number(1), wrong_with_layout),
                     static_cast<int>(launch.shared_memory) == plan.shared_bytes ? "" : "shared memory",
                     group.count == static_cast<int>(rows.size()) ? "" : "products",
                     wrong_with_workspace(plan, config.split, cols, call),
                     wrong_with_codebook(plan.codebook, first.dtype), wrong_with_gemm(found, launch, call)});
  };
}

// gemm_scaled_mma<T, ColTiles>({x, ldx, m}, group, plan)
Check read_scaled_mma(const Launch& launch, const Name& kernel, const void* const* arguments) {
  struct X {  // as the kernel has it, of any type
    const void* values;
    int64_t ld;
    int rows;
  };
  const auto x = argument<X>(arguments, 0);
  const auto group = argument<nf4::Group<nf4::kMostProducts>>(arguments, 1);
  const auto plan = argument<nf4::ScaledMmaPlan>(arguments, 2);
  return [=](Expected& call) {
    const nf4::GemmArgs& first = call.products.front();
    const nf4::ScaledMmaConfig& config = nf4::kScaledMmaConfigs[call.config];
    GemmLaunch found{products_of(group), x.rows, first.m, first.m, 0};
    found.x = x.values;
    found.ldx = x.ld;
    found.grid = plan.shares.count;
    found.block = plan.threads;
    found.quads = plan.quads;
    const std::vector<int64_t> rows = rows_of(call.products);
    for (int tile = 0; tile < nf4::count_tiles(rows, plan.rows) * plan.col_tiles; ++tile) {
      const int row_tile = tile / plan.col_tiles, product = group.tiles.product(row_tile);
      found.tiles.push_back({product, int64_t{group.tiles.in_product(row_tile, product)} * plan.rows, plan.rows,
                             int64_t{tile % plan.col_tiles} * config.cols, config.cols});
    }
    const int maps = first.weight.absmax.dtype == Dtype::u8 ? static_cast<int>(rows.size()) : 0;
    const std::string wrong_with_layout = nf4::with_scaled_mma_sizes(config, [&](auto sizes) {
      return wrong_with<decltype(sizes)>(plan, config, call.device, rows, first.weight.cols, x.rows, maps);
    });
    return first_of({wrong_with_name(kernel, {type_name(first.dtype), std::to_string(config.cols / 8)}),
                     wrong_with_layout,
                     static_cast<int>(launch.shared_memory) == plan.shared_bytes ? "" : "shared memory",
                     group.count == static_cast<int>(rows.size()) ? "" : "products",
                     wrong_with_workspace(plan, config.split, config.cols, call),
                     same(plan.codebook, nf4::pair_codebook<nf4::f16>(nf4::kScaledTableFactor)) ? "" : "codebook",
                     wrong_with_gemm(found, launch, call)});
  };
}

// gemm_pair_wgmma<T, WgmmaShape<Cols>, BlockCols>(y, ldy, x, ldx, m, weight, bias, plan, codes_map)
Check read_pair_wgmma(const Launch& launch, const Name& kernel, const void* const* arguments) {
  const nf4::GroupProduct product{argument<nf4::Weight>(arguments, 5), argument<const void*>(arguments, 6),
                                  argument<void*>(arguments, 0), argument<int64_t>(arguments, 1)};
  const auto x = argument<const void*>(arguments, 2);
  const auto ldx = argument<int64_t>(arguments, 3);
  const int64_t m = argument<int>(arguments, 4);
  const auto plan = argument<nf4::WgmmaPlan>(arguments, 7);
  const std::vector<TensorMap> maps = read_maps(arguments[8], 1);
  const Name shape(kernel.arguments.at(1));
  return [=](Expected& call) {
    const nf4::GemmArgs& first = call.products.front();
    const int cols = shape.number(0);
    GemmLaunch found{{product}, m, 64, cols, cols > 8 ? cols / 2 : 0};
    found.x = x;
    found.ldx = ldx;
    found.codes_maps = maps;
    found.codes_box = {plan.rows() / up(plan.rows(), 256), 64};
    found.grid = up(first.weight.rows, plan.rows()) * plan.cluster;
    found.block = launch.block;
    found.cluster = plan.cluster;
    found.dependent = true;
    found.oldest = found.newest = 90;
    found.constant = plan.constant_weights;
    for (int64_t tile = 0; tile < found.grid / plan.cluster; ++tile)
      found.tiles.push_back({0, tile * plan.rows(), plan.rows(), 0, cols});
    const nf4::WgmmaLaunch layout{plan, found.grid / plan.cluster, static_cast<int>(launch.block),
                                  static_cast<int>(launch.shared_memory)};
    const auto wrong_with_layout = [&](auto width) {
      return wrong_with<decltype(width)::value>(layout, nf4::kWgmmaConfigs[call.config], call.device, first.weight.rows,
                                                first.weight.cols);
    };
    return first_of({wrong_with_name(kernel, {type_name(first.dtype), kernel.arguments.at(1),
                                              first.weight.log2_blocksize == 5 ? "32" : "64"}),
                     with_one_of<8, 16, 32, 64>(cols, wrong_with_layout),
                     wrong_with_codebook(plan.codebook, first.dtype), wrong_with_gemm(found, launch, call)});
  };
}

// gemm_scaled_wgmma<T, ScaledShape<Rows, Cols, FormatCols, Transposed>, Even>(y, ldy, m, weight, bias, plan, codes_map,
// x_map), of a product with W or with its transpose
template <bool Transposed>
std::string wrong_with_scaled_wgmma(const Launch& launch, const Name& kernel, const nf4::GroupProduct& product,
                                    int64_t m, const nf4::ScaledPlan& plan, const TensorMap& codes, const TensorMap& x,
                                    const nf4::ScaledConfig& config, Expected& call) {
  const nf4::GemmArgs& first = call.products.front();
  const nf4::Weight& weight = first.weight;
  const int64_t outputs = Transposed ? weight.cols : weight.rows, summed = Transposed ? weight.rows : weight.cols;
  const int blocksize = weight.log2_blocksize == 5 ? 32 : 64;
  const int64_t row_tiles = up(outputs, config.rows);
  GemmLaunch found{{product}, m, first.m, first.m, 0};
  found.transposed = Transposed;
  found.x_map = x;
  found.x_box = {config.cols, 64};
  found.codes_maps = {codes};
  const int blocks = config.cols == 128 ? 2 : 1;  // of a stage
  found.codes_box = Transposed ? Box{64 * blocks, config.rows / 2} : Box{config.rows, 32 * blocks};
  const bool even = config.cluster == nf4::kScaledEven;
  const int64_t tiles = row_tiles * up(m, config.cols);
  found.grid = even ? plan.shares.count : tiles * plan.cluster;
  found.block = (config.rows / 64 + 1) * 128;
  found.cluster = plan.cluster;
  found.dependent = true;
  found.oldest = found.newest = 90;
  found.constant = plan.constant_weights;
  for (int64_t tile = 0; tile < tiles; ++tile) {  // whose stages the layout's checks count
    found.tiles.push_back(
        {0, tile / plan.col_tiles * config.rows, config.rows, tile % plan.col_tiles * config.cols, config.cols});
  }
  const nf4::ScaledLaunch layout{plan, row_tiles, int64_t{plan.col_tiles} * config.cols,
                                 static_cast<int>(launch.shared_memory)};
  const std::string wrong_with_layout = nf4::with_scaled_shape<Transposed>(config, blocksize, [&](auto shape) {
    using Shape = decltype(shape);
    return first_of(
        {wrong_with<Shape>(layout, config, call.device, blocksize, outputs, summed),
         even ? wrong_with_parts<Shape>(plan, tiles, std::max(1, call.device.clusters(1))) : std::string()});
  });
  const std::string shape = "ScaledShape<" + std::to_string(config.rows) + ", " + std::to_string(config.cols) + ", " +
                            std::to_string(blocksize) + ", " + text_of(Transposed) + ">";
  return first_of({wrong_with_name(kernel, {type_name(first.dtype), shape, text_of(even)}), wrong_with_layout,
                   wrong_with_workspace(plan.counters, plan.parts, plan.launch, even, plan.shares.count,
                                        config.rows / 16, int64_t{16} * config.cols * 4, call),
                   same(plan.codebook, nf4::pair_codebook<nf4::f16>(nf4::kScaledTableFactor)) ? "" : "codebook",
                   wrong_with_gemm(found, launch, call)});
}
Check read_scaled_wgmma(const Launch& launch, const Name& kernel, const void* const* arguments) {
  const nf4::GroupProduct product{argument<nf4::Weight>(arguments, 3), argument<const void*>(arguments, 4),
                                  argument<void*>(arguments, 0), argument<int64_t>(arguments, 1)};
  const int64_t m = argument<int>(arguments, 2);
  const auto plan = argument<nf4::ScaledPlan>(arguments, 5);
  const TensorMap codes = read_maps(arguments[6], 1).front(), x = read_maps(arguments[7], 1).front();
  return [=](Expected& call) {
    if (call.variant.op == nf4::Op::gemm)
      return wrong_with_scaled_wgmma<false>(launch, kernel, product, m, plan, codes, x,
                                            nf4::kScaledConfigs[call.config], call);
    const auto& args = *static_cast<const nf4::GemmTransposedArgs*>(call.args);
    const nf4::GemmArgs same_args[] = {
        {args.y, args.ldy, args.x, args.ldx, args.m, args.dtype, args.weight, nullptr, args.workspace}};
    call.products = same_args;
    const std::string wrong = wrong_with_scaled_wgmma<true>(launch, kernel, product, m, plan, codes, x,
                                                            nf4::kScaledTransposedConfigs[call.config], call);
    call.products = {};
    return wrong;
  };
}

// gemm_fma<T, Cols, Rows, Plain>(y, ldy, x, ldx, m, weight, bias, plan)
Check read_fma(const Launch& launch, const Name& kernel, const void* const* arguments) {
  const nf4::GroupProduct product{argument<nf4::Weight>(arguments, 5), argument<const void*>(arguments, 6),
                                  argument<void*>(arguments, 0), argument<int64_t>(arguments, 1)};
  const auto x = argument<const void*>(arguments, 2);
  const auto ldx = argument<int64_t>(arguments, 3);
  const int64_t m = argument<int>(arguments, 4);
  const auto plan = argument<nf4::FmaPlan>(arguments, 7);
  return [=](Expected& call) {
    const nf4::GemmArgs& first = call.products.front();
    const nf4::Weight& weight = first.weight;
    const int cols = kernel.number(1);
    GemmLaunch found{{product}, m, 4, cols, cols / 2};
    found.x = x;
    found.ldx = ldx;
    found.grid = std::min<int64_t>(weight.rows, call.device.multiprocessors);
    found.block = int64_t{plan.parts} * plan.teams * 32;
    const nf4::EqualRuns runs(weight.rows, launch.grid);  // of places in the order of classes, each a row of W
    for (int64_t block = 0; block < launch.grid; ++block)
      found.tiles.push_back({0, runs.begin(block), runs.begin(block + 1) - runs.begin(block), 0, cols});
    const int piece = cols <= 2 ? 32 : 16;
    const bool plain = weight.absmax.dtype == Dtype::f32 && weight.rows * weight.cols % piece == 0 &&
                       aligned(weight.codes, static_cast<size_t>(piece / 2));
    const int at_once = std::min(setting(call, "rows"), cols == 1 ? 8 : 4);
    return first_of(
        {wrong_with_name(kernel,
                         {type_name(first.dtype), std::to_string(cols), std::to_string(at_once), text_of(plain)}),
         launch.shared_memory == 64 << 10 ? "" : "shared memory",
         wrong_with(plan, weight.rows, weight.cols, cols, launch.grid, at_once), wrong_with_gemm(found, launch, call)});
  };
}

// gemm_pair_direct<T, RowTiles, ColTiles>(y, ldy, x, ldx, m, weight, bias, codebook)
Check read_pair_direct(const Launch& launch, const Name& kernel, const void* const* arguments) {
  const nf4::GroupProduct product{argument<nf4::Weight>(arguments, 5), argument<const void*>(arguments, 6),
                                  argument<void*>(arguments, 0), argument<int64_t>(arguments, 1)};
  const auto x = argument<const void*>(arguments, 2);
  const auto ldx = argument<int64_t>(arguments, 3);
  const int64_t m = argument<int>(arguments, 4);
  const auto codebook = argument<nf4::PairCodebook>(arguments, 7);
  return [=](Expected& call) {
    const nf4::GemmArgs& first = call.products.front();
    const int rows = setting(call, "rows"), cols = 8 * kernel.number(2);
    GemmLaunch found{{product}, m, 32, cols, cols > 8 ? cols / 2 : 0};
    found.x = x;
    found.ldx = ldx;
    found.oldest = first.dtype == Dtype::bf16 ? 80 : 75;
    found.grid = up(first.weight.rows, rows);
    found.block = cols == 32 ? 12 * 32 : 16 * 32;
    for (int64_t block = 0; block < launch.grid; ++block) found.tiles.push_back({0, block * rows, rows, 0, cols});
    return first_of(
        {wrong_with_name(kernel, {type_name(first.dtype), std::to_string(rows / 16), kernel.arguments.at(2)}),
         launch.shared_memory == 64 << 10 ? "" : "shared memory", wrong_with_codebook(codebook, first.dtype),
         wrong_with_gemm(found, launch, call)});
  };
}

// gemm_tiled<T, Config, Transposed, Words>(y, ldy, x, ldx, m, weight, bias)
Check read_tiled(const Launch& launch, const Name& kernel, const void* const* arguments) {
  const nf4::GroupProduct product{argument<nf4::Weight>(arguments, 5), argument<const void*>(arguments, 6),
                                  argument<void*>(arguments, 0), argument<int64_t>(arguments, 1)};
  const auto x = argument<const void*>(arguments, 2);
  const auto ldx = argument<int64_t>(arguments, 3);
  const auto m = argument<int64_t>(arguments, 4);
  return [=](Expected& call) {
    const bool own =
        std::string_view(call.variant.name).ends_with(".tiled");  // else in another's place, by its default
    const int config = own ? call.config : 0;
    const int64_t tile_m = own ? setting(call, "tile_m") : 64;
    const bool transposed = call.variant.op == nf4::Op::gemm_transposed;
    const nf4::Weight& weight = product.weight;
    const int64_t tiles_n = up(transposed ? weight.cols : weight.rows, 64), tiles_m = up(m, tile_m);
    const bool words = weight.cols % 8 == 0 && aligned(weight.codes, 4);
    const auto wrong_with_launch = [&](Dtype dtype) {
      return first_of(
          {wrong_with_name(kernel, {type_name(dtype), std::to_string(config), text_of(transposed), text_of(words)}),
           wrong_with_grid(launch, tiles_n * tiles_m, 256)});
    };
    if (transposed) {
      const auto& args = *static_cast<const nf4::GemmTransposedArgs*>(call.args);
      if (product.y != args.y || x != args.x || product.bias != nullptr || !same(weight, args.weight))
        return std::string("operands");
      if (product.ldy != args.ldy || ldx != args.ldx || m != args.m) return std::string("sizes");
      return wrong_with_launch(args.dtype);
    }
    const nf4::GemmArgs& first = call.products.front();
    GemmLaunch found{{product}, m, first.m, first.m, 0};
    found.x = x;
    found.ldx = ldx;
    found.grid = tiles_n * tiles_m;
    found.block = 256;
    for (int64_t tile = 0; tile < tiles_n * tiles_m; ++tile)
      found.tiles.push_back({0, tile % tiles_n * 64, 64, tile / tiles_n * tile_m, tile_m});
    return first_of({wrong_with_launch(first.dtype), wrong_with_gemm(found, launch, call)});
  };
}

// unpack_slab<T>(slab, first, cols, weight): a call's launches unpack slab after slab of W to its workspace.
Check read_unpack_slab(const Launch& launch, const Name& kernel, const void* const* arguments) {
  const auto slab = argument<const void*>(arguments, 0);
  const auto first = argument<int64_t>(arguments, 1), cols = argument<int64_t>(arguments, 2);
  const auto weight = argument<nf4::Weight>(arguments, 3);
  return [=](Expected& call) {
    const auto& args = *static_cast<const nf4::GemmTransposedArgs*>(call.args);
    const int64_t bytes = int64_t{setting(call, "slab")} << 20;
    if (slab != args.workspace || !same(weight, args.weight)) return std::string("operands");
    if (first != call.columns) return std::string("columns are not unpacked once, in order");
    if (cols < 1 || first + cols > weight.cols) return std::string("columns past the last");
    if (first + cols < weight.cols && cols % 256 != 0) return std::string("a slab that ends inside of a step");
    if (cols > 256 && cols * weight.rows * size_of(args.dtype) > bytes) return std::string("a slab that is too large");
    call.columns += cols;
    return first_of({wrong_with_name(kernel, {type_name(args.dtype)}),
                     wrong_with_grid(launch, up(cols, 256) * up(weight.rows, 32), 256)});
  };
}

std::string table_of(const nf4::Variant& variant) {
  return std::string_view(variant.name).ends_with(".lut_shared") ? "SharedTable" : "GlobalTable";
}

// gemv_lut<T, Table, Config, Spans>(y, x, weight, bias)
Check read_gemv_lut(const Launch& launch, const Name& kernel, const void* const* arguments) {
  const nf4::GroupProduct product{argument<nf4::Weight>(arguments, 2), argument<const void*>(arguments, 3),
                                  argument<void*>(arguments, 0), 0};
  const auto x = argument<const void*>(arguments, 1);
  return [=](Expected& call) {
    const nf4::GemmArgs& first = call.products.front();
    const int warps = setting(call, "warps");
    GemmLaunch found{{product}, 1, 1, 1, 0};
    found.x = x;
    found.grid = up(first.weight.rows, warps);
    found.block = warps * 32;
    for (int64_t block = 0; block < launch.grid; ++block) found.tiles.push_back({0, block * warps, warps, 0, 1});
    const bool spans = first.weight.cols % 32 == 0 && aligned(first.weight.codes, 16) && aligned(first.x, 16);
    return first_of({wrong_with_name(kernel, {type_name(first.dtype), table_of(call.variant),
                                              std::to_string(call.config), text_of(spans)}),
                     wrong_with_grid(launch, found.grid, found.block), wrong_with_gemm(found, launch, call)});
  };
}

// ---- experts --------------------------------------------------------------------------------------------------------

bool same(const nf4::Routing& a, const nf4::Routing& b) {
  return a.experts == b.experts && a.slots == b.slots && a.top_k == b.top_k && a.ids == b.ids &&
         (a.ids == nullptr || a.wide_ids == b.wide_ids) && a.ends == b.ends && a.order == b.order && a.scale == b.scale;
}

// Slots sorted into the workspace of a product.
struct Sorted {
  int32_t *order, *ends;

  Sorted(const nf4::GemmExpertsArgs& args) {
    const nf4::SortedSlots layout = nf4::SortedSlots::of(args.routing.slots, args.routing.experts);
    order = static_cast<int32_t*>(args.workspace);
    ends = reinterpret_cast<int32_t*>(static_cast<uint8_t*>(args.workspace) + layout.ends);
  }
};

bool is_scaled(const Expected& call) { return std::string_view(call.variant.name) == "gemm_experts.scaled_wgmma"; }

bool sorts(const Expected& call) {
  const auto& args = *static_cast<const nf4::GemmExpertsArgs*>(call.args);
  return call.variant.op == nf4::Op::gemm_experts && (setting(call, "slots") > 1 || is_scaled(call)) &&
         args.routing.ends == nullptr;
}

// The routing of a product's later launches.
nf4::Routing sorted_routing(const Expected& call) {
  const auto& args = *static_cast<const nf4::GemmExpertsArgs*>(call.args);
  nf4::Routing routing = args.routing;
  if (!sorts(call)) return routing;
  const Sorted sorted(args);
  routing.ids = nullptr;
  routing.order = sorted.order;
  routing.ends = sorted.ends;
  return routing;
}

// sort_experts(order, ends, routing), of a sort or the first of two launches of a product
Check read_sort_experts(const Launch& launch, const Name&, const void* const* arguments) {
  const auto order = argument<int32_t*>(arguments, 0), ends = argument<int32_t*>(arguments, 1);
  const auto routing = argument<nf4::Routing>(arguments, 2);
  return [=](Expected& call) {
    if (call.launches != 0) return std::string("order");
    const std::string grid = wrong_with_grid(launch, routing.experts + 1, 1024);
    if (!grid.empty()) return grid;
    if (call.variant.op == nf4::Op::sort_experts) {
      const auto& args = *static_cast<const nf4::SortExpertsArgs*>(call.args);
      const bool right = order == args.order && ends == args.ends && same(routing, args.routing);
      return std::string(right ? "" : "operands");
    }
    if (!sorts(call)) return std::string("a sort that is not needed");
    const auto& args = *static_cast<const nf4::GemmExpertsArgs*>(call.args);
    const Sorted sorted(args);
    const auto end = reinterpret_cast<uintptr_t>(ends + routing.experts);
    if (end > reinterpret_cast<uintptr_t>(args.workspace) + call.workspace_size) return std::string("workspace");
    return std::string(order == sorted.order && ends == sorted.ends && same(routing, args.routing) ? "" : "operands");
  };
}

// gemm_experts_slots<T, Slots, Spans>(y, ldy, x, ldx, n, weight, bias, routing, plan)
Check read_experts_slots(const Launch& launch, const Name& kernel, const void* const* arguments) {
  const auto y = argument<const void*>(arguments, 0), x = argument<const void*>(arguments, 2),
             bias = argument<const void*>(arguments, 6);
  const auto ldy = argument<int64_t>(arguments, 1), ldx = argument<int64_t>(arguments, 3),
             n = argument<int64_t>(arguments, 4);
  const auto weight = argument<nf4::Weight>(arguments, 5);
  const auto routing = argument<nf4::Routing>(arguments, 7);
  const auto plan = argument<nf4::ExpertsSlotsPlan>(arguments, 8);
  return [=](Expected& call) {
    const auto& args = *static_cast<const nf4::GemmExpertsArgs*>(call.args);
    if (call.launches != (sorts(call) ? 1 : 0)) return std::string("order");
    if (y != args.y || x != args.x || bias != args.bias || !same(weight, args.weight)) return std::string("operands");
    if (ldy != args.ldy || ldx != args.ldx || n != args.n) return std::string("sizes");
    if (!same(routing, sorted_routing(call))) return std::string("routing");
    const int64_t slots = setting(call, "slots");
    const bool rows = args.routing.slots / args.routing.top_k == 1 || args.ldx * size_of(args.dtype) % 16 == 0;
    const bool spans = weight.cols % 32 == 0 && aligned(weight.codes, 16) && aligned(x, 16) && rows;
    const int64_t chunks = up(args.routing.slots, slots), groups = up(n, 8);
    const int64_t distance = std::min(groups, 0x7fffffff / chunks);
    if (plan.chunks != chunks || plan.groups != groups || plan.distance != distance) return std::string("plan");
    return first_of({wrong_with_name(kernel, {type_name(args.dtype), std::to_string(slots), text_of(spans)}),
                     wrong_with_grid(launch, chunks * distance, 256)});
  };
}

// gemm_experts_pair<T, ExpertsPairSizes<ColTiles>, Copy, Scales>(args, plan, source)
Check read_experts_pair(const Launch& launch, const Name& kernel, const void* const* arguments) {
  const auto found = argument<nf4::GemmExpertsArgs>(arguments, 0);
  const auto plan = argument<nf4::ExpertsPairPlan>(arguments, 1);
  const bool tma = kernel.arguments.at(2) == "ExpertsTmaCopy";
  const std::vector<TensorMap> maps = read_maps(arguments[2], tma ? 1 : 0);
  return [=](Expected& call) {
    const auto& args = *static_cast<const nf4::GemmExpertsArgs*>(call.args);
    if (call.launches != 0) return std::string("order");
    if (found.y != args.y || found.x != args.x || found.bias != args.bias || !same(found.weight, args.weight))
      return std::string("operands");
    if (found.ldy != args.ldy || found.ldx != args.ldx || found.n != args.n) return std::string("sizes");
    if (!same(found.routing, args.routing)) return std::string("routing");
    if (tma != (std::string_view(call.variant.name) == "gemm_experts.pair_tma")) return std::string("copies");
    if (tma ? call.device.architecture != 90 : call.device.architecture < 80)
      return std::string("a device that has no code of it");
    if (launch.cluster != 1 || launch.dependent != tma) return std::string("attributes of the launch");
    if (static_cast<int>(launch.shared_memory) != plan.shared_bytes) return std::string("shared memory");
    if (int64_t{launch.grid} != plan.ctas || int64_t{launch.block} != plan.threads) return std::string("grid or block");
    const nf4::GemmArgs as_one{nullptr, 0, nullptr, 0, 0, args.dtype, args.weight, nullptr, nullptr};
    if (plan.quads != quads({&as_one, 1})) return std::string("quads of scales");
    nf4::Problem problem{};
    problem.m = args.routing.slots;
    problem.n = args.n;
    problem.k = args.weight.cols;
    problem.experts = args.routing.experts;
    problem.sorted = args.routing.ends != nullptr;
    const std::string sizes = plan.cols > 16 ? "ExpertsPairSizes<4>" : "ExpertsPairSizes<2>";
    const nf4::Weight& weight = args.weight;
    return first_of({wrong_with_name(kernel, {type_name(args.dtype), sizes, kernel.arguments.at(2),
                                              weight.absmax.dtype == Dtype::f32 ? "F32Scales" : "PackedScales"}),
                     wrong_with(plan, nf4::kExpertsPairConfigs[call.config], call.device, problem),
                     wrong_with_codebook(plan.codebook, args.dtype),
                     tma ? wrong_with_map(maps.front(), CU_TENSOR_MAP_DATA_TYPE_UINT8, weight.codes, weight.rows,
                                          weight.cols / 2, weight.cols / 2, {32, 128})
                         : ""});
  };
}

// Whether gemm_experts.scaled_wgmma gathers rows of x, and where to.
bool gathers(const nf4::GemmExpertsArgs& args) {
  return args.routing.ends == nullptr || args.routing.order != nullptr || args.routing.top_k != 1;
}
const uint8_t* gathered(const nf4::GemmExpertsArgs& args) {
  const size_t sorted = nf4::SortedSlots::of(args.routing.slots, args.routing.experts).bytes;
  return static_cast<const uint8_t*>(args.workspace) + (args.routing.ends == nullptr ? sorted : 0);
}

// gather_slots(to, x, pitch, pieces, routing)
Check read_gather_slots(const Launch& launch, const Name&, const void* const* arguments) {
  const auto to = argument<const uint8_t*>(arguments, 0);
  const auto x = argument<const void*>(arguments, 1);
  const auto pitch = argument<int64_t>(arguments, 2);
  const int64_t pieces = argument<int>(arguments, 3);
  const auto routing = argument<nf4::Routing>(arguments, 4);
  return [=](Expected& call) {
    const auto& args = *static_cast<const nf4::GemmExpertsArgs*>(call.args);
    if (!is_scaled(call) || !gathers(args)) return std::string("rows that need not be gathered");
    if (call.launches != (sorts(call) ? 1 : 0)) return std::string("order");
    if (launch.grid != up(args.routing.slots, 8) || launch.block != 256) return std::string("grid or block");
    if (!launch.dependent || launch.cluster != 1 || launch.shared_memory != 0)
      return std::string("attributes of the launch");
    if (to != gathered(args) || x != args.x || !same(routing, sorted_routing(call))) return std::string("operands");
    if (pieces * 16 != args.weight.cols * 2) return std::string("bytes of a row");
    if (args.routing.slots > args.routing.top_k && pitch * 16 != args.ldx * 2) return std::string("pitch");
    const auto end = reinterpret_cast<uintptr_t>(to + args.routing.slots * pieces * 16);
    return std::string(end > reinterpret_cast<uintptr_t>(args.workspace) + call.workspace_size ? "workspace" : "");
  };
}

// What a launch of gemm_experts.scaled_wgmma has for tiles of a width.
struct ScaledWay {
  nf4::ScaledPlan plan;
  CUtensorMap codes, x;
};

// gemm_experts_scaled<T, FormatCols>(args, plan, narrow, middle, wide)
Check read_experts_scaled(const Launch& launch, const Name& kernel, const void* const* arguments) {
  const auto found = argument<nf4::GemmExpertsArgs>(arguments, 0);
  const auto plan = argument<nf4::ExpertsScaledPlan>(arguments, 1);
  std::vector<nf4::ScaledPlan> plans;
  std::vector<TensorMap> maps;
  for (size_t i = 2; i < 5; ++i) {
    const auto& way = argument<ScaledWay>(arguments, i);
    plans.push_back(way.plan);
    for (const CUtensorMap* map : {&way.codes, &way.x}) maps.push_back(fake_cuda::read(*map));
  }
  return [=](Expected& call) {
    const auto& args = *static_cast<const nf4::GemmExpertsArgs*>(call.args);
    const nf4::Weight& weight = args.weight;
    const int64_t slots = args.routing.slots, row_tiles = up(args.n, 128), cols = setting(call, "cols");
    const void* const x = gathers(args) ? gathered(args) : args.x;
    const int64_t ldx = gathers(args) || slots == 1 ? weight.cols : args.ldx;
    if (call.launches != (sorts(call) ? 1 : 0) + (gathers(args) ? 1 : 0)) return std::string("order");
    if (found.y != args.y || found.bias != args.bias || !same(found.weight, weight)) return std::string("operands");
    if (found.ldy != args.ldy || found.n != args.n) return std::string("sizes");
    if (!same(found.routing, sorted_routing(call))) return std::string("routing");
    if (plan.row_tiles != row_tiles || plan.cols != cols) return std::string("tiles");
    if (launch.grid != row_tiles * (std::min(slots, args.routing.experts) + slots / cols)) return std::string("grid");
    if (launch.block != 384 || launch.cluster != 1 || !launch.dependent) return std::string("attributes of the launch");
    if (call.device.architecture != 90) return std::string("a device that has no code of it");
    const int blocksize = weight.log2_blocksize == 5 ? 32 : 64;
    for (size_t i = 0; i < 3; ++i) {
      const nf4::ScaledConfig config{128, 64 << i, 1};
      const nf4::ScaledLaunch layout{plans[i], row_tiles, config.cols, static_cast<int>(launch.shared_memory)};
      const auto wrong_with_shape = [&](auto format_cols) {
        constexpr int kFormatCols = decltype(format_cols)::value;
        if (i == 0) {
          return wrong_with<nf4::ScaledShape<128, 64, kFormatCols>>(layout, config, call.device, blocksize, args.n,
                                                                    weight.cols);
        }
        return nf4::with_scaled_shape(config, kFormatCols, [&](auto shape) {
          return wrong_with<decltype(shape)>(layout, config, call.device, blocksize, args.n, weight.cols);
        });
      };
      const std::string wrong =
          first_of({blocksize == 32 ? wrong_with_shape(nf4::Constant<32>{}) : wrong_with_shape(nf4::Constant<64>{}),
                    plans[i].constant_weights ? "weights that are read before the routing" : "",
                    same(plans[i].codebook, nf4::pair_codebook<nf4::f16>(nf4::kScaledTableFactor)) ? "" : "codebook",
                    wrong_with_map(maps[2 * i], CU_TENSOR_MAP_DATA_TYPE_UINT8, weight.codes, weight.rows,
                                   weight.cols / 2, weight.cols / 2, {128, i < 2 ? 64 : 32}),
                    wrong_with_map(maps[2 * i + 1], CU_TENSOR_MAP_DATA_TYPE_UINT16, x, slots, weight.cols, ldx * 2,
                                   {config.cols, 64})});
      if (!wrong.empty()) return wrong;
    }
    return wrong_with_name(kernel, {type_name(args.dtype), std::to_string(blocksize)});
  };
}

// ---- pack and unpack ------------------------------------------------------------------------------------------------

// pack_binned<T, Config>(codes, absmax, w, elements, log2_blocksize)
Check read_pack_binned(const Launch& launch, const Name& kernel, const void* const* arguments) {
  const auto codes = argument<const void*>(arguments, 0), absmax = argument<const void*>(arguments, 1),
             w = argument<const void*>(arguments, 2);
  const auto elements = argument<int64_t>(arguments, 3);
  const auto log2_blocksize = argument<int>(arguments, 4);
  return [=](Expected& call) {
    const auto& args = *static_cast<const nf4::PackArgs*>(call.args);
    const int64_t tile = setting(call, "threads") * setting(call, "steps") * (16 / size_of(args.dtype));
    if (codes != args.codes || absmax != args.absmax || w != args.w) return std::string("operands");
    if (elements != args.rows * args.cols || log2_blocksize != args.log2_blocksize) return std::string("sizes");
    return first_of({wrong_with_name(kernel, {type_name(args.dtype), std::to_string(call.config)}),
                     wrong_with_grid(launch, call, up(elements, tile))});
  };
}

// pack_cub<T, Log2Blocksize, Vectorized>(codes, absmax, w, ldw, rows, cols)
Check read_pack_cub(const Launch& launch, const Name& kernel, const void* const* arguments) {
  const auto codes = argument<const void*>(arguments, 0), absmax = argument<const void*>(arguments, 1),
             w = argument<const void*>(arguments, 2);
  const auto ldw = argument<int64_t>(arguments, 3), rows = argument<int64_t>(arguments, 4),
             cols = argument<int64_t>(arguments, 5);
  return [=](Expected& call) {
    const auto& args = *static_cast<const nf4::PackArgs*>(call.args);
    const bool vectorized = args.ldw == args.cols && aligned(args.w, 16) && aligned(args.codes, 4);
    const int64_t threads = args.log2_blocksize <= 8 ? 256 : (1 << args.log2_blocksize) / 8;
    if (codes != args.codes || absmax != args.absmax || w != args.w) return std::string("operands");
    if (ldw != args.ldw || rows != args.rows || cols != args.cols) return std::string("sizes");
    return first_of(
        {wrong_with_name(kernel, {type_name(args.dtype), std::to_string(args.log2_blocksize), text_of(vectorized)}),
         wrong_with_grid(launch, up(rows * cols, threads * 8), threads)});
  };
}

// unpack_stream<T, Config>(w, weight)
Check read_unpack_stream(const Launch& launch, const Name& kernel, const void* const* arguments) {
  const auto w = argument<const void*>(arguments, 0);
  const auto weight = argument<nf4::Weight>(arguments, 1);
  return [=](Expected& call) {
    const auto& args = *static_cast<const nf4::UnpackArgs*>(call.args);
    const int64_t tile = setting(call, "threads") / 32 * 4 * 32 * (16 / size_of(args.dtype));
    if (w != args.w || !same(weight, args.weight)) return std::string("operands");
    return first_of({wrong_with_name(kernel, {type_name(args.dtype), std::to_string(call.config)}),
                     wrong_with_grid(launch, call, up(weight.rows * weight.cols, tile))});
  };
}

// unpack_lut<T, Table, Config, Vectorized>(w, ldw, weight)
Check read_unpack_lut(const Launch& launch, const Name& kernel, const void* const* arguments) {
  const auto w = argument<const void*>(arguments, 0);
  const auto ldw = argument<int64_t>(arguments, 1);
  const auto weight = argument<nf4::Weight>(arguments, 2);
  return [=](Expected& call) {
    const auto& args = *static_cast<const nf4::UnpackArgs*>(call.args);
    const bool vectorized = args.ldw == weight.cols && aligned(args.w, 16) && aligned(weight.codes, 4);
    const int64_t threads = setting(call, "threads");
    if (w != args.w || ldw != args.ldw || !same(weight, args.weight)) return std::string("operands");
    return first_of({wrong_with_name(kernel, {type_name(args.dtype), table_of(call.variant),
                                              std::to_string(call.config), text_of(vectorized)}),
                     wrong_with_grid(launch, up(weight.rows * weight.cols, threads * 8), threads)});
  };
}

// ---- scales ---------------------------------------------------------------------------------------------------------

// mean(offset, absmax, count), the first of two launches
Check read_mean(const Launch& launch, const Name&, const void* const* arguments) {
  const auto offset = argument<const void*>(arguments, 0), absmax = argument<const void*>(arguments, 1);
  const auto count = argument<int64_t>(arguments, 2);
  return [=](Expected& call) {
    const auto& args = *static_cast<const nf4::PackAbsmaxArgs*>(call.args);
    if (call.launches != 0) return std::string("order");
    if (offset != args.offset || absmax != args.absmax || count != args.count) return std::string("operands");
    return wrong_with_grid(launch, 1, 1024);
  };
}

// code_groups(codes, absmax2, offset, absmax, count, map, log2_blocksize), the second
Check read_code_groups(const Launch& launch, const Name&, const void* const* arguments) {
  const auto codes = argument<const void*>(arguments, 0), absmax2 = argument<const void*>(arguments, 1),
             offset = argument<const void*>(arguments, 2), absmax = argument<const void*>(arguments, 3),
             map = argument<const void*>(arguments, 5);
  const auto count = argument<int64_t>(arguments, 4);
  const auto log2_blocksize = argument<int>(arguments, 6);
  return [=](Expected& call) {
    const auto& args = *static_cast<const nf4::PackAbsmaxArgs*>(call.args);
    if (call.launches != 1) return std::string("order");
    if (codes != args.codes || absmax2 != args.absmax2 || offset != args.offset || absmax != args.absmax ||
        map != args.map || count != args.count || log2_blocksize != args.log2_blocksize)
      return std::string("operands");
    return wrong_with_grid(launch, up(count, int64_t{1} << log2_blocksize), 256);
  };
}

// unpack_absmax(out, absmax, count)
Check read_unpack_absmax(const Launch& launch, const Name&, const void* const* arguments) {
  const auto out = argument<const void*>(arguments, 0);
  const auto absmax = argument<nf4::Absmax>(arguments, 1);
  const auto count = argument<int64_t>(arguments, 2);
  return [=](Expected& call) {
    const auto& args = *static_cast<const nf4::UnpackAbsmaxArgs*>(call.args);
    if (out != args.out || !same(absmax, args.absmax) || count != args.count) return std::string("operands");
    return wrong_with_grid(launch, up(count, 256), 256);
  };
}

// ---- all kernels ----------------------------------------------------------------------------------------------------

constexpr struct {
  std::string_view name;
  Check (*read)(const Launch&, const Name&, const void* const* arguments);
} kReaders[] = {
    {"gemm_pair", read_pair},
    {"gemm_pair_direct", read_pair_direct},
    {"gemm_pair_multistage", read_pair_multistage},
    {"gemm_pair_stream", read_pair_stream},
    {"gemm_pair_wgmma", read_pair_wgmma},
    {"gemm_scaled_mma", read_scaled_mma},
    {"gemm_scaled_wgmma", read_scaled_wgmma},
    {"gemm_fma", read_fma},
    {"gemm_tiled", read_tiled},
    {"unpack_slab", read_unpack_slab},
    {"gemv_lut", read_gemv_lut},
    {"gemm_experts_pair", read_experts_pair},
    {"gemm_experts_scaled", read_experts_scaled},
    {"gather_slots", read_gather_slots},
    {"gemm_experts_slots", read_experts_slots},
    {"sort_experts", read_sort_experts},
    {"pack_binned", read_pack_binned},
    {"pack_cub", read_pack_cub},
    {"unpack_stream", read_unpack_stream},
    {"unpack_lut", read_unpack_lut},
    {"mean", read_mean},
    {"code_groups", read_code_groups},
    {"unpack_absmax", read_unpack_absmax},
};

}  // namespace

Check read(const Launch& launch, const void* const* arguments) {
  const Name kernel = name_of(launch.kernel);
  for (const auto& reader : kReaders) {
    if (reader.name != kernel.text) continue;
    const Check check = reader.read(launch, kernel, arguments);
    return [check, text = kernel.text](Expected& call) {
      const std::string wrong = check(call);
      ++call.launches;
      return wrong.empty() ? "" : text + ": " + wrong;
    };
  }
  return [text = kernel.text](Expected&) { return text + " has no reader in tests/fake_cuda/kernels.cpp"; };
}

}  // namespace nf4test
