# Builds the tree that this file is in:
#   vcpkg install 'nf4[cuda]' --overlay-ports=cmake/vcpkg
get_filename_component(SOURCE_PATH "${CURRENT_PORT_DIR}/../../.." ABSOLUTE)

vcpkg_check_linkage(ONLY_DYNAMIC_LIBRARY) # of nf4::nf4; nf4::nf4_static comes along

vcpkg_check_features(OUT_FEATURE_OPTIONS options FEATURES cuda NF4_CUDA)
if("cuda" IN_LIST FEATURES)
  vcpkg_find_cuda(OUT_CUDA_TOOLKIT_ROOT toolkit)
  list(APPEND options "-DCMAKE_CUDA_COMPILER=${NVCC}" "-DCUDAToolkit_ROOT=${toolkit}")
endif()

vcpkg_cmake_configure(
  SOURCE_PATH "${SOURCE_PATH}"
  OPTIONS ${options} -DNF4_BUILD_TESTS=OFF -DNF4_BUILD_BENCH=OFF -DNF4_BUILD_EXAMPLES=OFF -DNF4_WERROR=OFF)
vcpkg_cmake_install()
vcpkg_cmake_config_fixup(PACKAGE_NAME nf4 CONFIG_PATH lib/cmake/nf4)
vcpkg_fixup_pkgconfig()
file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/debug/include")

file(INSTALL "${CURRENT_PORT_DIR}/usage" DESTINATION "${CURRENT_PACKAGES_DIR}/share/${PORT}")
vcpkg_install_copyright(FILE_LIST "${SOURCE_PATH}/LICENSE")
