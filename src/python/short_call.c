/* The call of a Linear4bit that comes again and again, in C: what product() of nf4/_bitsandbytes/linear.py does for a
 * layer that it has a plan of. Everything else is handed to that function: a layer without a plan or with one that does
 * not hold any more, and whatever else is not plain.
 *
 * It uses Python's limited API alone, of torch what DLPack's C exchange API tells of a tensor, and of libnf4 a pointer
 * that ctypes has. So one file serves every Python from 3.10 and every torch from 2.10 on. */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030A0000
#include <Python.h>
#include <stdint.h>
#include <string.h>

#include "nf4/nf4.h"

/* ---- DLPack 1, as far as it is used here: its names are those of its specification */

typedef struct {
  int32_t device_type, device_id;
} DLDevice;

enum { kDLCPU = 1, kDLCUDA = 2 };

typedef struct {
  uint8_t code, bits;
  uint16_t lanes;
} DLDataType;

enum { kDLUInt = 1, kDLFloat = 2, kDLBfloat = 4 };

typedef struct {
  void* data;
  DLDevice device;
  int32_t ndim;
  DLDataType dtype;
  int64_t* shape;
  int64_t* strides;
  uint64_t byte_offset;
} DLTensor;

typedef struct ExchangeHeader {
  uint32_t major, minor;
  struct ExchangeHeader* older;
} ExchangeHeader;

typedef int (*FromPyObject)(void* object, DLTensor* out);

typedef struct {
  ExchangeHeader header;
  void (*managed_tensor_allocator)(void), (*managed_tensor_from_py_object)(void), (*managed_tensor_to_py_object)(void);
  FromPyObject dltensor_from_py_object;
  void (*current_work_stream)(void);
} ExchangeAPI;

/* ---- what is known of a tensor */

static void* address(const DLTensor* tensor) { return (char*)tensor->data + tensor->byte_offset; }

enum { NO_DEVICE = INT32_MIN };

/* The device as Tensor.get_device() and nf4_create() number it. */
static int32_t device_of(const DLTensor* tensor) {
  switch (tensor->device.device_type) {
    case kDLCPU:
      return NF4_HOST_DEVICE;
    case kDLCUDA:
      return tensor->device.device_id;
    default:
      return NO_DEVICE;
  }
}

/* The nf4_dtype_t, or -1 if there is none. */
static nf4_dtype_t dtype_of(const DLTensor* tensor) {
  const DLDataType type = tensor->dtype;
  if (type.lanes != 1) return -1;
  if (type.code == kDLFloat && type.bits == 32) return NF4_F32;
  if (type.code == kDLFloat && type.bits == 16) return NF4_F16;
  if (type.code == kDLBfloat && type.bits == 16) return NF4_BF16;
  if (type.code == kDLUInt && type.bits == 8) return NF4_U8;
  return -1;
}

/* The number of rows of a tensor [..., cols] without gaps, or -1 if it is none, or has no elements. */
static int64_t rows_of(const DLTensor* tensor, int64_t cols) {
  if (tensor->ndim < 1 || tensor->shape[tensor->ndim - 1] != cols || cols < 1) return -1;
  int64_t count = 1;
  for (int32_t i = tensor->ndim - 1; i >= 0; --i) {
    if (tensor->shape[i] < 1 || (tensor->shape[i] != 1 && tensor->strides[i] != count)) return -1;
    count *= tensor->shape[i];
  }
  return count / cols;
}

/* ---- the object that Python calls */

/* What it is given, by the names of its arguments. */
#define OBJECTS(X)                                                                                                \
  X(product)            /* (layer, x): does all that is not plain */                                              \
  X(tensor)             /* torch.Tensor */                                                                        \
  X(empty_strided_cpu)  /* (sizes, strides, dtype): as Inductor's code allocates */                               \
  X(empty_strided_cuda) /* the same, on the current device */                                                     \
  X(dtypes)             /* the torch.dtype of NF4_F32, NF4_F16 and NF4_BF16, in this order */                     \
  X(dispatch_modes)     /* (): how many watch the operators */                                                    \
  X(is_tracing)         /* () */                                                                                  \
  X(transform_level)    /* (): of torch.func, or None */                                                          \
  X(forward_ad)         /* the namespace of torch.autograd.forward_ad */                                          \
  X(is_grad_enabled)    /* () */                                                                                  \
  X(requires_grad)      /* (*tensors) */                                                                          \
  X(is_plain)           /* (device, dtype, m, weight): whether the product is libnf4's, and needs no workspace */ \
  X(devices)            /* Devices: plans that were made with another are none */                                 \
  X(limits)             /* of Devices: for the devices that are in it is_plain is asked for any m */              \
  X(current_device)     /* (): CUDA's */                                                                          \
  X(current_stream)     /* (device): the address of CUDA's */                                                     \
  X(check)              /* (status): raises nf4.Error */

/* Keys of dicts and names of attributes. */
/* clang-format off */
#define NAMES(X)                                                         \
  X(_nf4_plan) X(devices) X(prepared)                                    \
  X(_parameters) X(weight) X(bias) X(compute_type_is_set) X(compute_dtype) \
  X(quant_state) X(quant_type) X(shape) X(blocksize) X(nested)           \
  X(absmax) X(offset) X(state2) X(code)                                  \
  X(_current_level)
/* clang-format on */

typedef nf4_status_t (*Gemm)(nf4_handle_t, void*, int64_t, const void*, int64_t, int64_t, nf4_dtype_t,
                             const nf4_weight_t*, const void*, const nf4_options_t*, nf4_stream_t);

#define DECLARE(name) PyObject* name;

typedef struct {
  OBJECTS(DECLARE)
} Objects;

typedef struct {
  NAMES(DECLARE)
} Names;

typedef struct {
  PyObject_HEAD;
  Objects objects;
  Names names;
  FromPyObject from_py_object;
  Gemm gemm;
  int64_t workspace_rows; /* products of fewer rows of x need no workspace */
} ShortCall;

/* Whether `object` is a tensor, and what is known of it. It may set an exception where not. */
static int view(const ShortCall* self, PyObject* object, DLTensor* tensor) {
  return object != NULL && PyObject_TypeCheck(object, (PyTypeObject*)self->objects.tensor) &&
         self->from_py_object(object, tensor) == 0;
}

/* ---- a layer's weight and bias */

/* All that a plan is made of, as _key() of linear.py has it. Whatever is equal to it, byte by byte, is as it was when
 * the plan was made. Parameters count by their address. */
typedef struct {
  const void *parameter, *bias, *bias_data;
  nf4_dtype_t bias_dtype;
  int32_t device;
  nf4_weight_t weight;
} Operands;

/* What a plan keeps for C: an object of bytes. */
typedef struct {
  Operands operands;
  nf4_handle_t handle;
} Prepared;

static int as_int64(PyObject* number, int64_t* value) {
  if (number == NULL || !PyLong_Check(number)) return 0;
  *value = PyLong_AsLongLong(number);
  return !(*value == -1 && PyErr_Occurred());
}

static int as_int32(PyObject* number, int32_t* value) {
  int64_t wide;
  if (!as_int64(number, &wide) || wide < INT32_MIN || wide > INT32_MAX) return 0;
  *value = (int32_t)wide;
  return 1;
}

static int as_floats(const ShortCall* self, PyObject* object, const float** data) {
  DLTensor tensor;
  if (!view(self, object, &tensor) || dtype_of(&tensor) != NF4_F32) return 0;
  *data = address(&tensor);
  return 1;
}

/* Takes back the exception of what turned out not to be plain: product() in Python meets it again. Returns 0 if it is
 * of the kind that ends a program, and stays. */
static int forget_exception(void) {
  if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_Exception)) return 0;
  PyErr_Clear();
  return 1;
}

static PyObject* get(PyObject* dict, PyObject* name) { return PyDict_GetItemWithError(dict, name); }

/* The namespace of an object, or NULL if it has none that is a plain dict. */
static PyObject* namespace_of(PyObject* object) {
  PyObject* names = object == NULL ? NULL : PyObject_GenericGetDict(object, NULL);
  if (names == NULL || PyDict_CheckExact(names)) return names;
  Py_DECREF(names);
  return NULL;
}

/* The part of `weight` that is in a QuantState, or in the second one of a nested one. */
static int read_state(const ShortCall* self, PyObject* state, nf4_weight_t* weight) {
  DLTensor absmax;
  PyObject *type = get(state, self->names.quant_type), *shape = get(state, self->names.shape);
  if (type == NULL || !PyUnicode_Check(type) || PyUnicode_CompareWithASCIIString(type, "nf4") != 0) return 0;
  if (shape == NULL || !PyTuple_Check(shape) || PyTuple_Size(shape) != 2) return 0;
  if (!as_int64(PyTuple_GetItem(shape, 0), &weight->rows) || !as_int64(PyTuple_GetItem(shape, 1), &weight->cols) ||
      !as_int32(get(state, self->names.blocksize), &weight->blocksize) ||
      !view(self, get(state, self->names.absmax), &absmax)) {
    return 0;
  }
  weight->absmax = address(&absmax);
  weight->absmax_dtype = dtype_of(&absmax);
  PyObject* nested = get(state, self->names.nested);
  if (nested == Py_False) return weight->absmax_dtype >= 0;
  if (nested != Py_True || weight->absmax_dtype != NF4_U8) return 0;
  PyObject* second = namespace_of(get(state, self->names.state2));
  const int found = second != NULL && as_floats(self, get(second, self->names.absmax), &weight->absmax2) &&
                    as_floats(self, get(second, self->names.code), &weight->absmax_map) &&
                    as_floats(self, get(state, self->names.offset), &weight->absmax_offset) &&
                    as_int32(get(second, self->names.blocksize), &weight->absmax_blocksize);
  Py_XDECREF(second);
  return found;
}

/* Reads what a layer's parameters are made of by now. Returns 0 if they are not plain, and may set an exception. */
static int read_operands(const ShortCall* self, PyObject* parameter, PyObject* bias, Operands* operands) {
  DLTensor codes, values;
  memset(operands, 0, sizeof *operands); /* gaps count */
  operands->parameter = parameter;
  operands->weight.struct_size = sizeof operands->weight;
  if (!view(self, parameter, &codes)) return 0;
  operands->device = device_of(&codes);
  if (operands->device == NO_DEVICE) return 0;
  operands->weight.codes = address(&codes);
  if (bias != Py_None) {
    if (!view(self, bias, &values)) return 0;
    operands->bias = bias;
    operands->bias_data = address(&values);
    operands->bias_dtype = dtype_of(&values);
  }
  PyObject* quant_state = PyObject_GetAttr(parameter, self->names.quant_state);
  PyObject* state = namespace_of(quant_state);
  Py_XDECREF(quant_state); /* the parameter has it */
  const int found = state != NULL && read_state(self, state, &operands->weight);
  Py_XDECREF(state);
  return found;
}

PyDoc_STRVAR(prepare_doc,
             "prepare(parameter, bias, handle)\n--\n\n"
             "What a plan, which has just been made of these, is to keep for product(); None if that is not for it.");

static PyObject* prepare(PyObject* object, PyObject* const* arguments, Py_ssize_t count) {
  Prepared prepared;
  if (count != 3) return PyErr_Format(PyExc_TypeError, "prepare() takes 3 arguments; %zd were given", count);
  prepared.handle = PyLong_AsVoidPtr(arguments[2]);
  if (prepared.handle == NULL && PyErr_Occurred()) return NULL;
  if (read_operands((ShortCall*)object, arguments[0], arguments[1], &prepared.operands)) {
    return PyBytes_FromStringAndSize((const char*)&prepared, sizeof prepared);
  }
  if (!forget_exception()) return NULL;
  Py_RETURN_NONE;
}

/* ---- a call */

/* A product that is plain: its arguments, as nf4_gemm takes them. */
typedef struct {
  PyObject *plan, *parameter, *bias; /* strong, so that they live as long as the call */
  Prepared prepared;
  DLTensor x;
  nf4_dtype_t dtype;
  int64_t m;
  nf4_stream_t stream;
} Call;

/* What a function without arguments returns, if that is a number of at least 0; else a negative one. */
static long number_from(PyObject* function) {
  PyObject* number = PyObject_CallNoArgs(function);
  if (number == NULL) return -1;
  const long value = PyLong_AsLong(number);
  Py_DECREF(number);
  return value;
}

/* Whether `function` returns `expected`, which is None or False. */
static int returns(PyObject* function, PyObject* expected) {
  PyObject* result = PyObject_CallNoArgs(function);
  Py_XDECREF(result);
  return result == expected;
}

/* Whether nothing watches operators or takes gradients. */
static int is_unwatched(const ShortCall* self, PyObject* x, const Call* call) {
  int64_t level;
  if (number_from(self->objects.dispatch_modes) != 0 || !returns(self->objects.is_tracing, Py_False) ||
      !returns(self->objects.transform_level, Py_None) ||
      !as_int64(get(self->objects.forward_ad, self->names._current_level), &level) || level >= 0) {
    return 0;
  }
  if (returns(self->objects.is_grad_enabled, Py_False)) return 1;
  if (PyErr_Occurred()) return 0;
  PyObject* needed = PyObject_CallFunctionObjArgs(self->objects.requires_grad, x, call->parameter, call->bias, NULL);
  Py_XDECREF(needed);
  return needed == Py_False;
}

static PyObject* hold(PyObject* object) {
  Py_XINCREF(object);
  return object;
}

/* Whether the plan of the layer with the namespace `own` holds. */
static int has_plan(const ShortCall* self, PyObject* own, Call* call) {
  Operands now;
  PyObject *plan = get(own, self->names._nf4_plan), *parameters = get(own, self->names._parameters);
  if (plan == NULL || plan == Py_None || parameters == NULL || !PyDict_CheckExact(parameters)) return 0;
  call->plan = hold(plan);
  call->parameter = hold(get(parameters, self->names.weight));
  call->bias = hold(get(parameters, self->names.bias));
  if (get(own, self->names.weight) != NULL || get(own, self->names.bias) != NULL ||
      get(own, self->names.compute_type_is_set) != Py_True) {
    return 0;
  }
  PyObject* devices = PyObject_GetAttr(plan, self->names.devices);
  PyObject* prepared = devices == self->objects.devices ? PyObject_GetAttr(plan, self->names.prepared) : NULL;
  const int found = prepared != NULL && PyBytes_CheckExact(prepared);
  if (found) memcpy(&call->prepared, PyBytes_AsString(prepared), sizeof call->prepared);
  Py_XDECREF(devices);
  Py_XDECREF(prepared);
  return found && call->parameter != NULL && call->bias != NULL &&
         read_operands(self, call->parameter, call->bias, &now) &&
         memcmp(&now, &call->prepared.operands, sizeof now) == 0;
}

/* Whether x is what the layer multiplies, and lies as nf4_gemm takes it. */
static int fits(const ShortCall* self, PyObject* own, PyObject* x, Call* call) {
  const Operands* operands = &call->prepared.operands;
  if (!view(self, x, &call->x) || device_of(&call->x) != operands->device) return 0;
  call->dtype = dtype_of(&call->x);
  if (call->dtype < 0 || call->dtype == NF4_U8) return 0;
  if (operands->bias != NULL && operands->bias_dtype != call->dtype) return 0;
  PyObject* compute_dtype = get(own, self->names.compute_dtype);
  if (compute_dtype != Py_None && compute_dtype != PyTuple_GetItem(self->objects.dtypes, call->dtype)) return 0;
  call->m = rows_of(&call->x, operands->weight.cols);
  return call->m > 0;
}

/* Whether the product is libnf4's to make, without a workspace. */
static int is_taken(const ShortCall* self, const Call* call) {
  const int32_t device = call->prepared.operands.device;
  if (PyDict_Size(self->objects.limits) == 0 && (device < 0 || call->m < self->workspace_rows)) return 1;
  PyObject* weight = PyObject_GetAttr(call->plan, self->names.weight);
  if (weight == NULL) return 0;
  PyObject* plain =
      PyObject_CallFunction(self->objects.is_plain, "iiLO", device, call->dtype, (long long)call->m, weight);
  Py_DECREF(weight);
  Py_XDECREF(plain);
  return plain == Py_True;
}

/* Whether the layer's device is the current one, and if so the stream. */
static int has_stream(const ShortCall* self, Call* call) {
  const int32_t device = call->prepared.operands.device;
  call->stream = NULL;
  if (device < 0) return 1;
  if (number_from(self->objects.current_device) != device) return 0;
  PyObject* stream = PyObject_CallFunction(self->objects.current_stream, "i", device);
  if (stream == NULL) return 0;
  call->stream = PyLong_AsVoidPtr(stream);
  Py_DECREF(stream);
  return !PyErr_Occurred();
}

/* Whether layer(x) is plain, and if so what there is to do. It may set an exception where not. */
static int is_plain(const ShortCall* self, PyObject* layer, PyObject* x, Call* call) {
  if ((PyObject*)Py_TYPE(x) != self->objects.tensor) return 0;
  PyObject* own = namespace_of(layer);
  const int plain = own != NULL && has_plan(self, own, call) && is_unwatched(self, x, call) &&
                    fits(self, own, x, call) && is_taken(self, call) && has_stream(self, call);
  Py_XDECREF(own);
  return plain;
}

/* A new tensor of the shape of x, but of the rows of W in the place of its columns. */
static PyObject* new_output(const ShortCall* self, const Call* call) {
  const Operands* operands = &call->prepared.operands;
  const int32_t dims = call->x.ndim;
  PyObject *sizes = PyTuple_New(dims), *strides = PyTuple_New(dims), *y = NULL;
  int made = sizes != NULL && strides != NULL;
  int64_t count = 1;
  for (int32_t i = dims - 1; i >= 0 && made; --i) {
    const int64_t size = i == dims - 1 ? operands->weight.rows : call->x.shape[i];
    made = PyTuple_SetItem(sizes, i, PyLong_FromLongLong(size)) == 0 &&
           PyTuple_SetItem(strides, i, PyLong_FromLongLong(count)) == 0;
    count *= size;
  }
  if (made && !PyErr_Occurred()) {
    PyObject* empty = operands->device < 0 ? self->objects.empty_strided_cpu : self->objects.empty_strided_cuda;
    y = PyObject_CallFunctionObjArgs(empty, sizes, strides, PyTuple_GetItem(self->objects.dtypes, call->dtype), NULL);
  }
  Py_XDECREF(sizes);
  Py_XDECREF(strides);
  return y;
}

static PyObject* multiply(const ShortCall* self, const Call* call) {
  const Operands* operands = &call->prepared.operands;
  const nf4_weight_t* weight = &operands->weight;
  DLTensor out;
  nf4_status_t status;
  PyObject* y = new_output(self, call);
  if (y == NULL || self->from_py_object(y, &out) != 0) {
    Py_XDECREF(y);
    return NULL;
  }
  Py_BEGIN_ALLOW_THREADS;
  status = self->gemm(call->prepared.handle, address(&out), weight->rows, address(&call->x), weight->cols, call->m,
                      call->dtype, weight, operands->bias_data, NULL, call->stream);
  Py_END_ALLOW_THREADS;
  if (status == NF4_SUCCESS) return y;
  Py_DECREF(y);
  PyObject* none = PyObject_CallFunction(self->objects.check, "i", status);
  if (none != NULL) PyErr_Format(PyExc_SystemError, "check(%d) returned", status);
  Py_XDECREF(none);
  return NULL;
}

PyDoc_STRVAR(product_doc,
             "product(layer, x)\n--\n\n"
             "layer(x), or None if it is bitsandbytes' own to make.");

static PyObject* product(PyObject* object, PyObject* const* arguments, Py_ssize_t count) {
  const ShortCall* self = (ShortCall*)object;
  if (count != 2) return PyErr_Format(PyExc_TypeError, "product() takes 2 arguments; %zd were given", count);
  PyObject *layer = arguments[0], *x = arguments[1], *y = NULL;
  Call call;
  call.plan = call.parameter = call.bias = NULL;
  if (is_plain(self, layer, x, &call)) {
    y = multiply(self, &call);
  } else if (forget_exception()) {
    y = PyObject_CallFunctionObjArgs(self->objects.product, layer, x, NULL);
  }
  Py_XDECREF(call.plan);
  Py_XDECREF(call.parameter);
  Py_XDECREF(call.bias);
  return y;
}

/* ---- the type and the module */

/* It may be a part of a cycle: product() in Python knows it. */
static int traverse(PyObject* object, visitproc visit, void* arg) {
  ShortCall* self = (ShortCall*)object;
  Py_VISIT(Py_TYPE(object)); /* each object has a reference to it */
#define VISIT(name) Py_VISIT(self->objects.name);
  OBJECTS(VISIT)
  return 0;
}

static int clear(PyObject* object) {
  ShortCall* self = (ShortCall*)object;
#define CLEAR_OBJECT(name) Py_CLEAR(self->objects.name);
#define CLEAR_NAME(name) Py_CLEAR(self->names.name);
  OBJECTS(CLEAR_OBJECT)
  NAMES(CLEAR_NAME)
  return 0;
}

static void dealloc(PyObject* object) {
  PyTypeObject* type = Py_TYPE(object);
  PyObject_GC_UnTrack(object);
  clear(object);
  ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
  Py_DECREF(type);
}

/* DLPack's functions from the capsule that a type of tensors has of them. */
static FromPyObject exchange(PyObject* capsule) {
  const ExchangeHeader* header = PyCapsule_GetPointer(capsule, "dlpack_exchange_api");
  if (header == NULL) return NULL;
  while (header != NULL && header->major != 1) header = header->older;
  const FromPyObject function = header == NULL ? NULL : ((const ExchangeAPI*)header)->dltensor_from_py_object;
  if (function == NULL)
    PyErr_SetString(PyExc_ValueError, "DLPack's exchange API is not of version 1, or gives no DLTensor");
  return function;
}

/* A new reference to what the constructor was given as `name`. */
static PyObject* argument(PyObject* named, const char* name) {
  PyObject* value = named == NULL ? NULL : PyDict_GetItemString(named, name);
  if (value == NULL) PyErr_Format(PyExc_TypeError, "ShortCall() lacks the argument %s", name);
  Py_XINCREF(value);
  return value;
}

static PyObject* new_short_call(PyTypeObject* type, PyObject* unnamed, PyObject* named) {
  (void)unnamed;
  ShortCall* self = (ShortCall*)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
  if (self == NULL) return NULL;
  PyObject *api = argument(named, "exchange_api"), *gemm = argument(named, "gemm");
  PyObject* workspace_rows = argument(named, "workspace_rows");
  int made = api != NULL && gemm != NULL && as_int64(workspace_rows, &self->workspace_rows);
  made = made && (self->from_py_object = exchange(api)) != NULL;
  made = made && (self->gemm = (Gemm)PyLong_AsVoidPtr(gemm)) != NULL;
  Py_XDECREF(api);
  Py_XDECREF(gemm);
  Py_XDECREF(workspace_rows);
#define TAKE(name) made = made && (self->objects.name = argument(named, #name)) != NULL;
  OBJECTS(TAKE)
#define INTERN(name) made = made && (self->names.name = PyUnicode_InternFromString(#name)) != NULL;
  NAMES(INTERN)
  if (made) return (PyObject*)self;
  if (!PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "gemm is no address, or workspace_rows no number");
  Py_DECREF(self);
  return NULL;
}

static PyMethodDef methods[] = {
    {"product", (PyCFunction)(void (*)(void))product, METH_FASTCALL, product_doc},
    {"prepare", (PyCFunction)(void (*)(void))prepare, METH_FASTCALL, prepare_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, (void*)new_short_call}, {Py_tp_dealloc, (void*)dealloc}, {Py_tp_traverse, (void*)traverse},
    {Py_tp_clear, (void*)clear},        {Py_tp_methods, methods},        {0, NULL},
};

static PyType_Spec spec = {"nf4._short_call.ShortCall", sizeof(ShortCall), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
                           slots};

static int add_type(PyObject* module) {
  PyObject* type = PyType_FromModuleAndSpec(module, &spec, NULL);
  const int failed = type == NULL || PyModule_AddType(module, (PyTypeObject*)type) < 0;
  Py_XDECREF(type);
  return failed ? -1 : 0;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, (void*)add_type},
    {0, NULL},
};

static PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT, "_short_call", "Linear4bit's repeated calls in C.", 0, NULL, module_slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__short_call(void) { return PyModuleDef_Init(&module_def); }
