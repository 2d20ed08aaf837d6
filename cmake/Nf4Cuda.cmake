# Decides whether the CUDA backend is built, and for which architectures.
#   NF4_HAVE_CUDA   true where it is
# The default serves every GPU from sm_75 on: machine code for sm_80, which all of 8.x runs, and for sm_90a; PTX of sm_80
# for newer ones, so that they have its kernels for tensor cores too, and of sm_75 for Turing. The driver compiles PTX when
# a program first runs. The preset `all-architectures` has machine code for them all.
include(CheckCompilerFlag)
include(CheckLanguage)

set(NF4_HAVE_CUDA FALSE)
if(NOT NF4_CUDA STREQUAL "OFF")
  if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX} AND EXISTS /usr/local/cuda/bin/nvcc)
    set(CMAKE_CUDA_COMPILER /usr/local/cuda/bin/nvcc) # where NVIDIA's packages put it, often not on the PATH
  endif()
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
      set(CMAKE_CUDA_ARCHITECTURES 75-virtual 80 90a-real) # not in the cache, which is the parent project's too
    endif()
    enable_language(CUDA)
    # Hopper's own instructions are in 90a alone; whoever asks for 90 means its GPUs, and so does `native` on one.
    if(CMAKE_CUDA_ARCHITECTURES STREQUAL "native" AND CMAKE_CUDA_ARCHITECTURES_NATIVE)
      set(CMAKE_CUDA_ARCHITECTURES ${CMAKE_CUDA_ARCHITECTURES_NATIVE})
    endif()
    list(TRANSFORM CMAKE_CUDA_ARCHITECTURES REPLACE "^90(-real|-virtual)?$" "90a\\1")
    find_package(CUDAToolkit 12.0 REQUIRED)
    check_compiler_flag(CUDA "-Xcudafe=--orig_src_path_name=x.cu;-Xcicc=--orig_src_path_name=x.cu" NF4_HAVE_SOURCE_NAMES)
    if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION) # CMake before 3.26 does not know it of nvcc
      set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
      set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
    endif()
    set(CMAKE_CUDA_STANDARD 20)
    set(CMAKE_CUDA_STANDARD_REQUIRED ON)
    string(APPEND CMAKE_CUDA_FLAGS " --expt-relaxed-constexpr") # config structs' members serve host and device
    # Names of temporary files get into objects, and in the system's folder they hold the process's number: with it a
    # build would differ each time.
    string(APPEND CMAKE_CUDA_FLAGS " --objdir-as-tempdir")
    set(NF4_HAVE_CUDA TRUE)
  elseif(NF4_CUDA STREQUAL "ON")
    message(FATAL_ERROR "NF4_CUDA is ON, but no CUDA compiler was found; set CMAKE_CUDA_COMPILER, or NF4_CUDA=OFF")
  endif()
endif()
if(NF4_HAVE_CUDA)
  message(STATUS "nf4: CUDA ${CUDAToolkit_VERSION}, architectures ${CMAKE_CUDA_ARCHITECTURES}")
elseif(NF4_CUDA STREQUAL "OFF")
  message(STATUS "nf4: NF4_CUDA is OFF, building the host backend alone")
else()
  message(WARNING "nf4: no CUDA compiler was found, so what is built is the host backend alone: it cannot use a GPU. "
    "Install the CUDA toolkit (nvcc, 12.0 or newer), or set CUDACXX to its nvcc. NF4_CUDA=ON makes this an error "
    "(pip install --config-settings=cmake.define.NF4_CUDA=ON .), NF4_CUDA=OFF silences it")
endif()

# nf4_name_cuda_sources(target): tells nvcc the paths of the .cu files of `target` from the project's root. It puts a hash
# of them into the names of what an unnamed namespace holds, which would differ wherever the library is built. The option
# is nvcc's own, to its parts, and in none of its documents: where a release lacks it, it is not given.
function(nf4_name_cuda_sources target)
  if(NOT NF4_HAVE_SOURCE_NAMES)
    return()
  endif()
  get_target_property(sources ${target} SOURCES)
  list(FILTER sources INCLUDE REGEX "[.]cu$")
  foreach(source IN LISTS sources)
    file(RELATIVE_PATH name ${PROJECT_SOURCE_DIR} ${CMAKE_CURRENT_SOURCE_DIR}/${source})
    set_property(SOURCE ${source} APPEND PROPERTY
      COMPILE_OPTIONS -Xcudafe=--orig_src_path_name=nf4/${name} -Xcicc=--orig_src_path_name=nf4/${name})
  endforeach()
endfunction()
