#!/usr/bin/env bash
# Installs, through apt, what building and testing this project needs and the machine lacks. Does nothing if it has all.
# The CUDA toolkit is not installed: without nvcc the host backend alone is built.
set -euo pipefail

missing=()
command_from() { command -v "$1" >/dev/null || missing+=("$2"); }
package() { [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]] || missing+=("$1"); }

command_from g++ g++
command_from cmake cmake
command_from git git
command_from ninja ninja-build
command_from python3 python3
command_from pkg-config pkg-config
command_from readelf binutils
command_from cargo cargo # brings rustc
command_from abidiff abigail-tools
command_from clang++ clang
command_from clang-format clang-format
command_from clang-tidy clang-tidy
package catch2
package libbenchmark-dev
package libcli11-dev
package libfmt-dev
package libopenblas0 # to compare with, at run time
package mypy
package nlohmann-json3-dev
package python3-dev
package python3-numpy
package python3-pip
package python3-venv

if ((${#missing[@]})); then
  echo "setup: installing ${missing[*]}"
  as_root=()
  ((EUID == 0)) || as_root=(sudo)
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi

if ! command -v nvcc >/dev/null && [[ ! -x /usr/local/cuda/bin/nvcc ]]; then
  echo "setup: no nvcc here, so the host backend alone will be built; CUDA 12 or newer is at" \
       "https://developer.nvidia.com/cuda-downloads"
fi
