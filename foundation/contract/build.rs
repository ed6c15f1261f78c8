//! Compiles the `.proto` files.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["vm", "host", "cell", "zone", "operator", "backup", "network"]
        .map(|name| format!("proto/nephos/v1/{name}.proto"));
    // The same bytes go to many switches.
    tonic_prost_build::configure()
        .bytes(".nephos.v1.ToSwitch")
        .compile_protos(&files, &[String::from("proto")])?;
    Ok(())
}
