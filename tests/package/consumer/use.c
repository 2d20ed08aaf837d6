/* The least program that shows that the header, the library and its host backend are there and belong together. */
#include <nf4/nf4.h>
#include <stdio.h>

static int failed(const char* call) {
  fprintf(stderr, "%s: %s\n", call, nf4_last_error_message());
  return 1;
}

int main(void) {
  nf4_handle_t handle;
  const uint8_t codes[2] = {0xF7, 0x70}; /* W = [1, 0; 0, -1] * absmax */
  const float absmax[1] = {2.0f};
  const float x[2] = {3.0f, 5.0f};
  float y[2];
  nf4_weight_t w = NF4_WEIGHT_INIT;
  w.rows = w.cols = 2;
  w.codes = codes;
  w.absmax = absmax;

  if (nf4_version() != NF4_VERSION) {
    fprintf(stderr, "nf4.h is version %d, the library %d\n", NF4_VERSION, (int)nf4_version());
    return 1;
  }
  if (nf4_create(&handle, NF4_HOST_DEVICE) != NF4_SUCCESS) return failed("nf4_create");
  if (nf4_gemv(handle, y, x, NF4_F32, &w, NULL, NULL, NULL) != NF4_SUCCESS) return failed("nf4_gemv");
  if (nf4_destroy(handle) != NF4_SUCCESS) return failed("nf4_destroy");
  if (y[0] != 6.0f || y[1] != -10.0f) {
    fprintf(stderr, "y = [%g, %g], expected [6, -10]\n", (double)y[0], (double)y[1]);
    return 1;
  }
  return 0;
}
