// The threads of a warp, on every device that there is code for.
#pragma once

namespace nf4 {

constexpr int kWarpSize = 32;

}  // namespace nf4
