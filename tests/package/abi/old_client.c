/* A client that was compiled against the header of a release, run with the library of today. Behind each of its structs
 * lie bytes that it does not know to be part of them: a library whose structs have grown must neither read nor write
 * them. */
#include <nf4/nf4.h>
#include <stdio.h>
#include <string.h>

enum { N = 4, K = 64, BEHIND = 64, CANARY = 0xa5 };

#define WITH_CANARY(type, name) WITH_CANARIES(type, name, )
#define WITH_CANARIES(type, name, count) \
  struct {                               \
    type it count;                       \
    unsigned char behind[BEHIND];        \
  } name;                                \
  memset(&name, CANARY, sizeof name)

static int failures = 0;

static void check(int condition, const char* what) {
  if (condition) return;
  printf("failed: %s (last error: %s)\n", what, nf4_last_error_message());
  ++failures;
}

static int intact(const unsigned char* behind) {
  int i;
  for (i = 0; i < BEHIND; ++i) {
    if (behind[i] != CANARY) return 0;
  }
  return 1;
}

#define CHECK(condition) check(condition, #condition)

static void operations(nf4_handle_t handle) {
  static float w[N * K], unpacked[N * K], x[K], y[N], absmax[N];
  static uint8_t codes[N * K / 2];
  const nf4_weight_t initial = NF4_WEIGHT_INIT;
  const nf4_options_t defaults = NF4_OPTIONS_INIT;
  int i;
  WITH_CANARY(nf4_weight_t, weight);
  WITH_CANARY(nf4_options_t, options);

  for (i = 0; i < N * K; ++i) w[i] = i % 3 == 0 ? -1.0f : i % 3 == 1 ? 0.0f : 1.0f; /* exact in NF4 */
  for (i = 0; i < K; ++i) x[i] = (float)(i % 5);
  weight.it = initial;
  weight.it.rows = N;
  weight.it.cols = K;
  weight.it.codes = codes;
  weight.it.absmax = absmax;
  options.it = defaults;
  options.it.variant = "gemm.host";
  CHECK(nf4_pack(handle, codes, absmax, w, K, NF4_F32, N, K, 64, NULL, NULL) == NF4_SUCCESS);
  CHECK(nf4_unpack(handle, unpacked, K, NF4_F32, &weight.it, NULL, NULL) == NF4_SUCCESS);
  CHECK(memcmp(unpacked, w, sizeof w) == 0);
  CHECK(nf4_gemv(handle, y, x, NF4_F32, &weight.it, NULL, &options.it, NULL) == NF4_SUCCESS);
  for (i = 0; i < N; ++i) {
    float sum = 0.0f;
    int k;
    for (k = 0; k < K; ++k) sum += w[i * K + k] * x[k];
    CHECK(y[i] == sum);
  }
  CHECK(intact(weight.behind) && intact(options.behind));

  weight.it.struct_size = sizeof weight.it + BEHIND; /* a client of a later release */
  CHECK(nf4_unpack(handle, unpacked, K, NF4_F32, &weight.it, NULL, NULL) == NF4_ERROR_STRUCT_SIZE);
  options.it.struct_size = sizeof options.it + BEHIND;
  weight.it.struct_size = sizeof weight.it;
  CHECK(nf4_gemv(handle, y, x, NF4_F32, &weight.it, NULL, &options.it, NULL) == NF4_ERROR_STRUCT_SIZE);
}

static void queries(nf4_handle_t handle) {
  const nf4_problem_t initial = NF4_PROBLEM_INIT;
  WITH_CANARY(nf4_device_info_t, device);
  WITH_CANARY(nf4_problem_t, problem);
  WITH_CANARY(nf4_selection_t, selection);
  WITH_CANARY(nf4_variant_info_t, variant);

  device.it.struct_size = sizeof device.it;
  problem.it = initial;
  selection.it.struct_size = sizeof selection.it;
  variant.it.struct_size = sizeof variant.it;
  CHECK(nf4_device_info(handle, &device.it) == NF4_SUCCESS);
  CHECK(strcmp(device.it.name, "host") == 0);
  CHECK(nf4_select(handle, &problem.it, NULL, &selection.it) == NF4_SUCCESS);
  CHECK(strcmp(selection.it.variant, "gemm.host") == 0);
  CHECK(nf4_variant_info(handle, NF4_OP_GEMM, 0, &variant.it) == NF4_SUCCESS);
  CHECK(strcmp(variant.it.name, "gemm.host") == 0);
  CHECK(device.it.struct_size == sizeof device.it && selection.it.struct_size == sizeof selection.it &&
        variant.it.struct_size == sizeof variant.it);

  device.it.struct_size += BEHIND;
  CHECK(nf4_device_info(handle, &device.it) == NF4_ERROR_STRUCT_SIZE);
  selection.it.struct_size += BEHIND;
  CHECK(nf4_select(handle, &problem.it, NULL, &selection.it) == NF4_ERROR_STRUCT_SIZE);
  variant.it.struct_size += BEHIND;
  CHECK(nf4_variant_info(handle, NF4_OP_GEMM, 0, &variant.it) == NF4_ERROR_STRUCT_SIZE);
  CHECK(intact(device.behind) && intact(problem.behind) && intact(selection.behind) && intact(variant.behind));
}

#if NF4_VERSION >= 10100
/* Products lie one after the other, as far apart as the client's struct is large. */
static void groups(nf4_handle_t handle) {
  static const uint8_t codes[N * K / 2]; /* all -1 */
  static float x[K], y[2][N], absmax[N];
  nf4_weight_t weight = NF4_WEIGHT_INIT;
  const nf4_product_t initial = NF4_PRODUCT_INIT;
  int i;
  WITH_CANARIES(nf4_product_t, products, [2]);

  for (i = 0; i < K; ++i) x[i] = 1.0f;
  for (i = 0; i < N; ++i) absmax[i] = (float)i;
  weight.rows = N;
  weight.cols = K;
  weight.codes = codes;
  weight.absmax = absmax;
  for (i = 0; i < 2; ++i) {
    products.it[i] = initial;
    products.it[i].y = y[i];
    products.it[i].ldy = N;
    products.it[i].weight = &weight;
  }
  CHECK(nf4_gemm_group(handle, products.it, 2, x, K, 1, NF4_F32, NULL, NULL) == NF4_SUCCESS);
  for (i = 0; i < N; ++i) CHECK(y[0][i] == (float)(-K * i) && y[1][i] == y[0][i]);
  CHECK(intact(products.behind));

  products.it[0].struct_size += BEHIND;
  CHECK(nf4_gemm_group(handle, products.it, 1, x, K, 1, NF4_F32, NULL, NULL) == NF4_ERROR_STRUCT_SIZE);
}
#endif

int main(void) {
  nf4_handle_t handle;
  CHECK(nf4_version() >= NF4_VERSION);
  CHECK(nf4_create(&handle, NF4_HOST_DEVICE) == NF4_SUCCESS);
  operations(handle);
  queries(handle);
#if NF4_VERSION >= 10100
  groups(handle);
#endif
  CHECK(nf4_destroy(handle) == NF4_SUCCESS);
  return failures == 0 ? 0 : 1;
}
