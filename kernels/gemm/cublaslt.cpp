#include "gemm/cublaslt.hpp"

#include <dlfcn.h>

#include <cstdlib>

namespace nf4 {
namespace {

// Newest first. The plain name is that of a toolkit's folder, and may be of any version.
constexpr const char* kNames[] = {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"};

}  // namespace

CublasLt::CublasLt(const char* path) {
  void* library = nullptr;
  const auto open = [&](const char* file) {
    // Never unloaded: a CUDA library's kernels stay registered with the driver until the process ends.
    library = dlopen(file, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    file_ = file;
    // The loader's message names the file that is missing, which may be one that `file` needs.
    if (library == nullptr && why_not_.empty()) why_not_ = std::string("cuBLASLt cannot be loaded: ") + dlerror();
  };
  if (path != nullptr) {
    open(path);
  } else {
    for (const char* name : kNames) {
      if (library == nullptr) open(name);
    }
    if (library == nullptr) why_not_ += "; NF4_CUBLASLT may hold its path";
  }
  if (library == nullptr) return;
  why_not_.clear();
  look_up(library, create, "cublasLtCreate");
  look_up(library, matmul, "cublasLtMatmul");
  look_up(library, heuristic, "cublasLtMatmulAlgoGetHeuristic");
  look_up(library, desc_create, "cublasLtMatmulDescCreate");
  look_up(library, desc_destroy, "cublasLtMatmulDescDestroy");
  look_up(library, desc_set, "cublasLtMatmulDescSetAttribute");
  look_up(library, layout_create, "cublasLtMatrixLayoutCreate");
  look_up(library, layout_destroy, "cublasLtMatrixLayoutDestroy");
  look_up(library, preference_create, "cublasLtMatmulPreferenceCreate");
  look_up(library, preference_destroy, "cublasLtMatmulPreferenceDestroy");
  look_up(library, preference_set, "cublasLtMatmulPreferenceSetAttribute");
}

template <class Function>
void CublasLt::look_up(void* library, Function& function, const char* name) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (function == nullptr && why_not_.empty()) why_not_ = "cuBLASLt lacks a function: " + file_ + " has no " + name;
}

const CublasLt& CublasLt::instance() {
  static const CublasLt library([] {
    const char* path = secure_getenv("NF4_CUBLASLT");  // not from whoever starts a program with more rights than theirs
    return path != nullptr && *path != '\0' ? path : nullptr;
  }());
  return library;
}

}  // namespace nf4
