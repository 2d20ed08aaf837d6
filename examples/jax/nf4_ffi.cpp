// libnf4 for XLA's foreign function interface: pack, unpack and products as custom calls of JAX, on the host and on
// CUDA.
//
//   c++ -std=c++17 -shared -fPIC nf4_ffi.cpp -I"$(python3 -c 'import jax; print(jax.ffi.include_dir())')" -lnf4 -o
//   libnf4_jax.so
//
// nf4_jax.py registers the handlers, and has a function for each. No header of CUDA is needed.
#include <xla/ffi/api/ffi.h>
#include <nf4/nf4.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <mutex>
#include <new>
#include <string>

namespace ffi = xla::ffi;

namespace {

using Codes = ffi::Buffer<ffi::U8>;

// ---- arrays

nf4_dtype_t dtype_of(const char* what, ffi::DataType type) {
  switch (type) {
    case ffi::F32:
      return NF4_F32;
    case ffi::F16:
      return NF4_F16;
    case ffi::BF16:
      return NF4_BF16;
    default:
      throw nf4::Error(NF4_ERROR_UNSUPPORTED, std::string(what) + " has a type that is none of f32, f16, bf16");
  }
}

template <class Buffer>
std::int64_t count(const Buffer& buffer) {
  return static_cast<std::int64_t>(buffer.element_count());
}

nf4::Data data(const char* what, const ffi::AnyBuffer& array) {
  return {array.untyped_data(), count(array), dtype_of(what, array.element_type())};
}

// An array [..., cols] as the matrix of its rows.
nf4::Matrix matrix(const char* what, const ffi::AnyBuffer& array) {
  const auto shape = array.dimensions();
  if (shape.size() == 0) throw nf4::Error(NF4_ERROR_INVALID_ARGUMENT, std::string(what) + " is a scalar");
  std::int64_t rows = 1;
  for (std::size_t i = 0; i + 1 < shape.size(); ++i) rows *= shape[i];
  return {data(what, array), rows, shape.back()};
}

nf4::Weight weight(std::int64_t rows, std::int64_t cols, const Codes& codes, const ffi::AnyBuffer& absmax,
                   std::int32_t blocksize) {
  return {rows, cols, {codes.typed_data(), count(codes)}, data("absmax", absmax), blocksize};
}

// ---- operations

struct Device {
  const nf4::Handle& handle;
  nf4_stream_t stream;
};

void pack(const Device& on, ffi::AnyBuffer w, ffi::Result<Codes> codes, ffi::ResultBuffer<ffi::F32> absmax,
          std::int32_t blocksize) {
  nf4::pack(on.handle, {codes->typed_data(), count(*codes)}, {absmax->typed_data(), count(*absmax)}, matrix("w", w),
            blocksize, {}, on.stream);
}

void unpack(const Device& on, Codes codes, ffi::AnyBuffer absmax, ffi::Result<ffi::AnyBuffer> w,
            std::int32_t blocksize) {
  const nf4::Matrix out = matrix("w", *w);
  nf4::unpack(on.handle, out, weight(out.rows, out.cols, codes, absmax, blocksize), {}, on.stream);
}

// An empty bias is none.
void gemm(const Device& on, ffi::AnyBuffer x, Codes codes, ffi::AnyBuffer absmax, ffi::AnyBuffer bias,
          ffi::Result<ffi::AnyBuffer> y, std::int32_t blocksize) {
  const nf4::Matrix in = matrix("x", x), out = matrix("y", *y);
  nf4::gemm(on.handle, out, in, weight(out.cols, in.cols, codes, absmax, blocksize),
            bias.element_count() == 0 ? nf4::ConstData() : nf4::ConstData(data("bias", bias)), {}, on.stream);
}

// ---- handlers

// One handle a device, for as long as the process lives.
const nf4::Handle& handle(std::int32_t device) {
  static std::mutex mutex;
  static std::map<std::int32_t, nf4::Handle>& handles = *new std::map<std::int32_t, nf4::Handle>;
  const std::lock_guard<std::mutex> lock(mutex);
  return handles.try_emplace(device, device).first->second;
}

template <class Operation, class... Operands>
ffi::Error run(Operation operation, std::int32_t device, nf4_stream_t stream, Operands... operands) {
  try {
    operation(Device{handle(device), stream}, operands...);
    return ffi::Error::Success();
  } catch (const nf4::Error& error) {
    const bool refused = error.status() <= NF4_ERROR_UNSUPPORTED;
    return ffi::Error(refused ? ffi::ErrorCode::kInvalidArgument : ffi::ErrorCode::kInternal, error.what());
  } catch (const std::bad_alloc&) {
    return ffi::Error(ffi::ErrorCode::kResourceExhausted, "host memory is exhausted");
  }
}

auto on_host() { return ffi::Ffi::Bind(); }

auto on_cuda() { return ffi::Ffi::Bind().Ctx<ffi::DeviceOrdinal>().Ctx<ffi::PlatformStream<nf4_stream_t>>(); }

}  // namespace

// Defines operation_host and operation_cuda. XLA may capture the latter in a CUDA graph.
#define NF4_HANDLERS(operation, operands)                                                                   \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(                                                                            \
      nf4_##operation##_host, [](auto... all) { return run(operation, NF4_HOST_DEVICE, nullptr, all...); }, \
      on_host() operands);                                                                                  \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(nf4_##operation##_cuda, [](auto... all) { return run(operation, all...); }, \
                                on_cuda() operands, {ffi::Traits::kCmdBufferCompatible})

NF4_HANDLERS(pack, .Arg<ffi::AnyBuffer>().Ret<Codes>().Ret<ffi::Buffer<ffi::F32>>().Attr<std::int32_t>("blocksize"));
NF4_HANDLERS(unpack, .Arg<Codes>().Arg<ffi::AnyBuffer>().Ret<ffi::AnyBuffer>().Attr<std::int32_t>("blocksize"));
NF4_HANDLERS(gemm, .Arg<ffi::AnyBuffer>()
                       .Arg<Codes>()
                       .Arg<ffi::AnyBuffer>()
                       .Arg<ffi::AnyBuffer>()
                       .Ret<ffi::AnyBuffer>()
                       .Attr<std::int32_t>("blocksize"));
