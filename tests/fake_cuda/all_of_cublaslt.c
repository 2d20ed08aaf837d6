/* Has every function of cuBLASLt that the library looks up, so that selection takes it for cuBLASLt. All succeed; each
 * problem has an algorithm, and the last product that was asked for is kept. */
#include "all_of_cublaslt.h"

#define FUNCTION(name) \
  int name(void);      \
  int name(void) { return 0; }
FUNCTION(cublasLtCreate)
FUNCTION(cublasLtMatmulDescCreate)
FUNCTION(cublasLtMatmulDescDestroy)
FUNCTION(cublasLtMatmulDescSetAttribute)
FUNCTION(cublasLtMatrixLayoutCreate)
FUNCTION(cublasLtMatrixLayoutDestroy)
FUNCTION(cublasLtMatmulPreferenceCreate)
FUNCTION(cublasLtMatmulPreferenceDestroy)
FUNCTION(cublasLtMatmulPreferenceSetAttribute)

int cublasLtMatmulAlgoGetHeuristic(void* handle, void* operation, void* a, void* b, void* c, void* d, void* preference,
                                   int wanted, void* results, int* found);
int cublasLtMatmulAlgoGetHeuristic(void* handle, void* operation, void* a, void* b, void* c, void* d, void* preference,
                                   int wanted, void* results, int* found) {
  (void)handle, (void)operation, (void)a, (void)b, (void)c, (void)d, (void)preference, (void)results;
  *found = wanted;
  return 0;
}

struct nf4_matmul nf4_last_matmul;

int cublasLtMatmul(void* handle, void* operation, const float* alpha, const void* a, void* a_layout, const void* b,
                   void* b_layout, const float* beta, const void* c, void* c_layout, void* d, void* d_layout,
                   const void* algorithm, void* workspace, size_t workspace_size, void* stream);
int cublasLtMatmul(void* handle, void* operation, const float* alpha, const void* a, void* a_layout, const void* b,
                   void* b_layout, const float* beta, const void* c, void* c_layout, void* d, void* d_layout,
                   const void* algorithm, void* workspace, size_t workspace_size, void* stream) {
  (void)handle, (void)operation, (void)a_layout, (void)b_layout, (void)c_layout, (void)d_layout, (void)algorithm;
  nf4_last_matmul =
      (struct nf4_matmul){nf4_last_matmul.calls + 1, *alpha, *beta, a, b, c, d, workspace, workspace_size, stream};
  return 0;
}
