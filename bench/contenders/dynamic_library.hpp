// A library that is looked up at run time, so that the benchmark needs no peer to be installed.
#pragma once

#include <dlfcn.h>

#include <stdexcept>
#include <string>

namespace nf4bench {

class DynamicLibrary {
 public:
  // Never unloaded: a CUDA library's kernels stay registered with the driver until the process ends.
  explicit DynamicLibrary(const std::string& path)
      : path_(path), library_(dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE)) {
    if (library_ != nullptr) return;
    // The loader's message names the file that is missing, which may be one that `path` needs.
    throw std::runtime_error("cannot load " + path + ": " + dlerror() +
                             " (put the folder of a missing dependency on LD_LIBRARY_PATH)");
  }

  // NULL if the library has no such function.
  template <typename Function>
  Function* find(const std::string& name) const {
    return reinterpret_cast<Function*>(dlsym(library_, name.c_str()));
  }

  template <typename Function>
  Function* get(const std::string& name) const {
    Function* const function = find<Function>(name);
    if (function == nullptr) throw std::runtime_error(path_ + " has no function " + name);
    return function;
  }

 private:
  std::string path_;
  void* library_;
};

}  // namespace nf4bench
