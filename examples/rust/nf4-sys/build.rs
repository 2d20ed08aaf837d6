//! Finds libnf4.so: in the folder that NF4_LIB_DIR names, else by pkg-config.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=NF4_LIB_DIR");
    println!("cargo:rerun-if-env-changed=PKG_CONFIG_PATH");
    match env::var("NF4_LIB_DIR") {
        Ok(folder) => {
            search(&folder);
            println!("cargo:rustc-link-lib=dylib=nf4");
        }
        Err(_) => by_pkg_config(),
    }
}

fn by_pkg_config() {
    let version = format!("{}.{}", env!("CARGO_PKG_VERSION_MAJOR"), env!("CARGO_PKG_VERSION_MINOR"));
    let hint = "set NF4_LIB_DIR to the folder of libnf4.so, or PKG_CONFIG_PATH to that of nf4.pc";
    let output = Command::new("pkg-config")
        .args(["--libs", &format!("nf4 >= {}", version)])
        .output()
        .unwrap_or_else(|error| panic!("pkg-config cannot be run: {}; {}", error, hint));
    if !output.status.success() {
        panic!("{}\n{}", String::from_utf8_lossy(&output.stderr).trim_end(), hint);
    }
    for flag in String::from_utf8_lossy(&output.stdout).split_whitespace() {
        match (flag.strip_prefix("-L"), flag.strip_prefix("-l")) {
            (Some(folder), _) => search(folder),
            (_, Some(library)) => println!("cargo:rustc-link-lib=dylib={}", library),
            _ => (),
        }
    }
}

/// Links from `folder`. This package's tests and examples find the library there when they run, too; other packages
/// read the folder from DEP_NF4_LIB_DIR in their build scripts.
fn search(folder: &str) {
    println!("cargo:rustc-link-search=native={}", folder);
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", folder);
    println!("cargo:lib_dir={}", folder);
}
