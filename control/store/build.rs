//! Compiles the `.proto` files.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tonic_prost_build::configure()
        // What one commit changed goes to many watchers: keys and values are shared, not copied for each.
        .bytes(".mvccpb.KeyValue")
        .compile_protos(&["proto/etcdserverpb/rpc.proto"], &["proto"])?;
    Ok(())
}
