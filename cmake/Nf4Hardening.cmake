# What Debian builds its libraries with, for code that reads the files and buffers of others:
#   nf4_harden_objects(target)   stack protector, and checked calls of libc, which need optimization
#   nf4_harden_library(target)   no table of functions that stays writable
include(CheckCXXCompilerFlag)
include(CheckLinkerFlag)

check_cxx_compiler_flag(-fstack-protector-strong NF4_HAVE_STACK_PROTECTOR)
check_linker_flag(CXX -Wl,-z,relro,-z,now NF4_HAVE_RELRO)

function(nf4_harden_objects target)
  if(NF4_SANITIZE)
    return() # which has checks of its own in their place
  endif()
  set(optimized $<NOT:$<CONFIG:Debug>>)
  target_compile_options(${target} PRIVATE
    "$<$<AND:$<COMPILE_LANGUAGE:C,CXX>,${optimized}>:-U_FORTIFY_SOURCE;-D_FORTIFY_SOURCE=2>"
    "$<$<AND:$<COMPILE_LANGUAGE:CUDA>,${optimized}>:-Xcompiler=-U_FORTIFY_SOURCE,-D_FORTIFY_SOURCE=2>")
  if(NF4_HAVE_STACK_PROTECTOR)
    target_compile_options(${target} PRIVATE
      $<$<COMPILE_LANGUAGE:C,CXX>:-fstack-protector-strong>
      $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-fstack-protector-strong>)
  endif()
endfunction()

function(nf4_harden_library target)
  if(NF4_HAVE_RELRO)
    target_link_options(${target} PRIVATE -Wl,-z,relro,-z,now)
  endif()
endfunction()
