/* Has every function of cuBLASLt that the library looks up, so that selection takes it for cuBLASLt. Creating its
 * handle succeeds; no product is ever asked of it. */
#define FUNCTION(name) \
  int name(void);      \
  int name(void) { return 0; }
FUNCTION(cublasLtCreate)
FUNCTION(cublasLtMatmul)
FUNCTION(cublasLtMatmulAlgoGetHeuristic)
FUNCTION(cublasLtMatmulDescCreate)
FUNCTION(cublasLtMatmulDescDestroy)
FUNCTION(cublasLtMatmulDescSetAttribute)
FUNCTION(cublasLtMatrixLayoutCreate)
FUNCTION(cublasLtMatrixLayoutDestroy)
FUNCTION(cublasLtMatmulPreferenceCreate)
FUNCTION(cublasLtMatmulPreferenceDestroy)
FUNCTION(cublasLtMatmulPreferenceSetAttribute)
