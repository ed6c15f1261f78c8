//! Compiles the `.proto` files.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["vm", "host", "cell", "zone", "operator", "backup", "network"]
        .map(|name| format!("proto/nephos/v1/{name}.proto"));
    tonic_prost_build::configure()
        // The same bytes go to many switches.
        .bytes(".nephos.v1.ToSwitch")
        // Rare, and ten times the size of the others.
        .boxed(".nephos.v1.ToCell.message.vpc")
        .compile_protos(&files, &[String::from("proto")])?;
    Ok(())
}
