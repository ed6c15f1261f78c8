//! The processes' logs, bounded: whoever writes one has it open for appending, so it is copied aside and emptied in
//! place. What is written between the two is lost, which a log may.

use std::fs::{self, OpenOptions};
use std::path::Path;

/// A log that is larger is put aside as `.old`.
const BYTES_MAX: u64 = 8 << 20;

/// Puts a log aside if it is too large. A failure is said and otherwise left: the log is looked at again.
pub fn bound(path: &Path) {
    if fs::metadata(path).map_or(0, |metadata| metadata.len()) <= BYTES_MAX {
        return;
    }
    // Emptied even where there is no room for the copy: all the more there.
    let copied = fs::copy(path, path.with_extension("log.old")).map(drop);
    let emptied = OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(0));
    if let Err(error) = copied.and(emptied) {
        eprintln!("nephos: cannot put the log {} aside: {error}", path.display());
    }
}

/// The last lines of a log.
pub fn end(path: &Path) -> String {
    const LINES: usize = 5;
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_log_that_is_too_large_is_emptied_under_its_writer() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cell-a.log");
        let mut writer = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        writer.write_all(b"short\n").unwrap();
        bound(&path);
        assert_eq!(end(&path), "short");
        writer.write_all(&vec![b'x'; BYTES_MAX as usize]).unwrap();
        bound(&path);
        writer.write_all(b"after\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"after\n");
        assert_eq!(fs::metadata(directory.path().join("cell-a.log.old")).unwrap().len(), BYTES_MAX + 6);
    }
}
