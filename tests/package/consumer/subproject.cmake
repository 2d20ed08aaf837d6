# Takes nf4 by FetchContent from the sources in NF4_FROM, and holds it to what a guest does: it brings its libraries
# alone, and leaves this project's settings as they are.
include(FetchContent)
FetchContent_Declare(nf4 SOURCE_DIR ${NF4_FROM})

set(not_set_here BUILD_SHARED_LIBS BUILD_TESTING CMAKE_C_EXTENSIONS CMAKE_C_STANDARD CMAKE_CUDA_ARCHITECTURES
  CMAKE_CUDA_STANDARD CMAKE_CXX_EXTENSIONS CMAKE_CXX_STANDARD CMAKE_LIBRARY_OUTPUT_DIRECTORY CMAKE_MODULE_PATH
  CMAKE_POSITION_INDEPENDENT_CODE)
get_cmake_property(set_here VARIABLES)
list(FILTER set_here EXCLUDE REGEX "^CMAKE_MATCH_|^_|^not_set_here$")
foreach(name IN LISTS set_here)
  set(before.${name} "${${name}}")
endforeach()
foreach(name IN LISTS not_set_here)
  if(DEFINED ${name})
    message(FATAL_ERROR "${name} is set to ${${name}} before nf4 comes; expected a build without it")
  endif()
endforeach()

FetchContent_MakeAvailable(nf4)

foreach(name IN LISTS set_here)
  if(NOT "${${name}}" STREQUAL "${before.${name}}")
    message(FATAL_ERROR "nf4 changed ${name} from '${before.${name}}' to '${${name}}'")
  endif()
endforeach()
foreach(name IN LISTS not_set_here)
  if(DEFINED ${name})
    message(FATAL_ERROR "nf4 set ${name} to '${${name}}'")
  endif()
endforeach()

function(nf4_expect_in_folders property) # of nf4 and below, all together
  set(found)
  set(folders ${nf4_SOURCE_DIR})
  while(folders)
    list(POP_FRONT folders folder)
    get_property(values DIRECTORY ${folder} PROPERTY ${property})
    get_property(below DIRECTORY ${folder} PROPERTY SUBDIRECTORIES)
    list(APPEND found ${values})
    list(APPEND folders ${below})
  endwhile()
  list(SORT found)
  if(NOT "${found}" STREQUAL "${ARGN}")
    message(FATAL_ERROR "${property} of nf4 is '${found}'; expected '${ARGN}'")
  endif()
endfunction()
nf4_expect_in_folders(BUILDSYSTEM_TARGETS nf4 nf4_objects nf4_static)
nf4_expect_in_folders(TESTS)

enable_testing()
set(prefix ${CMAKE_CURRENT_BINARY_DIR}/prefix)
add_test(NAME nf4_installs_nothing COMMAND sh -c
  [[rm -rf "$1" && "$0" --install "$2" --prefix "$1" && ! find "$1" -name '*nf4*' | grep .]]
  ${CMAKE_COMMAND} ${prefix} ${CMAKE_CURRENT_BINARY_DIR})
