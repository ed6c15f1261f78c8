//! Writes cpio archives in the format `newc`, which is what the kernel reads as an initial RAM disk.
//!
//! Called by `image`. Owners are always root, whoever builds: that, and needing no `cpio` program, is why this is
//! here. Format: "initramfs buffer format", Documentation/driver-api/early-userspace/buffer-format.rst in Linux.
//!
//! ```text
//! "070701" | 13 numbers of 8 hex digits (inode, mode, ... name's length, check) | name NUL | pad to 4 | data | pad
//! ```

/// An archive under construction.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    inode: u32,
}

const DIRECTORY: u32 = 0o040_000;
const CHARACTER_DEVICE: u32 = 0o020_000;
const FILE: u32 = 0o100_000;

impl Archive {
    /// Adds a folder; what lies in it must follow.
    pub fn directory(&mut self, path: &str, mode: u32) {
        self.entry(path, DIRECTORY | mode, (0, 0), &[]);
    }

    /// Adds a file.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entry(path, FILE | mode, (0, 0), content);
    }

    /// Adds a character device with its major and minor number.
    pub fn character_device(&mut self, path: &str, mode: u32, device: (u32, u32)) {
        self.entry(path, CHARACTER_DEVICE | mode, device, &[]);
    }

    /// The whole archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.inode = 0;
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        let (owner, group, links, modified) = (0, 0, 1, 0);
        let (size, name_size, check) = (content.len() as u32, path.len() as u32 + 1, 0);
        let fields = [
            self.inode, mode, owner, group, links, modified, size, 0, 0, device.0, device.1, name_size, check,
        ];
        self.inode += 1;
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_laid_out_as_the_format_says() {
        let mut archive = Archive::default();
        archive.directory("a", 0o755);
        archive.file("a/b", 0o644, b"hello");
        let expected = [
            "07070100000000000041ed00000000000000000000000100000000000000000000000000000000000000000000000000000002",
            "00000000a\0",
            "07070100000001000081a40000000000000000000000010000000000000005000000000000000000000000000000000000000",
            "400000000a/b\0\0\0hello\0\0\0",
            "070701000000000000000000000000000000000000000100000000000000000000000000000000000000000000000000",
            "00000b00000000TRAILER!!!\0\0\0\0",
        ]
        .concat();
        assert_eq!(String::from_utf8(archive.finish()).unwrap(), expected);
    }
}
