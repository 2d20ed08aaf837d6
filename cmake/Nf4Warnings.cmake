# nf4_compile_options(target): the warnings, all of them errors, and the sanitizers of NF4_SANITIZE.
option(NF4_WERROR "Treat warnings as errors" ${PROJECT_IS_TOP_LEVEL})

function(nf4_compile_options target)
  set(warnings -Wall -Wextra -Wshadow -Wconversion)
  target_compile_options(${target} PRIVATE
    $<$<COMPILE_LANGUAGE:C,CXX>:${warnings}>
    $<$<AND:$<COMPILE_LANGUAGE:C>,$<BOOL:${NF4_WERROR}>>:-Werror>
    $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<BOOL:${NF4_WERROR}>>:-Werror>
    $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra>
    $<$<AND:$<COMPILE_LANGUAGE:CUDA>,$<BOOL:${NF4_WERROR}>>:-Werror=all-warnings>)
  if(NF4_SANITIZE)
    # Instrumented code makes GCC 12 see uninitialized reads in its own <functional>.
    target_compile_options(${target} PRIVATE
      $<$<CXX_COMPILER_ID:GNU>:$<$<COMPILE_LANGUAGE:C,CXX>:-Wno-maybe-uninitialized>>
      $<$<COMPILE_LANGUAGE:C,CXX>:-fsanitize=${NF4_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all>)
    target_link_options(${target} PRIVATE -fsanitize=${NF4_SANITIZE})
  endif()
endfunction()
