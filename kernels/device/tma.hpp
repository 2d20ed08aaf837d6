// The limits of tensor copies (TMA, the copy engine of compute capability 9.0), in plain C++.
#pragma once

namespace nf4 {

constexpr int kMostBoxRows = 256;  // of one copy

}  // namespace nf4
