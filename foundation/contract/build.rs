//! Compiles the `.proto` files.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["vm", "host", "cell", "zone", "operator", "backup", "network"]
        .map(|name| format!("proto/nephos/v1/{name}.proto"));
    tonic_prost_build::configure().compile_protos(&files, &[String::from("proto")])?;
    Ok(())
}
