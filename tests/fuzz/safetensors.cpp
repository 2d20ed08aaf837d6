// The bench's reader of safetensors files: any file is read or refused with std::runtime_error; the tensors that it
// tells of lie within the file and have the size that their shape says, and packed layers have all their parts.
#include "checkpoint/safetensors.hpp"

#include <limits>
#include <stdexcept>

#include "checkpoint/checkpoint.hpp"
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
    nf4bench::Checkpoint checkpoint(file.path());
    for (const nf4bench::Matrix& matrix : checkpoint.matrices()) {
      if (!matrix.packed) continue;
      const nf4bench::PackedData packed = checkpoint.read_packed(matrix);
      const Wide elements = static_cast<Wide>(matrix.rows()) * matrix.cols();
      FUZZ_CHECK(static_cast<Wide>(packed.codes.size()) == (elements + 1) / 2);
      const Wide blocks = (elements + matrix.packed->blocksize - 1) / matrix.packed->blocksize;
      FUZZ_CHECK(static_cast<Wide>(packed.absmax.size()) == blocks * (matrix.packed->nested ? 1 : 4));
    }
  } catch (const std::runtime_error& error) {
    FUZZ_CHECK(error.what()[0] != '\0');
  }
  return 0;
}
