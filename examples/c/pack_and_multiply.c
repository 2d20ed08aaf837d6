/* Packs a matrix to NF4, multiplies a vector by it, and compares size and result with the matrix as it was.
 *
 *   cc -std=c99 pack_and_multiply.c -lnf4 -lm
 */
#include <math.h>
#include <nf4/nf4.h>
#include <stdio.h>
#include <stdlib.h>

/* Every call tells what went wrong, and where it matters, which argument it was. */
static void check(nf4_status_t status) {
  if (status == NF4_SUCCESS) return;
  fprintf(stderr, "%s: %s\n", nf4_status_string(status), nf4_last_error_message());
  exit(1);
}

/* About normally distributed, as trained weights are: the sum of four uniform numbers. */
static float random_normal(uint32_t* state) {
  float sum = 0.0f;
  int i;
  for (i = 0; i < 4; ++i) {
    *state = *state * 1664525u + 1013904223u;
    sum += (float)(*state >> 8) / 16777216.0f - 0.5f;
  }
  return sum;
}

int main(void) {
  const int64_t rows = 1024, cols = 2048;
  const int32_t blocksize = 64;
  float* const w = malloc((size_t)(rows * cols) * sizeof *w);
  float* const x = malloc((size_t)cols * sizeof *x);
  float* const y = malloc((size_t)rows * sizeof *y);
  uint32_t seed = 1;
  int64_t codes_bytes, absmax_count, n, k;
  double difference = 0.0, length = 0.0, error;
  uint8_t* codes;
  float* absmax;
  nf4_handle_t handle;
  nf4_weight_t weight = NF4_WEIGHT_INIT;

  if (!w || !x || !y) return 1;
  for (k = 0; k < cols; ++k) x[k] = random_normal(&seed);
  for (n = 0; n < rows * cols; ++n) w[n] = random_normal(&seed);

  /* The caller owns all memory; the library says how much. */
  check(nf4_packed_size(&codes_bytes, &absmax_count, rows, cols, blocksize));
  codes = malloc((size_t)codes_bytes);
  absmax = malloc((size_t)absmax_count * sizeof *absmax);
  if (!codes || !absmax) return 1;

  /* On the CPU. With nf4_create(&handle, 0) every pointer below would be one of CUDA device 0. */
  check(nf4_create(&handle, NF4_HOST_DEVICE));
  check(nf4_pack(handle, codes, absmax, w, cols, NF4_F32, rows, cols, blocksize, NULL, NULL));

  weight.rows = rows;
  weight.cols = cols;
  weight.codes = codes;
  weight.absmax = absmax;
  weight.blocksize = blocksize;
  check(nf4_gemv(handle, y, x, NF4_F32, &weight, NULL, NULL, NULL));
  check(nf4_destroy(handle));

  for (n = 0; n < rows; ++n) {
    double exact = 0.0;
    for (k = 0; k < cols; ++k) exact += (double)w[n * cols + k] * x[k];
    difference += (y[n] - exact) * (y[n] - exact);
    length += exact * exact;
  }
  printf("W [%d, %d]: %.2f MiB in fp32, %.2f MiB in NF4\n", (int)rows, (int)cols,
         (double)(rows * cols) * sizeof *w / 1048576, ((double)codes_bytes + 4.0 * (double)absmax_count) / 1048576);
  error = sqrt(difference / length);
  printf("y = W x: relative error %.4f, all of it from quantizing W\n", error);

  free(absmax);
  free(codes);
  free(y);
  free(x);
  free(w);
  return error < 0.15 ? 0 : 1;
}
