//! libnf4 from Rust: the C API as it is, and [`safe`], a layer over it for the host backend.
//!
//! ```no_run
//! use nf4_sys::safe::{Absmax, Host, Weight};
//!
//! # fn main() -> nf4_sys::safe::Result<()> {
//! # let (rows, cols, codes, absmax, x) = (2, 64, vec![0; 64], vec![1.0; 2], vec![1.0; 64]);
//! let host = Host::new()?;
//! let weight = Weight::new(rows, cols, 64, &codes, Absmax::F32(&absmax))?; // the buffers of a checkpoint
//! let mut y = vec![0.0; rows];
//! host.gemm(&mut y, &x, 1, &weight, None)?;
//! # Ok(())
//! # }
//! ```
//!
//! On a GPU, call the C API with device pointers: [`safe::Handle`] owns the handle, [`safe::check`] makes a `Result` of
//! a status.
//!
//! ```no_run
//! # use std::ptr::{null, null_mut};
//! # use nf4_sys::{safe::{check, Handle}, *};
//! # fn multiply(y: *mut std::os::raw::c_void, x: *const std::os::raw::c_void, weight: nf4_weight_t,
//! #             stream: nf4_stream_t) -> nf4_sys::safe::Result<()> {
//! let handle = Handle::new(0)?; // CUDA device 0
//! check(unsafe { nf4_gemv(handle.as_ptr(), y, x, NF4_BF16, &weight, null(), null(), stream) })?;
//! # Ok(())
//! # }
//! ```

mod ffi;
pub mod safe;

pub use ffi::*;
