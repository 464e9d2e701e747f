//! Generates the protobuf types as the server's own build script does.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=../../proto/protocol.proto");
    let definitions = protox::compile(["../../proto/protocol.proto"], ["../../proto"])?;
    prost_build::Config::new()
        .bytes(["."])
        .compile_fds(definitions)?;
    Ok(())
}
