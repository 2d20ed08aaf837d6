//! libnf4 from Rust over plain `extern "C"`, without crates: packs a matrix and multiplies a vector by it.
//!
//!     rustc main.rs -L native=<directory of libnf4.so>

use std::ffi::{c_void, CStr};
use std::os::raw::c_char;
use std::ptr::{null, null_mut};

#[repr(C)]
struct Nf4Weight {
    struct_size: usize,
    rows: i64,
    cols: i64,
    codes: *const u8,
    absmax: *const c_void,
    blocksize: i32,
    absmax_dtype: i32,
    absmax_map: *const f32,
    absmax2: *const f32,
    absmax_offset: *const f32,
    absmax_blocksize: i32,
    flags: u32,
}

const F32: i32 = 0;
const HOST_DEVICE: i32 = -1;

#[link(name = "nf4")]
extern "C" {
    fn nf4_last_error_message() -> *const c_char;
    fn nf4_create(handle: *mut *mut c_void, device: i32) -> i32;
    fn nf4_destroy(handle: *mut c_void) -> i32;
    fn nf4_packed_size(codes: *mut i64, absmax: *mut i64, rows: i64, cols: i64, blocksize: i32) -> i32;
    fn nf4_pack(
        handle: *mut c_void, codes: *mut u8, absmax: *mut f32, w: *const c_void, ldw: i64, dtype: i32, rows: i64,
        cols: i64, blocksize: i32, options: *const c_void, stream: *mut c_void,
    ) -> i32;
    fn nf4_gemv(
        handle: *mut c_void, y: *mut c_void, x: *const c_void, dtype: i32, weight: *const Nf4Weight,
        bias: *const c_void, options: *const c_void, stream: *mut c_void,
    ) -> i32;
}

fn check(status: i32) -> Result<(), String> {
    match status {
        0 => Ok(()),
        // The message is valid until this thread's next failing call: copy it at once.
        _ => Err(unsafe { CStr::from_ptr(nf4_last_error_message()) }.to_string_lossy().into_owned()),
    }
}

/// The library's host backend, freed when it goes out of scope.
struct Handle(*mut c_void);

impl Handle {
    fn host() -> Result<Handle, String> {
        let mut handle = null_mut();
        check(unsafe { nf4_create(&mut handle, HOST_DEVICE) })?;
        Ok(Handle(handle))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        unsafe { nf4_destroy(self.0) };
    }
}

/// A matrix in NF4 that owns its buffers.
struct Packed {
    rows: i64,
    cols: i64,
    blocksize: i32,
    codes: Vec<u8>,
    absmax: Vec<f32>,
}

impl Packed {
    fn new(handle: &Handle, w: &[f32], rows: i64, cols: i64, blocksize: i32) -> Result<Packed, String> {
        assert_eq!(w.len() as i64, rows * cols);
        let (mut bytes, mut count) = (0, 0);
        check(unsafe { nf4_packed_size(&mut bytes, &mut count, rows, cols, blocksize) })?;
        let (mut codes, mut absmax) = (vec![0; bytes as usize], vec![0.0; count as usize]);
        check(unsafe {
            nf4_pack(
                handle.0, codes.as_mut_ptr(), absmax.as_mut_ptr(), w.as_ptr().cast(), cols, F32, rows, cols, blocksize,
                null(), null_mut(),
            )
        })?;
        Ok(Packed { rows, cols, blocksize, codes, absmax })
    }

    fn times(&self, handle: &Handle, x: &[f32]) -> Result<Vec<f32>, String> {
        assert_eq!(x.len() as i64, self.cols);
        let weight = Nf4Weight {
            struct_size: std::mem::size_of::<Nf4Weight>(),
            rows: self.rows,
            cols: self.cols,
            codes: self.codes.as_ptr(),
            absmax: self.absmax.as_ptr().cast(),
            blocksize: self.blocksize,
            absmax_dtype: F32,
            absmax_map: null(),
            absmax2: null(),
            absmax_offset: null(),
            absmax_blocksize: 256,
            flags: 0,
        };
        let mut y = vec![0.0f32; self.rows as usize];
        check(unsafe {
            nf4_gemv(handle.0, y.as_mut_ptr().cast(), x.as_ptr().cast(), F32, &weight, null(), null(), null_mut())
        })?;
        Ok(y)
    }
}

fn main() -> Result<(), String> {
    let (rows, cols) = (256, 128);
    // -1, 0 and 1 are values of NF4, so this product must come out exactly.
    let w: Vec<f32> = (0..rows * cols).map(|i| (i % 3 - 1) as f32).collect();
    let x: Vec<f32> = (0..cols).map(|k| (k % 5) as f32).collect();
    let exact: Vec<f32> = w.chunks(cols as usize).map(|row| row.iter().zip(&x).map(|(w, x)| w * x).sum()).collect();

    let handle = Handle::host()?;
    let packed = Packed::new(&handle, &w, rows, cols, 64)?;
    assert_eq!(packed.times(&handle, &x)?, exact);
    println!("y = W x is exact; y[0..4] = {:?}", &exact[..4]);

    let refused = Packed::new(&handle, &w, rows, cols, 63).err();
    println!("a blocksize of 63: {}", refused.expect("an error"));
    Ok(())
}
