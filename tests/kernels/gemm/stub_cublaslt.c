/* A library that is taken for cuBLASLt until its second function is looked up. */
int cublasLtCreate(void** handle);

int cublasLtCreate(void** handle) {
  *handle = 0;
  return 0;
}
