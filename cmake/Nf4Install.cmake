# What `cmake --install` puts in place: both libraries, the headers, the CMake package and the pkg-config file. None of
# them holds an absolute path of this build, so that the installed tree can be moved.
include(CMakePackageConfigHelpers)

# A Python wheel holds the shared library once, since it knows no symbolic links, and what calls it from Python.
if(SKBUILD)
  install(FILES $<TARGET_FILE:nf4> DESTINATION nf4 RENAME libnf4.so)
  if(TARGET nf4_short_call)
    install(FILES $<TARGET_FILE:nf4_short_call> DESTINATION nf4)
  endif()
  return()
endif()

install(TARGETS nf4 nf4_static EXPORT nf4-targets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
  RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR}
  INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/nf4 DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

set(nf4_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/nf4)
install(EXPORT nf4-targets NAMESPACE nf4:: DESTINATION ${nf4_package_dir})
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/nf4-config.cmake.in ${PROJECT_BINARY_DIR}/nf4-config.cmake
  INSTALL_DESTINATION ${nf4_package_dir}
  NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/nf4-config-version.cmake COMPATIBILITY SameMajorVersion)
install(FILES ${PROJECT_BINARY_DIR}/nf4-config.cmake ${PROJECT_BINARY_DIR}/nf4-config-version.cmake
  DESTINATION ${nf4_package_dir})

set(nf4_pc_dir ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
string(REGEX REPLACE "[^/]+" ".." nf4_pc_to_prefix ${nf4_pc_dir})
set(nf4_pc_private -lstdc++ -lm -pthread)
if(NF4_HAVE_CUDA)
  list(APPEND nf4_pc_private -L${CUDAToolkit_LIBRARY_DIR} -lcudart_static -ldl -lrt)
endif()
list(JOIN nf4_pc_private " " nf4_pc_private)
configure_file(${PROJECT_SOURCE_DIR}/cmake/nf4.pc.in ${PROJECT_BINARY_DIR}/nf4.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/nf4.pc DESTINATION ${nf4_pc_dir})
