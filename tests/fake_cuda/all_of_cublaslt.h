/* What all_of_cublaslt.c was asked for: its variable nf4_matmuls. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* A matrix, as cuBLASLt thinks of it: in columns. */
struct nf4_layout {
  uint64_t rows, cols;
  int64_t ld;
};

struct nf4_matmul {
  float alpha, beta;
  const void *a, *b, *c;
  void *d, *workspace;
  size_t workspace_size;
  void* stream;
  struct nf4_layout a_layout, b_layout, d_layout;
  int32_t a_operation; /* cublasOperation_t */
};

/* The products so far: the last of them, of which product i is at i % NF4_MATMULS. */
enum { NF4_MATMULS = 64 };
struct nf4_matmuls {
  int count;
  struct nf4_matmul last[NF4_MATMULS];
};
