/* Loads the library named by argv[1], uses it and unloads it, many times over, as plug-ins of other programs do: after
 * each round nothing of it is left, neither memory nor mappings nor open files. Without malloc's caches of freed
 * blocks, GLIBC_TUNABLES=glibc.malloc.tcache_count=0, the heap tells exactly. */
#include <dirent.h>
#include <dlfcn.h>
#include <malloc.h>
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

/* What the process holds. */
typedef struct {
  size_t heap;  /* bytes in use */
  int mappings; /* of memory */
  int files;    /* open */
} holdings_t;

static holdings_t holdings(void) {
  holdings_t now = {mallinfo2().uordblks, 0, 0};
  FILE* const maps = fopen("/proc/self/maps", "r");
  DIR* const files = opendir("/proc/self/fd");
  int c;
  if (maps) {
    while ((c = getc(maps)) != EOF) now.mappings += c == '\n';
    fclose(maps);
  }
  if (files) {
    while (readdir(files)) ++now.files;
    closedir(files);
  }
  return now;
}

int main(int argc, char** argv) {
  enum { FIRST = 5, ROUNDS = 100 }; /* in the first rounds the C library settles */
  holdings_t before = {0, 0, 0}, after;
  int i;
  if (argc != 2) return 2;
  for (i = 0; i < ROUNDS; ++i) {
    if (i == FIRST) before = holdings();
    if (!use_once(argv[1])) {
      fprintf(stderr, "failed in round %d\n", i);
      return 1;
    }
    if (dlopen(argv[1], RTLD_NOW | RTLD_NOLOAD)) {
      fprintf(stderr, "still loaded after round %d\n", i);
      return 1;
    }
  }
  after = holdings();
  printf("%d rounds: heap %zu to %zu bytes, mappings %d to %d, files %d to %d\n", ROUNDS - FIRST, before.heap,
         after.heap, before.mappings, after.mappings, before.files, after.files);
  /* A leak would hold a block, of 16 bytes at the least, for every round. */
  return after.heap >= before.heap + 16 * (ROUNDS - FIRST) || after.mappings > before.mappings ||
         after.files > before.files;
}
