//! Switches the mistakes in. They are in no other build of these sources.

fn main() {
    println!("cargo::rustc-cfg=mistakes");
    println!("cargo::rerun-if-changed=build.rs");
}
