// How threads come in groups, on every device that there is code for.
#pragma once

namespace nf4 {

constexpr int kWarpSize = 32;

// A warpgroup is what executes wgmma: 4 warps from a multiple of 4 on.
constexpr int kWarpgroupWarps = 4;
constexpr int kWarpgroupThreads = kWarpgroupWarps * kWarpSize;

}  // namespace nf4
