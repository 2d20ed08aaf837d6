//! nf4.h, declaration by declaration; what they mean is said there. tests/package/rust.py holds them to the header.

#![allow(non_camel_case_types)]

use std::mem::size_of;
use std::os::raw::{c_char, c_void};
use std::ptr::{null, null_mut};

// ---- status

pub type nf4_status_t = i32;
pub const NF4_SUCCESS: nf4_status_t = 0;
pub const NF4_ERROR_INVALID_ARGUMENT: nf4_status_t = 1;
pub const NF4_ERROR_MISALIGNED: nf4_status_t = 2;
pub const NF4_ERROR_UNSUPPORTED: nf4_status_t = 3;
pub const NF4_ERROR_UNKNOWN_VARIANT: nf4_status_t = 4;
pub const NF4_ERROR_STRUCT_SIZE: nf4_status_t = 5;
pub const NF4_ERROR_WORKSPACE: nf4_status_t = 6;
pub const NF4_ERROR_WRONG_DEVICE: nf4_status_t = 7;
pub const NF4_ERROR_NO_DEVICE: nf4_status_t = 8;
pub const NF4_ERROR_CUDA: nf4_status_t = 9;
pub const NF4_ERROR_OUT_OF_MEMORY: nf4_status_t = 10;
pub const NF4_ERROR_IO: nf4_status_t = 11;
pub const NF4_ERROR_PARSE: nf4_status_t = 12;
pub const NF4_ERROR_INTERNAL: nf4_status_t = 13;

// ---- types of data

pub type nf4_dtype_t = i32;
pub const NF4_F32: nf4_dtype_t = 0;
pub const NF4_F16: nf4_dtype_t = 1;
pub const NF4_BF16: nf4_dtype_t = 2;
pub const NF4_U8: nf4_dtype_t = 3;
pub const NF4_I32: nf4_dtype_t = 4;
pub const NF4_I64: nf4_dtype_t = 5;

/// CUDA's stream, which is passed by pointer alone.
#[repr(C)]
pub struct CUstream_st {
    _opaque: [u8; 0],
}
pub type nf4_stream_t = *mut CUstream_st;

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct nf4_weight_t {
    pub struct_size: usize,
    pub rows: i64,
    pub cols: i64,
    pub codes: *const u8,
    pub absmax: *const c_void,
    pub blocksize: i32,
    pub absmax_dtype: nf4_dtype_t,
    pub absmax_map: *const f32,
    pub absmax2: *const f32,
    pub absmax_offset: *const f32,
    pub absmax_blocksize: i32,
    pub flags: u32,
}
pub const NF4_WEIGHT_CONSTANT: u32 = 1;
pub const NF4_WEIGHT_INIT: nf4_weight_t = nf4_weight_t {
    struct_size: size_of::<nf4_weight_t>(),
    rows: 0,
    cols: 0,
    codes: null(),
    absmax: null(),
    blocksize: 64,
    absmax_dtype: NF4_F32,
    absmax_map: null(),
    absmax2: null(),
    absmax_offset: null(),
    absmax_blocksize: 256,
    flags: 0,
};

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct nf4_options_t {
    pub struct_size: usize,
    pub variant: *const c_char,
    pub config: *const c_char,
    pub workspace: *mut c_void,
    pub workspace_size: usize,
}
pub const NF4_OPTIONS_INIT: nf4_options_t = nf4_options_t {
    struct_size: size_of::<nf4_options_t>(),
    variant: null(),
    config: null(),
    workspace: null_mut(),
    workspace_size: 0,
};

// ---- handle

/// What a handle points to.
#[repr(C)]
pub struct nf4_handle {
    _opaque: [u8; 0],
}
pub type nf4_handle_t = *mut nf4_handle;

pub const NF4_HOST_DEVICE: i32 = -1;

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct nf4_device_info_t {
    pub struct_size: usize,
    pub device: i32,
    pub compute_capability: i32,
    pub multiprocessors: i32,
    pub reserved: i32,
    pub name: [c_char; 128],
}

// ---- products

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct nf4_product_t {
    pub struct_size: usize,
    pub y: *mut c_void,
    pub ldy: i64,
    pub weight: *const nf4_weight_t,
    pub bias: *const c_void,
}
pub const NF4_PRODUCT_INIT: nf4_product_t =
    nf4_product_t { struct_size: size_of::<nf4_product_t>(), y: null_mut(), ldy: 0, weight: null(), bias: null() };

// ---- experts

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct nf4_routing_t {
    pub struct_size: usize,
    pub experts: i64,
    pub slots: i64,
    pub top_k: i64,
    pub ids: *const c_void,
    pub ids_dtype: nf4_dtype_t,
    pub reserved: i32,
    pub ends: *const i32,
    pub order: *const i32,
    pub scale: *const f32,
}
pub const NF4_ROUTING_INIT: nf4_routing_t = nf4_routing_t {
    struct_size: size_of::<nf4_routing_t>(),
    experts: 0,
    slots: 0,
    top_k: 1,
    ids: null(),
    ids_dtype: NF4_I64,
    reserved: 0,
    ends: null(),
    order: null(),
    scale: null(),
};

// ---- variants and selection

pub type nf4_op_t = i32;
pub const NF4_OP_PACK: nf4_op_t = 0;
pub const NF4_OP_UNPACK: nf4_op_t = 1;
pub const NF4_OP_GEMM: nf4_op_t = 2;
pub const NF4_OP_PACK_ABSMAX: nf4_op_t = 3;
pub const NF4_OP_UNPACK_ABSMAX: nf4_op_t = 4;
pub const NF4_OP_GEMM_EXPERTS: nf4_op_t = 5;
pub const NF4_OP_SORT_EXPERTS: nf4_op_t = 6;
pub const NF4_OP_GEMM_TRANSPOSED: nf4_op_t = 7;

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct nf4_problem_t {
    pub struct_size: usize,
    pub op: nf4_op_t,
    pub dtype: nf4_dtype_t,
    pub m: i64,
    pub n: i64,
    pub k: i64,
    pub blocksize: i32,
    pub absmax_dtype: nf4_dtype_t,
    pub alignment: i32,
    pub strided: i32,
    pub experts: i64,
    pub top_k: i64,
    pub sorted: i32,
    pub reserved: i32,
}
pub const NF4_PROBLEM_INIT: nf4_problem_t = nf4_problem_t {
    struct_size: size_of::<nf4_problem_t>(),
    op: NF4_OP_GEMM,
    dtype: NF4_BF16,
    m: 1,
    n: 0,
    k: 0,
    blocksize: 64,
    absmax_dtype: NF4_F32,
    alignment: 0,
    strided: 0,
    experts: 0,
    top_k: 1,
    sorted: 0,
    reserved: 0,
};

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct nf4_selection_t {
    pub struct_size: usize,
    pub variant: *const c_char,
    pub workspace_size: usize,
    pub config: [c_char; 64],
    pub reason: [c_char; 192],
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct nf4_variant_info_t {
    pub struct_size: usize,
    pub name: *const c_char,
    pub description: *const c_char,
    pub accuracy: *const c_char,
    pub op: nf4_op_t,
    pub configs: i32,
}

// ---- functions. build.rs says where the library is.

extern "C" {
    pub fn nf4_version() -> i32;
    pub fn nf4_version_string() -> *const c_char;
    pub fn nf4_status_string(status: nf4_status_t) -> *const c_char;
    pub fn nf4_last_error_message() -> *const c_char;

    pub fn nf4_create(handle: *mut nf4_handle_t, device: i32) -> nf4_status_t;
    pub fn nf4_destroy(handle: nf4_handle_t) -> nf4_status_t;
    pub fn nf4_device_info(handle: nf4_handle_t, info: *mut nf4_device_info_t) -> nf4_status_t;

    pub fn nf4_codebook(values: *mut f32) -> nf4_status_t;
    pub fn nf4_dynamic_map(values: *mut f32) -> nf4_status_t;
    pub fn nf4_packed_size(
        codes_bytes: *mut i64,
        absmax_count: *mut i64,
        rows: i64,
        cols: i64,
        blocksize: i32,
    ) -> nf4_status_t;

    pub fn nf4_pack(
        handle: nf4_handle_t,
        codes: *mut u8,
        absmax: *mut f32,
        w: *const c_void,
        ldw: i64,
        dtype: nf4_dtype_t,
        rows: i64,
        cols: i64,
        blocksize: i32,
        options: *const nf4_options_t,
        stream: nf4_stream_t,
    ) -> nf4_status_t;
    pub fn nf4_unpack(
        handle: nf4_handle_t,
        w: *mut c_void,
        ldw: i64,
        dtype: nf4_dtype_t,
        weight: *const nf4_weight_t,
        options: *const nf4_options_t,
        stream: nf4_stream_t,
    ) -> nf4_status_t;
    pub fn nf4_pack_absmax(
        handle: nf4_handle_t,
        absmax_codes: *mut u8,
        absmax2: *mut f32,
        offset: *mut f32,
        absmax: *const f32,
        count: i64,
        map: *const f32,
        blocksize: i32,
        options: *const nf4_options_t,
        stream: nf4_stream_t,
    ) -> nf4_status_t;
    pub fn nf4_unpack_absmax(
        handle: nf4_handle_t,
        absmax: *mut f32,
        weight: *const nf4_weight_t,
        options: *const nf4_options_t,
        stream: nf4_stream_t,
    ) -> nf4_status_t;

    pub fn nf4_gemv(
        handle: nf4_handle_t,
        y: *mut c_void,
        x: *const c_void,
        dtype: nf4_dtype_t,
        weight: *const nf4_weight_t,
        bias: *const c_void,
        options: *const nf4_options_t,
        stream: nf4_stream_t,
    ) -> nf4_status_t;
    pub fn nf4_gemm(
        handle: nf4_handle_t,
        y: *mut c_void,
        ldy: i64,
        x: *const c_void,
        ldx: i64,
        m: i64,
        dtype: nf4_dtype_t,
        weight: *const nf4_weight_t,
        bias: *const c_void,
        options: *const nf4_options_t,
        stream: nf4_stream_t,
    ) -> nf4_status_t;
    pub fn nf4_gemm_workspace(
        handle: nf4_handle_t,
        m: i64,
        dtype: nf4_dtype_t,
        weight: *const nf4_weight_t,
        bytes: *mut usize,
    ) -> nf4_status_t;
    pub fn nf4_gemm_group(
        handle: nf4_handle_t,
        products: *const nf4_product_t,
        count: usize,
        x: *const c_void,
        ldx: i64,
        m: i64,
        dtype: nf4_dtype_t,
        options: *const nf4_options_t,
        stream: nf4_stream_t,
    ) -> nf4_status_t;
    pub fn nf4_gemm_group_workspace(
        handle: nf4_handle_t,
        products: *const nf4_product_t,
        count: usize,
        m: i64,
        dtype: nf4_dtype_t,
        bytes: *mut usize,
    ) -> nf4_status_t;

    pub fn nf4_gemm_transposed(
        handle: nf4_handle_t,
        y: *mut c_void,
        ldy: i64,
        x: *const c_void,
        ldx: i64,
        m: i64,
        dtype: nf4_dtype_t,
        weight: *const nf4_weight_t,
        options: *const nf4_options_t,
        stream: nf4_stream_t,
    ) -> nf4_status_t;
    pub fn nf4_gemm_transposed_workspace(
        handle: nf4_handle_t,
        m: i64,
        dtype: nf4_dtype_t,
        weight: *const nf4_weight_t,
        bytes: *mut usize,
    ) -> nf4_status_t;

    pub fn nf4_gemm_experts(
        handle: nf4_handle_t,
        y: *mut c_void,
        ldy: i64,
        x: *const c_void,
        ldx: i64,
        dtype: nf4_dtype_t,
        weight: *const nf4_weight_t,
        bias: *const c_void,
        routing: *const nf4_routing_t,
        options: *const nf4_options_t,
        stream: nf4_stream_t,
    ) -> nf4_status_t;
    pub fn nf4_gemm_experts_workspace(
        handle: nf4_handle_t,
        dtype: nf4_dtype_t,
        weight: *const nf4_weight_t,
        routing: *const nf4_routing_t,
        bytes: *mut usize,
    ) -> nf4_status_t;
    pub fn nf4_sort_experts(
        handle: nf4_handle_t,
        order: *mut i32,
        ends: *mut i32,
        routing: *const nf4_routing_t,
        options: *const nf4_options_t,
        stream: nf4_stream_t,
    ) -> nf4_status_t;

    pub fn nf4_select(
        handle: nf4_handle_t,
        problem: *const nf4_problem_t,
        options: *const nf4_options_t,
        selection: *mut nf4_selection_t,
    ) -> nf4_status_t;
    pub fn nf4_variant_count(handle: nf4_handle_t, op: nf4_op_t, count: *mut usize) -> nf4_status_t;
    pub fn nf4_variant_info(
        handle: nf4_handle_t,
        op: nf4_op_t,
        index: usize,
        info: *mut nf4_variant_info_t,
    ) -> nf4_status_t;
    pub fn nf4_variant_config(
        handle: nf4_handle_t,
        variant: *const c_char,
        index: usize,
        config: *mut c_char,
        size: usize,
    ) -> nf4_status_t;
    pub fn nf4_variant_supports(
        handle: nf4_handle_t,
        variant: *const c_char,
        problem: *const nf4_problem_t,
        supported: *mut i32,
        reason: *mut c_char,
        reason_size: usize,
    ) -> nf4_status_t;

    pub fn nf4_tuning_load(handle: nf4_handle_t, path: *const c_char) -> nf4_status_t;
    pub fn nf4_tuning_save(handle: nf4_handle_t, path: *const c_char) -> nf4_status_t;
    pub fn nf4_tuning_reset(handle: nf4_handle_t) -> nf4_status_t;
}
