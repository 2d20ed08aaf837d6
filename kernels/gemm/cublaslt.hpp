// cuBLASLt, found at run time: libnf4 has no link dependency on it, and runs where there is none.
#pragma once

#include <cublasLt.h>

#include <string>

namespace nf4 {

// The functions of cuBLASLt that the library calls. Their signatures are the same from version 11 on.
class CublasLt {
 public:
  // Loads the library at `path`; null: the first of the known names that the loader finds. A failure shows in
  // why_not().
  explicit CublasLt(const char* path);

  // The process's own, loaded on the first call, from where NF4_CUBLASLT says if it says something.
  static const CublasLt& instance();

  // "" if all functions are there, else the reason, as a user should read it.
  const std::string& why_not() const { return why_not_; }

  decltype(&cublasLtCreate) create = nullptr;
  decltype(&cublasLtMatmul) matmul = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic = nullptr;
  decltype(&cublasLtMatmulDescCreate) desc_create = nullptr;
  decltype(&cublasLtMatmulDescDestroy) desc_destroy = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set = nullptr;
  decltype(&cublasLtMatrixLayoutCreate) layout_create = nullptr;
  decltype(&cublasLtMatrixLayoutDestroy) layout_destroy = nullptr;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create = nullptr;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set = nullptr;

 private:
  template <class Function>
  void look_up(void* library, Function& function, const char* name);

  std::string file_;
  std::string why_not_;
};

}  // namespace nf4
