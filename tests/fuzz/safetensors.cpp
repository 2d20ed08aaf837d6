// The bench's reader of safetensors files: any file is read or refused with std::runtime_error; the tensors that it
// tells of lie within the file and have the size that their shape says.
#include "checkpoint/safetensors.hpp"

#include <limits>
#include <stdexcept>

#include "file.hpp"

using namespace nf4fuzz;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const File file(data, size);
  try {
    nf4bench::Safetensors safetensors(file.path());
    for (const nf4bench::Tensor& tensor : safetensors.tensors()) {
      FUZZ_CHECK(tensor.begin <= tensor.end && tensor.end <= size);
      FUZZ_CHECK(safetensors.read(tensor).size() == tensor.end - tensor.begin);
      Wide elements = 1;
      for (const int64_t extent : tensor.shape) {
        elements *= extent;
        FUZZ_CHECK(elements <= std::numeric_limits<int64_t>::max());
      }
      FUZZ_CHECK(tensor.elements == static_cast<int64_t>(elements));
      if (tensor.dtype != "F32") continue;  // one of a known size
      FUZZ_CHECK(elements * 4 == static_cast<Wide>(tensor.end - tensor.begin));
    }
  } catch (const std::runtime_error& error) {
    FUZZ_CHECK(error.what()[0] != '\0');
  }
  return 0;
}
