/* The last product that all_of_cublaslt.c was asked for: its variable nf4_last_matmul. */
#pragma once

#include <stddef.h>

struct nf4_matmul {
  int calls; /* so far */
  float alpha, beta;
  const void *a, *b, *c;
  void *d, *workspace;
  size_t workspace_size;
  void* stream;
};
