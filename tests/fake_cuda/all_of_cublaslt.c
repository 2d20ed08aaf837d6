/* Has every function of cuBLASLt that the library looks up, so that selection takes it for cuBLASLt. All succeed; each
 * problem has an algorithm, and the last products that were asked for are kept. Objects are not freed: there are enough
 * of them for any one product. */
#include "all_of_cublaslt.h"

#define FUNCTION(name) \
  int name(void);      \
  int name(void) { return 0; }
FUNCTION(cublasLtCreate)
FUNCTION(cublasLtMatmulDescDestroy)
FUNCTION(cublasLtMatrixLayoutDestroy)
FUNCTION(cublasLtMatmulPreferenceCreate)
FUNCTION(cublasLtMatmulPreferenceDestroy)
FUNCTION(cublasLtMatmulPreferenceSetAttribute)

enum { OBJECTS = 64 };

int cublasLtMatrixLayoutCreate(void** layout, int type, uint64_t rows, uint64_t cols, int64_t ld);
int cublasLtMatrixLayoutCreate(void** layout, int type, uint64_t rows, uint64_t cols, int64_t ld) {
  static struct nf4_layout layouts[OBJECTS];
  static int count;
  (void)type;
  struct nf4_layout* const created = &layouts[count++ % OBJECTS];
  *created = (struct nf4_layout){rows, cols, ld};
  *layout = created;
  return 0;
}

/* A description is the operation of its first matrix. */
int cublasLtMatmulDescCreate(void** description, int compute, int scale);
int cublasLtMatmulDescCreate(void** description, int compute, int scale) {
  static int32_t operations[OBJECTS];
  static int count;
  (void)compute, (void)scale;
  int32_t* const created = &operations[count++ % OBJECTS];
  *created = 0;
  *description = created;
  return 0;
}

int cublasLtMatmulDescSetAttribute(void* description, int attribute, const void* value, size_t size);
int cublasLtMatmulDescSetAttribute(void* description, int attribute, const void* value, size_t size) {
  enum { TRANSA = 3 };
  if (attribute == TRANSA && size == sizeof(int32_t)) *(int32_t*)description = *(const int32_t*)value;
  return 0;
}

int cublasLtMatmulAlgoGetHeuristic(void* handle, void* operation, void* a, void* b, void* c, void* d, void* preference,
                                   int wanted, void* results, int* found);
int cublasLtMatmulAlgoGetHeuristic(void* handle, void* operation, void* a, void* b, void* c, void* d, void* preference,
                                   int wanted, void* results, int* found) {
  (void)handle, (void)operation, (void)a, (void)b, (void)c, (void)d, (void)preference, (void)results;
  *found = wanted;
  return 0;
}

struct nf4_matmuls nf4_matmuls;

int cublasLtMatmul(void* handle, const int32_t* operation, const float* alpha, const void* a,
                   const struct nf4_layout* a_layout, const void* b, const struct nf4_layout* b_layout,
                   const float* beta, const void* c, void* c_layout, void* d, const struct nf4_layout* d_layout,
                   const void* algorithm, void* workspace, size_t workspace_size, void* stream);
int cublasLtMatmul(void* handle, const int32_t* operation, const float* alpha, const void* a,
                   const struct nf4_layout* a_layout, const void* b, const struct nf4_layout* b_layout,
                   const float* beta, const void* c, void* c_layout, void* d, const struct nf4_layout* d_layout,
                   const void* algorithm, void* workspace, size_t workspace_size, void* stream) {
  (void)handle, (void)c_layout, (void)algorithm;
  nf4_matmuls.last[nf4_matmuls.count++ % NF4_MATMULS] = (struct nf4_matmul){
      *alpha, *beta, a, b, c, d, workspace, workspace_size, stream, *a_layout, *b_layout, *d_layout, *operation};
  return 0;
}
