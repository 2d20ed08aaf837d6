// A model's weights in safetensors: one file, or shards with an index.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/safetensors.hpp"
#include "nf4/nf4.h"

namespace nf4bench {

// How the NF4 form of a matrix is laid out (docs/reference/format.md).
struct PackedForm {
  int32_t blocksize = 0;
  bool nested = false;
  int32_t absmax_blocksize = 0;  // nested only
  float absmax_offset = 0;       // nested only
};

// A matrix [N, K], or experts of one shape, [E, N, K].
struct Matrix {
  std::string name;
  std::vector<int64_t> shape;
  nf4_dtype_t dtype = NF4_BF16;      // of its elements; of a packed one, what they were before
  std::optional<PackedForm> packed;  // without it, it is dense
  int64_t bytes = 0;                 // in the checkpoint, of all its parts

  bool experts() const { return shape.size() == 3; }
  int64_t rows() const { return experts() ? shape[0] * shape[1] : shape[0]; }
  int64_t cols() const { return shape.back(); }
};

// Host memory of a packed matrix.
struct PackedData {
  std::vector<unsigned char> codes;
  std::vector<unsigned char> absmax;
  std::vector<unsigned char> map;  // nested only, as absmax2
  std::vector<unsigned char> absmax2;

  // What it is of `matrix`, which must outlive the view, too.
  nf4_weight_t view(const Matrix& matrix) const;
};

class Checkpoint {
 public:
  // `path` is a safetensors file, an index of shards (*.index.json), or a folder that holds model.safetensors or
  // model.safetensors.index.json. Throws std::runtime_error that names the file, and the layer, at fault.
  explicit Checkpoint(const std::string& path);

  // Dense ones of fp32, f16 or bf16 and NF4 ones, in the order of their names; small ones, which are norms and biases
  // in disguise, left out.
  const std::vector<Matrix>& matrices() const { return matrices_; }
  size_t tensors() const { return tensors_.size(); }
  // Names of layers that are packed as something else than NF4.
  const std::vector<std::string>& other_layers() const { return other_layers_; }

  std::vector<unsigned char> read_dense(const Matrix& matrix);
  PackedData read_packed(const Matrix& matrix);

 private:
  struct Place {
    size_t shard;
    Tensor tensor;
  };

  void open_file(const std::string& path);
  void open_index(const std::string& path);
  void find_packed();
  void find_dense();
  Matrix packed_layer(const std::string& name, const std::string& state_key);
  const Tensor* find(const std::string& name) const;
  const Tensor& part(const std::string& name, const char* dtype, int64_t count) const;
  std::vector<unsigned char> read(const std::string& name);

  std::string path_;
  std::vector<Safetensors> shards_;
  std::map<std::string, Place> tensors_;
  std::vector<Matrix> matrices_;
  std::vector<std::string> other_layers_;
};

}  // namespace nf4bench
