/* Loads the library named by argv[1], uses it and unloads it, many times over, as plug-ins of other programs do. */
#include <dlfcn.h>
#include <nf4/nf4.h>
#include <stdio.h>
#include <string.h>

typedef nf4_status_t (*create_fn)(nf4_handle_t*, int32_t);
typedef nf4_status_t (*destroy_fn)(nf4_handle_t);
typedef nf4_status_t (*gemv_fn)(nf4_handle_t, void*, const void*, nf4_dtype_t, const nf4_weight_t*, const void*,
                                const nf4_options_t*, nf4_stream_t);

/* ISO C has no cast from an object pointer to a function pointer; POSIX says that their bytes are the same. */
static int load(void* library, const char* name, void* function, size_t size) {
  void* const symbol = dlsym(library, name);
  memcpy(function, &symbol, size);
  return symbol != NULL;
}

static int use_once(const char* path) {
  create_fn create;
  destroy_fn destroy;
  gemv_fn gemv;
  nf4_handle_t handle;
  enum { N = 64, K = 64 };
  static uint8_t codes[N * K / 2];
  static float absmax[N * K / 64], x[K], y[N];
  nf4_weight_t w = NF4_WEIGHT_INIT;
  void* const library = dlopen(path, RTLD_NOW | RTLD_LOCAL);

  if (!library) {
    fprintf(stderr, "%s\n", dlerror());
    return 0;
  }
  w.rows = N;
  w.cols = K;
  w.codes = codes;
  w.absmax = absmax;
  return load(library, "nf4_create", &create, sizeof create) && load(library, "nf4_gemv", &gemv, sizeof gemv) &&
         load(library, "nf4_destroy", &destroy, sizeof destroy) && create(&handle, NF4_HOST_DEVICE) == NF4_SUCCESS &&
         gemv(handle, y, x, NF4_F32, &w, NULL, NULL, NULL) == NF4_SUCCESS &&
         gemv(handle, NULL, x, NF4_F32, &w, NULL, NULL, NULL) != NF4_SUCCESS && destroy(handle) == NF4_SUCCESS &&
         dlclose(library) == 0;
}

int main(int argc, char** argv) {
  int i;
  if (argc != 2) return 2;
  for (i = 0; i < 100; ++i) {
    if (!use_once(argv[1])) {
      fprintf(stderr, "failed in round %d\n", i);
      return 1;
    }
  }
  return 0;
}
