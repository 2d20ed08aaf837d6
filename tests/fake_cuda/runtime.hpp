// A CUDA runtime without a GPU, linked in place of NVIDIA's: it has as many devices as a test asks for, checks launches
// against the limits that hardware has, runs no kernel, and makes the call that a test names fail. Device memory is
// host memory. Not for several threads at once.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <functional>
#include <memory_resource>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace fake_cuda {

struct Device {
  int capability;     // 90
  int architecture;   // of the code that it runs: 90, or 80 where it gets PTX of that
  int shared_memory;  // bytes that a block may ask for
  int multiprocessors;

  // How many clusters of so many blocks, each of which fills an SM, run at once. A cluster stays in one group of SMs,
  // and a group has up to 18: an H200 runs 66 of 2, 30 of 4 and 15 of 8, here 66, 29 and 14.
  constexpr int clusters(int blocks) const {
    constexpr int kGroup = 18;
    return multiprocessors / kGroup * (kGroup / blocks) + multiprocessors % kGroup / blocks;
  }
};

inline constexpr Device kH200{90, 90, 227 << 10, 132};

struct Launch {
  std::string_view kernel;  // mangled
  unsigned grid, block, cluster;
  size_t shared_memory;
  cudaStream_t stream;
  int device;
  bool dependent;  // programmatic dependent launch
};

// Sees each launch that succeeds, while the kernel's arguments can be read: argument i lies at arguments[i].
using Observer = std::function<void(const Launch&, const void* const* arguments)>;

// What a CUtensorMap of the fake driver holds: how it was asked for.
struct TensorMap {
  const void* address;
  CUtensorMapDataType type;
  uint64_t columns, rows;  // elements
  uint64_t pitch;          // bytes from row to row
  uint32_t box_columns, box_rows;
  CUtensorMapSwizzle swizzle;
};
TensorMap read(const CUtensorMap& map);

// Starts anew: these devices, the first of them current, a driver as new as the runtime, no error pending.
void reset(const std::vector<Device>& devices);

// Forgets which calls were made.
void clear();

// Makes call number `number` from now on fail with `error`; 1 is the next, 0 none. Calls that cannot fail by themselves
// do not count: those that ask for errors and their names.
void fail_call(int number, cudaError_t error = cudaErrorUnknown);

// Calls `observer` from now on until the next reset().
void observe(Observer observer);

// Leaves an error behind, as an earlier failing call of somebody else would.
void set_pending(cudaError_t error);
cudaError_t pending();

// The newest CUDA that the driver serves, 12080 for 12.8; 0 where there is no driver.
void set_driver(int version);

int current_device();

// Since the last clear(): the names of the calls that counted, the name of the one that was made to fail, "" if it did
// not come to that, the launches that succeeded, and what was wrong with those that broke a limit.
const std::pmr::vector<std::string_view>& calls();
std::string_view failed_call();
const std::pmr::vector<Launch>& launches();
const std::vector<std::string>& violations();

// The mangled names of all kernels in the program.
const std::pmr::set<std::string_view>& kernels();

}  // namespace fake_cuda
