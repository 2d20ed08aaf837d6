/* Prints what nf4_create returns and, before it, whether the system runs this program with more rights than its user.
 */
#include <nf4/nf4.h>
#include <stdio.h>
#include <sys/auxv.h>

int main(void) {
  nf4_handle_t handle;
  const nf4_status_t status = nf4_create(&handle, NF4_HOST_DEVICE);
  printf("%s, %s\n", getauxval(AT_SECURE) ? "privileged" : "plain", nf4_status_string(status));
  return nf4_destroy(handle) == NF4_SUCCESS ? 0 : 1;
}
