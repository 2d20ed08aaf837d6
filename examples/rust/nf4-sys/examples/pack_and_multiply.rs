//! Packs a matrix and multiplies a vector by it, on the host.
//!
//!     NF4_LIB_DIR=<folder of libnf4.so> cargo run --example pack_and_multiply

use nf4_sys::safe::{Host, Result};

fn main() -> Result<()> {
    let (rows, cols) = (256, 128);
    // -1, 0 and 1 are values of NF4, so this product must come out exactly.
    let w: Vec<f32> = (0..rows * cols).map(|i| (i % 3) as f32 - 1.0).collect();
    let x: Vec<f32> = (0..cols).map(|k| (k % 5) as f32).collect();
    let exact: Vec<f32> = w.chunks(cols).map(|row| row.iter().zip(&x).map(|(w, x)| w * x).sum()).collect();

    let host = Host::new()?;
    let packed = host.pack(&w, rows, cols, 64)?;
    let mut y = vec![f32::NAN; rows];
    host.gemm(&mut y, &x, 1, &packed.weight()?, None)?;
    assert_eq!(y, exact);
    println!("{} bytes in f32, {} in NF4", 4 * w.len(), packed.codes().len() + 4 * packed.absmax().len());
    println!("y = W x is exact; y[0..4] = {:?}", &y[..4]);

    let refused = host.pack(&w, rows, cols, 63).expect_err("a blocksize of 63");
    println!("{}: {}", refused.name(), refused);
    Ok(())
}
