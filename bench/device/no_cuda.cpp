// Stands in for the CUDA parts in a build without the toolkit.
#include "contenders/contender.hpp"
#include "device/device.hpp"

namespace nf4bench {

std::unique_ptr<Device> open_cuda_device(int32_t) { return nullptr; }

Contenders cuda_peers(Device&, nf4_handle_t, const PeerPaths&, std::string&) { return {}; }

}  // namespace nf4bench
