//! What is printed for a shell to read: words quoted, this program by a name that works, the greeting of a cloud.

use crate::account::Keys;
use crate::arguments::At;
use crate::cloud::{self, Cloud};
use std::io::Write;
use std::path::Path;

/// A word as a POSIX shell reads it back.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The same for a path.
pub fn quoted_path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

/// How a shell calls this program: `nephos` where that is this one, else its path.
pub fn program() -> String {
    let Ok(own) = std::env::current_exe() else { return "nephos".into() };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let first = std::env::split_paths(&path).map(|dir| dir.join("nephos")).find(|file| file.is_file());
    match first.and_then(|file| file.canonicalize().ok()) {
        Some(found) if found == own => "nephos".into(),
        // The kernel marks a binary that was replaced meanwhile; the new one has its name.
        _ => quoted(own.to_string_lossy().trim_end_matches(" (deleted)")),
    }
}

/// ` --dir DIR`, where a command would not find the cloud without.
pub fn dir_option(cloud: &Cloud) -> String {
    let default = cloud::directory(&At { dir: None });
    match std::env::var_os("NEPHOS_DIR") {
        None if default.is_ok_and(|default| default == cloud.dir) => String::new(),
        _ => format!(" --dir {}", quoted_path(&cloud.dir)),
    }
}

/// How to use a cloud that answers.
pub fn greet(cloud: &Cloud, keys: &Keys) {
    let (nephos, dir) = (program(), dir_option(cloud));
    say!("  endpoint     http://127.0.0.1:{}", cloud.topology.port);
    say!("  region       {}", cloud.topology.region);
    say!("  account      {} ({})", keys.account_id, keys.name);
    say!("  access key   {}", keys.access_key_id);
    say!("  secret       {}\n", keys.secret_access_key);
    say!("Next, in another terminal:\n");
    say!("  eval \"$({nephos} env{dir})\"");
    say!("  aws ec2 run-instances --image-id nephos-linux --instance-type t3.micro --count 1");
    say!("  {nephos} status{dir}\n");
    let _ = std::io::stdout().flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        for word in ["", "/var/lib/nephos", "/tmp/my cloud", "it's; rm -rf $HOME", "a\nb", "~", "*"] {
            let script = format!("printf %s {}", quoted(word));
            let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), word);
        }
        assert_eq!(quoted("/var/lib/nephos"), "/var/lib/nephos");
    }
}
