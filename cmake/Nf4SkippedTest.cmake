# nf4_add_skipped_test(name reason): a test that this build cannot run, which ctest then lists as skipped.
function(nf4_add_skipped_test name reason)
  add_test(NAME ${name} COMMAND sh -c "echo 'skipped: ${reason}' && exit 77")
  set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77)
endfunction()
