# nf4_discover_tests(target [prefix]): each test of `target`, whose main is tests/main.cpp, becomes a test of ctest by
# the name of `prefix` and its own; another test holds that none is left out. catch_discover_tests is not up to it: a
# name with a semicolon becomes two entries, of which neither is a test.
function(nf4_discover_tests target)
  set(entries ${CMAKE_CURRENT_BINARY_DIR}/${target}_entries.cmake)
  add_custom_command(TARGET ${target} POST_BUILD
    COMMAND ${target} --write-ctest-file ${entries} "${ARGN}" BYPRODUCTS ${entries} VERBATIM)

  set(include ${CMAKE_CURRENT_BINARY_DIR}/${target}_include.cmake)
  file(CONFIGURE OUTPUT ${include} @ONLY CONTENT [[
if(EXISTS "@entries@")
  include("@entries@")
else()
  add_test(@target@_NOT_BUILT @target@_NOT_BUILT)
endif()
]])
  set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES ${include})

  add_test(NAME discovered.${target} COMMAND python3 ${PROJECT_SOURCE_DIR}/tests/discovered.py
    ${CMAKE_CTEST_COMMAND} ${CMAKE_BINARY_DIR} $<TARGET_FILE:${target}> ${Catch2_VERSION})
endfunction()
