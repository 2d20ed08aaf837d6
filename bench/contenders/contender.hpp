// One way to do an operation: a variant of ours, or a peer's.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "problem.hpp"
#include "workload.hpp"

namespace nf4bench {

class Contender {
 public:
  virtual ~Contender() = default;

  virtual std::string name() const = 0;
  virtual std::string config() const { return ""; }
  // Rows of ours tell their speed-up over each peer.
  virtual bool is_peer() const = 0;
  // A variant of the library, forced.
  virtual bool is_variant() const { return false; }
  virtual bool supports(const Problem& problem) const = 0;
  // The least traffic of what it computes from.
  virtual double bytes(const Problem& problem) const { return minimal_bytes(problem); }
  // The factor g that its products are held to.
  virtual double accuracy_g(const Problem& problem) const = 0;
  // Whether it launches on the stream that it is given, so that a graph can hold it.
  virtual bool capturable() const { return true; }
  // Takes scratch memory; called once before run.
  virtual void prepare(Workload&) {}
  // Bytes of it that are the caller's to give, as options->workspace.
  virtual size_t workspace_size() const { return 0; }
  virtual void run(Workload& workload, int set, nf4_stream_t stream) = 0;
  // Gives the scratch memory back.
  virtual void finish() {}
};

using Contenders = std::vector<std::unique_ptr<Contender>>;

// The name of the contender that is what the library selects.
inline constexpr const char* kSelected = "selected";

// Whether it multiplies with weights that were never quantized.
inline bool is_dense(std::string_view name) { return name.ends_with(" dense"); }

// The library's selection, for groups also that for each product by itself, and each variant of `op` in each of its
// configs. Not empty `names` keep those variants alone; "selected" names the selection.
Contenders nf4_contenders(nf4_handle_t handle, nf4_op_t op, const std::vector<std::string>& names);

// Libraries to compare with; an empty path of cuBLAS stands for the loader's search, one of bitsandbytes for none.
struct PeerPaths {
  std::string cublas;
  std::string bitsandbytes;
};

// The contenders that come from the libraries at `paths`, for every operation. A library named there that does not load
// is an error; that the loader's search finds no cuBLAS is told in `note`.
Contenders cuda_peers(Device& device, nf4_handle_t handle, const PeerPaths& paths, std::string& note);

// The same on the host: OpenBLAS, for f32, if the loader finds it.
Contenders host_peers(std::string& note);

}  // namespace nf4bench
