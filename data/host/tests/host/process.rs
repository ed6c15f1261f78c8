//! The agent as a process: `host-under-test CONFIG`.

use std::io::Write;

fn main() {
    let path = std::env::args_os().nth(1).unwrap_or_default();
    let result = std::fs::read_to_string(path)
        .map_err(|e| e.to_string())
        .and_then(|text| toml::from_str::<host::config::HostConfig>(&text).map_err(|e| e.to_string()))
        .and_then(|config| {
            let runtime = tokio::runtime::Runtime::new().map_err(|e| e.to_string())?;
            runtime.block_on(host::serve::serve(config)).map_err(|e| base::error::chain(&e))
        });
    if let Err(error) = result {
        let _ = writeln!(std::io::stderr(), "{error}");
        std::process::exit(1);
    }
}
