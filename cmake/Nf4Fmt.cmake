# fmt::fmt-header-only, of which the library takes the headers alone: the system's or, where pip builds, that of PyPI's
# package cmeel-fmt, which has a prefix of its own below Python's packages.
find_package(fmt QUIET PATH_SUFFIXES cmeel.prefix/lib/cmake/fmt)
if(NOT fmt_FOUND)
  message(FATAL_ERROR "nf4 needs the library fmt, and none was found. Install libfmt-dev (Debian, Ubuntu) or fmt-devel "
    "(Fedora), or set CMAKE_PREFIX_PATH to where it is; pip brings it along from Python 3.10 on")
endif()
