//! Handles, errors and products on the host, in safe Rust.

use std::ffi::CStr;
use std::fmt;
use std::os::raw::{c_char, c_void};
use std::ptr::{null, null_mut, NonNull};

use crate::ffi::*;

// ---- errors

/// A call that was refused or that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    status: nf4_status_t,
    message: String,
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// NF4_ERROR_...
    pub fn status(&self) -> nf4_status_t {
        self.status
    }

    /// The name of the status, "NF4_ERROR_UNSUPPORTED" for example.
    pub fn name(&self) -> &'static str {
        let name = unsafe { CStr::from_ptr(nf4_status_string(self.status)) }; // static storage
        name.to_str().unwrap_or("")
    }

    fn argument(message: String) -> Error {
        Error { status: NF4_ERROR_INVALID_ARGUMENT, message }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// The result of a call of the C API on this thread, of which no other has failed since.
pub fn check(status: nf4_status_t) -> Result<()> {
    if status == NF4_SUCCESS {
        return Ok(());
    }
    // The message is valid until this thread's next failing call.
    let message = unsafe { CStr::from_ptr(nf4_last_error_message()) };
    Err(Error { status, message: message.to_string_lossy().into_owned() })
}

// ---- handles

/// A CUDA device, or the host backend. Threads may share it.
#[derive(Debug)]
pub struct Handle(NonNull<nf4_handle>);

unsafe impl Send for Handle {}
unsafe impl Sync for Handle {}

/// What a handle runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    pub name: String,
    /// 90 for 9.0; 0 on the host.
    pub compute_capability: i32,
    /// Of the host, hardware threads.
    pub multiprocessors: i32,
}

impl Handle {
    /// Of a CUDA device, or of the host backend if `device` is NF4_HOST_DEVICE.
    pub fn new(device: i32) -> Result<Handle> {
        let mut handle = null_mut();
        check(unsafe { nf4_create(&mut handle, device) })?;
        Ok(Handle(NonNull::new(handle).expect("a handle")))
    }

    /// For calls of the C API, as long as the Handle lives.
    pub fn as_ptr(&self) -> nf4_handle_t {
        self.0.as_ptr()
    }

    pub fn device_info(&self) -> Result<DeviceInfo> {
        let mut info = nf4_device_info_t {
            struct_size: std::mem::size_of::<nf4_device_info_t>(),
            device: 0,
            compute_capability: 0,
            multiprocessors: 0,
            reserved: 0,
            name: [0 as c_char; 128],
        };
        check(unsafe { nf4_device_info(self.as_ptr(), &mut info) })?;
        let name = unsafe { CStr::from_ptr(info.name.as_ptr()) };
        Ok(DeviceInfo {
            name: name.to_string_lossy().into_owned(),
            compute_capability: info.compute_capability,
            multiprocessors: info.multiprocessors,
        })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        unsafe { nf4_destroy(self.as_ptr()) };
    }
}

// ---- elements

/// The bits of an IEEE binary16.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct F16(pub u16);

/// The bits of a bfloat16, the upper half of an f32.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bf16(pub u16);

/// A type of W, x, y and bias.
///
/// # Safety
/// The type has the memory layout of `DTYPE`, and any bits are a value of it.
pub unsafe trait Element: Copy {
    const DTYPE: nf4_dtype_t;
}

unsafe impl Element for f32 {
    const DTYPE: nf4_dtype_t = NF4_F32;
}

unsafe impl Element for F16 {
    const DTYPE: nf4_dtype_t = NF4_F16;
}

unsafe impl Element for Bf16 {
    const DTYPE: nf4_dtype_t = NF4_BF16;
}

// ---- weights

/// The scales of a weight, one for each block.
#[derive(Clone, Copy, Debug)]
pub enum Absmax<'a> {
    F32(&'a [f32]),
    F16(&'a [F16]),
    Bf16(&'a [Bf16]),
    Nested(Nested<'a>),
}

/// Scales in 8 bits (double quantization), as nf4_weight_t has them.
#[derive(Clone, Copy, Debug)]
pub struct Nested<'a> {
    pub codes: &'a [u8],
    pub map: &'a [f32; 256],
    pub absmax2: &'a [f32],
    pub offset: &'a f32,
    /// How many codes share an absmax2: 256 in bitsandbytes' checkpoints.
    pub blocksize: usize,
}

/// A view of a matrix [rows, cols] in NF4, as a bitsandbytes checkpoint holds it.
#[derive(Clone, Copy, Debug)]
pub struct Weight<'a> {
    rows: usize,
    cols: usize,
    raw: nf4_weight_t,
    buffers: std::marker::PhantomData<&'a [u8]>,
}

unsafe impl Send for Weight<'_> {} // what it points to is borrowed, and read alone
unsafe impl Sync for Weight<'_> {}

impl<'a> Weight<'a> {
    pub fn new(rows: usize, cols: usize, blocksize: usize, codes: &'a [u8], absmax: Absmax<'a>) -> Result<Weight<'a>> {
        let (codes_bytes, blocks) = packed_size(rows, cols, blocksize)?;
        at_least("codes", codes.len(), codes_bytes)?;
        let mut raw = nf4_weight_t {
            rows: integer("rows", rows)?,
            cols: integer("cols", cols)?,
            codes: codes.as_ptr(),
            blocksize: integer("blocksize", blocksize)?,
            ..NF4_WEIGHT_INIT
        };
        let (scales, dtype, count) = match absmax {
            Absmax::F32(scales) => (scales.as_ptr().cast::<c_void>(), NF4_F32, scales.len()),
            Absmax::F16(scales) => (scales.as_ptr().cast(), NF4_F16, scales.len()),
            Absmax::Bf16(scales) => (scales.as_ptr().cast(), NF4_BF16, scales.len()),
            Absmax::Nested(nested) => {
                raw.absmax_blocksize = integer("absmax_blocksize", nested.blocksize)?;
                // A blocksize that is refused later must not divide by zero here.
                let size = nested.blocksize.max(1);
                at_least("absmax2", nested.absmax2.len(), blocks / size + usize::from(blocks % size != 0))?;
                raw.absmax_map = nested.map.as_ptr();
                raw.absmax2 = nested.absmax2.as_ptr();
                raw.absmax_offset = nested.offset;
                (nested.codes.as_ptr().cast(), NF4_U8, nested.codes.len())
            }
        };
        at_least("absmax", count, blocks)?;
        raw.absmax = scales;
        raw.absmax_dtype = dtype;
        Ok(Weight { rows, cols, raw, buffers: std::marker::PhantomData })
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn cols(&self) -> usize {
        self.cols
    }

    /// For calls of the C API, as long as the buffers live.
    pub fn as_raw(&self) -> &nf4_weight_t {
        &self.raw
    }
}

/// A matrix in NF4 that owns its buffers: what [`Host::pack`] makes.
#[derive(Clone, Debug, PartialEq)]
pub struct Packed {
    rows: usize,
    cols: usize,
    blocksize: usize,
    codes: Vec<u8>,
    absmax: Vec<f32>,
}

impl Packed {
    pub fn codes(&self) -> &[u8] {
        &self.codes
    }

    pub fn absmax(&self) -> &[f32] {
        &self.absmax
    }

    pub fn weight(&self) -> Result<Weight<'_>> {
        Weight::new(self.rows, self.cols, self.blocksize, &self.codes, Absmax::F32(&self.absmax))
    }
}

/// How much memory a packed [rows, cols] takes: bytes of codes, and number of scales.
pub fn packed_size(rows: usize, cols: usize, blocksize: usize) -> Result<(usize, usize)> {
    let (mut codes, mut absmax) = (0, 0);
    let (rows, cols, blocksize) = (integer("rows", rows)?, integer("cols", cols)?, integer("blocksize", blocksize)?);
    check(unsafe { nf4_packed_size(&mut codes, &mut absmax, rows, cols, blocksize) })?;
    Ok((codes as usize, absmax as usize)) // counts, and smaller than rows * cols
}

// ---- operations

/// The multi-threaded host backend. Threads may share it.
#[derive(Debug)]
pub struct Host(Handle);

impl Host {
    pub fn new() -> Result<Host> {
        Handle::new(NF4_HOST_DEVICE).map(Host)
    }

    pub fn handle(&self) -> &Handle {
        &self.0
    }

    /// Packs w [rows, cols].
    pub fn pack<T: Element>(&self, w: &[T], rows: usize, cols: usize, blocksize: usize) -> Result<Packed> {
        exactly("w", w.len(), "rows * cols", rows, cols)?;
        let (codes_bytes, blocks) = packed_size(rows, cols, blocksize)?;
        let (mut codes, mut absmax) = (vec![0; codes_bytes], vec![0.0; blocks]);
        let (n, k, size) = (integer("rows", rows)?, integer("cols", cols)?, integer("blocksize", blocksize)?);
        let (codes_out, absmax_out) = (codes.as_mut_ptr(), absmax.as_mut_ptr());
        check(unsafe {
            let w = w.as_ptr().cast();
            nf4_pack(self.0.as_ptr(), codes_out, absmax_out, w, k, T::DTYPE, n, k, size, null(), null_mut())
        })?;
        Ok(Packed { rows, cols, blocksize, codes, absmax })
    }

    /// Unpacks `weight` into w [rows, cols].
    pub fn unpack<T: Element>(&self, w: &mut [T], weight: &Weight) -> Result<()> {
        exactly("w", w.len(), "rows * cols", weight.rows, weight.cols)?;
        let out = w.as_mut_ptr().cast();
        check(unsafe { nf4_unpack(self.0.as_ptr(), out, weight.raw.cols, T::DTYPE, &weight.raw, null(), null_mut()) })
    }

    /// y [m, rows] = x [m, cols] W^T + bias [rows].
    pub fn gemm<T: Element>(&self, y: &mut [T], x: &[T], m: usize, weight: &Weight, bias: Option<&[T]>) -> Result<()> {
        exactly("y", y.len(), "m * rows", m, weight.rows)?;
        exactly("x", x.len(), "m * cols", m, weight.cols)?;
        if let Some(bias) = bias {
            exactly("bias", bias.len(), "1 * rows", 1, weight.rows)?;
        }
        let (out, ldy, ldx, rows) = (y.as_mut_ptr().cast(), weight.raw.rows, weight.raw.cols, integer("m", m)?);
        let bias = bias.map_or(null(), |bias| bias.as_ptr().cast());
        check(unsafe {
            let x = x.as_ptr().cast();
            nf4_gemm(self.0.as_ptr(), out, ldy, x, ldx, rows, T::DTYPE, &weight.raw, bias, null(), null_mut())
        })
    }
}

// ---- arguments

/// `value` as the C API takes it.
fn integer<T: TryFrom<usize>>(what: &str, value: usize) -> Result<T> {
    T::try_from(value).map_err(|_| Error::argument(format!("{} is {}; expected what C can hold", what, value)))
}

fn at_least(what: &str, have: usize, need: usize) -> Result<()> {
    if have >= need {
        return Ok(());
    }
    Err(Error::argument(format!("{} has {} elements; expected {} or more", what, have, need)))
}

fn exactly(what: &str, have: usize, product: &str, a: usize, b: usize) -> Result<()> {
    if a.checked_mul(b) == Some(have) {
        return Ok(());
    }
    Err(Error::argument(format!("{} has {} elements; expected {}, which is {} * {}", what, have, product, a, b)))
}
