//! The safe layer on the host backend.

use nf4_sys::safe::{check, packed_size, Absmax, Bf16, Element, Handle, Host, Nested, Weight, F16};
use nf4_sys::*;

const ROWS: usize = 6;
const COLS: usize = 64;
const M: usize = 3;

/// Values that NF4 and every type hold: -1, 0 and 1, of which each block has one that is not 0.
fn ternary(i: usize) -> i32 {
    (i * 7 % 3) as i32 - 1
}

fn w(i: usize) -> i32 {
    ternary(i)
}
fn x(i: usize) -> i32 {
    (i % 4) as i32
}
fn bias(i: usize) -> i32 {
    i as i32 - 2
}

/// Of integers up to 2048, exactly.
trait Number: Element + PartialEq + std::fmt::Debug {
    fn of(value: i32) -> Self;
}
impl Number for f32 {
    fn of(value: i32) -> f32 {
        value as f32
    }
}
impl Number for Bf16 {
    fn of(value: i32) -> Bf16 {
        Bf16(((value as f32).to_bits() >> 16) as u16)
    }
}
impl Number for F16 {
    fn of(value: i32) -> F16 {
        let bits = (value as f32).to_bits();
        let exponent = (bits >> 23 & 0xff) as i32 - 127 + 15;
        let magnitude = if value == 0 { 0 } else { (exponent as u32) << 10 | bits >> 13 & 0x3ff };
        F16((bits >> 16 & 0x8000 | magnitude) as u16)
    }
}

fn numbers<T: Number>(count: usize, of: fn(usize) -> i32) -> Vec<T> {
    (0..count).map(|i| T::of(of(i))).collect()
}

fn exact<T: Number>() -> Vec<T> {
    let dot = |m, n| (0..COLS).map(|k| x(m * COLS + k) * w(n * COLS + k)).sum::<i32>();
    (0..M * ROWS).map(|i| T::of(dot(i / ROWS, i % ROWS) + bias(i % ROWS))).collect()
}

fn products_are_exact<T: Number>() {
    let host = Host::new().unwrap();
    let packed = host.pack(&numbers::<T>(ROWS * COLS, w), ROWS, COLS, 64).unwrap();
    let weight = packed.weight().unwrap();
    let mut unpacked = vec![T::of(99); ROWS * COLS];
    host.unpack(&mut unpacked, &weight).unwrap();
    assert_eq!(unpacked, numbers::<T>(ROWS * COLS, w));
    let mut y = vec![T::of(99); M * ROWS];
    host.gemm(&mut y, &numbers::<T>(M * COLS, x), M, &weight, Some(&numbers::<T>(ROWS, bias))).unwrap();
    assert_eq!(y, exact::<T>());
}

#[test]
fn products_in_every_type() {
    products_are_exact::<f32>();
    products_are_exact::<F16>();
    products_are_exact::<Bf16>();
}

#[test]
fn scales_in_every_type() {
    let host = Host::new().unwrap();
    let packed = host.pack(&numbers::<f32>(ROWS * COLS, w), ROWS, COLS, 64).unwrap();
    let ones = (numbers::<F16>(ROWS, |_| 1), numbers::<Bf16>(ROWS, |_| 1));
    let mut map = [0.0; 256];
    check(unsafe { nf4_dynamic_map(map.as_mut_ptr()) }).unwrap();
    let zero = map.iter().position(|value| *value == 0.0).unwrap() as u8;
    // The mean of the scales is 1, so each differs by 0 from it.
    let nested = Nested { codes: &[zero; ROWS], map: &map, absmax2: &[0.5], offset: &1.0, blocksize: 256 };
    for absmax in [Absmax::F16(&ones.0), Absmax::Bf16(&ones.1), Absmax::Nested(nested)] {
        let weight = Weight::new(ROWS, COLS, 64, packed.codes(), absmax).unwrap();
        let mut y = vec![f32::NAN; M * ROWS];
        host.gemm(&mut y, &numbers(M * COLS, x), M, &weight, Some(&numbers(ROWS, bias))).unwrap();
        assert_eq!(y, exact::<f32>(), "{:?}", absmax);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let host = Host::new().unwrap();
    let values = [1.0f32; 64];
    let packed = host.pack(&values, 2, 32, 32).unwrap();
    let weight = packed.weight().unwrap();
    let (codes, absmax) = (packed.codes(), packed.absmax());
    let map = [0.0; 256];
    let nested = |absmax2, blocksize| Absmax::Nested(Nested { codes, map: &map, absmax2, offset: &0.0, blocksize });
    let mut two = [7.0f32; 2];
    let refusals = [
        (host.pack(&values, 2, 31, 32).err(), "w has 64 elements; expected rows * cols, which is 2 * 31"),
        (host.pack(&values, (1 << 63) + 32, 2, 32).err(), "w has 64 elements; expected rows * cols"),
        (host.pack(&values, 2, 32, 33).err(), "blocksize is 33"),
        (packed_size(1, 1, 1 << 40).err(), "blocksize is 1099511627776; expected what C can hold"),
        (Weight::new(2, 32, 32, &codes[1..], Absmax::F32(absmax)).err(), "codes has 31 elements; expected 32 or more"),
        (Weight::new(2, 32, 32, codes, Absmax::F32(&absmax[1..])).err(), "absmax has 1 elements; expected 2 or more"),
        (Weight::new(2, 32, 32, codes, nested(&[], 256)).err(), "absmax2 has 0 elements; expected 1 or more"),
        (Weight::new(2, 32, 32, codes, nested(&[], 0)).err(), "absmax2 has 0 elements; expected 2 or more"),
        (host.unpack(&mut two, &weight).err(), "w has 2 elements"),
        (host.gemm(&mut two, &values[1..33], 1, &weight, Some(&[1.0])).err(), "bias has 1 elements"),
        (host.gemm(&mut two, &values[1..], 1, &weight, None).err(), "x has 63 elements; expected m * cols"),
        (host.gemm(&mut two, &values, 2, &weight, None).err(), "y has 2 elements; expected m * rows, which is 2 * 2"),
    ];
    for (error, expected) in refusals {
        let error = error.expect(expected);
        assert!(error.to_string().starts_with(expected), "{:?} is not {:?}", error.to_string(), expected);
    }
    assert_eq!(two, [7.0; 2]);
    let all = Weight::new(2, 32, 32, codes, nested(&[1.0, 1.0], 0)).unwrap();
    let error = host.gemm(&mut two, &values[..32], 1, &all, None).unwrap_err();
    assert_eq!(error.name(), "NF4_ERROR_UNSUPPORTED", "{}", error);
    assert_eq!(two, [7.0; 2]);
}

#[test]
fn handles() {
    let error = Handle::new(-2).unwrap_err();
    assert_eq!((error.status(), error.name()), (NF4_ERROR_INVALID_ARGUMENT, "NF4_ERROR_INVALID_ARGUMENT"));
    assert!(error.to_string().contains("-2"), "{}", error);
    let host = Host::new().unwrap();
    let info = host.handle().device_info().unwrap();
    assert_eq!((&*info.name, info.compute_capability), ("host", 0));
    assert!(info.multiprocessors > 0);
    let packed = host.pack(&numbers::<f32>(ROWS * COLS, w), ROWS, COLS, 64).unwrap();
    let weight = packed.weight().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut y = vec![f32::NAN; M * ROWS];
                host.gemm(&mut y, &numbers(M * COLS, x), M, &weight, Some(&numbers(ROWS, bias))).unwrap();
                assert_eq!(y, exact::<f32>());
            });
        }
    });
}
