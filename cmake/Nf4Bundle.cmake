# nf4_bundle(target libraries...): a program, of the objects of `target` and `libraries`, that can be carried to another
# machine, needing nothing there but the C library and, for a GPU, the driver. With NF4_BUNDLE that is `target` itself.
# Elsewhere the objects are linked once more, as target_bundle, so that every build tests how a bundle is linked.
function(nf4_bundle target)
  set(bundle ${target})
  if(NOT NF4_BUNDLE)
    if(NF4_SANITIZE OR NOT NF4_BUILD_TESTS)
      return()
    endif()
    set(bundle ${target}_bundle)
    add_executable(${bundle} $<TARGET_OBJECTS:${target}>)
    set_target_properties(${bundle} PROPERTIES LINKER_LANGUAGE CXX)
  endif()
  target_link_libraries(${bundle} PRIVATE ${ARGN} nf4_static Threads::Threads ${CMAKE_DL_LIBS})
  if(NF4_HAVE_CUDA)
    target_link_libraries(${bundle} PRIVATE CUDA::cudart_static)
  endif()
  target_link_options(${bundle} PRIVATE -static-libstdc++ -static-libgcc)
  if(NF4_BUILD_TESTS)
    add_test(NAME package.bundle.${target}
      COMMAND sh ${PROJECT_SOURCE_DIR}/tests/package/bundle.sh $<TARGET_FILE:${bundle}>)
  endif()
endfunction()
