// The devices and sizes for which the layouts of products are tested, the loop over them, and what holds for the
// regions of any layout.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "catch.hpp"
#include "problem.hpp"

namespace nf4test {

// An H100 or H200, one of fewer SMs, one without clusters, and one that runs a cluster at a time; each with as much
// shared memory for a block as devices of compute capability 9.0, 8.0 and 8.6 have. Last, one with more than any has,
// for rings as long as they may be.
inline std::vector<nf4::Device> layout_devices() {
  std::vector<nf4::Device> devices;
  const auto add = [&devices](const std::array<int, 4>& clusters, int kib) {
    nf4::Device device{0, 90, clusters[0], std::to_string(clusters[0]) + " SMs, " + std::to_string(kib) + " KiB"};
    device.shared_memory = kib * 1024;
    device.resident_clusters = clusters;
    devices.push_back(device);
  };
  for (const auto& clusters :
       {std::array{132, 66, 33, 16}, std::array{114, 57, 28, 14}, std::array{108, 0, 0, 0}, std::array{1, 1, 1, 1}})
    for (const int kib : {227, 163, 99}) add(clusters, kib);
  add({132, 66, 33, 16}, 1024);
  return devices;
}

// Rows of W: all few, then some of each remainder, then the most that products on the tensor cores take.
inline std::vector<int64_t> layout_rows() {
  std::vector<int64_t> rows;
  for (int64_t n = 1; n < 40'000; n += n < 300 ? 1 : n < 3'000 ? 13 : 97) rows.push_back(n);
  rows.insert(rows.end(), {int64_t{1} << 20, (int64_t{1} << 30) - 1, int64_t{1} << 30});
  return rows;
}

inline const std::vector<int64_t>& layout_columns() {
  static const std::vector<int64_t> columns = {64, 128, 320, 4096, 8192, 14336, 28672};
  return columns;
}

// Something that a CTA keeps in shared memory.
struct Region {
  const char* name;
  int64_t begin, bytes;  // offset
  int64_t alignment;
};

// What is wrong with regions that are in use at the same time; empty if nothing is. Between them fewer than `padding`
// bytes are nobody's.
inline std::string wrong_with_regions(std::vector<Region> regions, int64_t shared_bytes, const nf4::Device& device,
                                      int64_t padding = INT64_MAX) {
  if (shared_bytes > device.shared_memory) return "more shared memory than there is";
  std::sort(regions.begin(), regions.end(), [](const Region& a, const Region& b) { return a.begin < b.begin; });
  int64_t end = 0;
  const char* before = "";
  for (const Region& region : regions) {
    if (region.bytes == 0) continue;
    if (region.begin < end) return std::string(region.name) + " overlap " + before;
    if (region.begin % region.alignment != 0) return std::string(region.name) + " are not aligned";
    if (region.begin - end >= padding) return std::string("room is lost before ") + region.name;
    end = region.begin + region.bytes;
    before = region.name;
  }
  if (shared_bytes - end >= padding) return "room is lost at the end";
  return end > shared_bytes ? std::string(before) + " do not fit" : "";
}

// The pair table, at the beginning of shared memory, and the holes in it.
constexpr int kPairTable = 64 * 1024;
constexpr int kPairHoles = 256, kPairHoleBytes = 128;
inline Region pair_table() { return {"table", 0, kPairTable, 1024}; }

// What is wrong with a grid; empty if nothing is. CUDA takes 2^31 - 1 blocks, in whole clusters.
inline std::string wrong_with_grid(int64_t blocks, int cluster) {
  return blocks < 1 || blocks > 0x7fffffff || blocks % cluster != 0 ? "grid" : "";
}

// Goes through all devices, configs and sizes. `wrong_with(device, config, n, k)` lays a kernel out for W [n, k] and
// tells what is wrong with that: an empty text if nothing is, none at all if that config cannot have such a W.
template <class Configs, class WrongWith>
void check_layouts(const Configs& configs, const WrongWith& wrong_with) {
  int64_t checked = 0;
  std::string fault;  // the first
  for (const nf4::Device& device : layout_devices()) {
    for (const auto& config : configs) {
      for (const int64_t k : layout_columns()) {
        for (const int64_t n : layout_rows()) {
          const std::optional<std::string> wrong = wrong_with(device, config, n, k);
          if (!wrong) continue;
          ++checked;
          if (!wrong->empty() && fault.empty())
            fault = *wrong + ": " + std::to_string(n) + " x " + std::to_string(k) + ", " + config.text() + ", " +
                    device.name;
        }
      }
    }
  }
  CHECK(fault == "");
  CHECK(checked > 0);
}

// What wrong_with() answers where a config has no room: a fault if the least that the variant needs is there, since its
// unsupported() asks for no more than that.
inline std::optional<std::string> no_room(bool least_has_room) {
  if (least_has_room) return "no room for a W that the variant says it supports";
  return std::nullopt;
}

}  // namespace nf4test
