//! Compiles the program again when the web interface was built anew. It builds nothing itself: no Node.js is needed.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=../../web/dist");
}
