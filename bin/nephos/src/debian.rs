//! Builds a stock Debian with cloud-init as a machine image, from Debian's own packages. Called by [`crate::images`].
//!
//! mmdebstrap does the work, as root or in a user namespace, and makes the file system while it is inside, so that
//! owners and capabilities are right without anybody being root. What it makes is handed out at the end:
//!
//! ```text
//!   packages ─ mmdebstrap ─► tree ─ mke2fs -d ─► ext4, no partitions ─ qemu-img ─► disk.qcow2
//!                              └─► vmlinuz, initrd.img, packages: beside it
//! ```
//!
//! Packages are kept in the cloud's `cache/debian-12`, and fetched again only where there are newer ones.
//!
//! Deliberately absent: a boot loader (hosts boot kernel and initial file system directly) and anything of ours: who it
//! is a guest learns as on EC2.

use crate::error::Error;
use crate::shell::quoted;
use std::fs;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The root disk, in MiB: what Debian's own images for EC2 have.
pub const DISK_MIB: u32 = 8 * 1024;
/// What the kernel is told; the host adds the root disk.
pub const COMMAND_LINE: &str = "console=ttyS0 ro panic=-1";
/// Raised when the same packages make another image.
pub const RECIPE: u32 = 1;

const SUITE: &str = "bookworm";
/// Beside what Debian calls required, as in Debian's own cloud images.
const PACKAGES: &str = "linux-image-cloud-amd64,initramfs-tools,zstd,e2fsprogs,systemd-sysv,udev,dbus,libpam-systemd,\
    systemd-resolved,systemd-timesyncd,netplan.io,iproute2,iputils-ping,netbase,procps,kmod,less,vim-tiny,nano,passwd,\
    adduser,sudo,openssh-server,ca-certificates,curl,wget,apt-utils,lsb-release,bash-completion,cloud-init,\
    cloud-guest-utils,isc-dhcp-client,python3";
const PROGRESS_EVERY: Duration = Duration::from_secs(2);
/// Lines of mmdebstrap that are shown when it fails.
const LAST_LINES: usize = 12;

/// What runs inside, with the tree as `$1`: settings, then the disk. The tree is looked at through a mount of its own,
/// because /proc and /sys are mounted in it now.
const MAKE: &str = r#"set -eu
PATH="$PATH:/usr/sbin:/sbin"
printf '/dev/vda / ext4 defaults,errors=remount-ro 0 1\n' > "$1/etc/fstab"
printf 'localhost\n' > "$1/etc/hostname"
printf '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n' > "$1/etc/hosts"
rm -f "$1"/etc/ssh/ssh_host_*
: > "$1/etc/machine-id"
ln -sf ../run/systemd/resolve/stub-resolv.conf "$1/etc/resolv.conf"
work=$(mktemp -d)
trap 'umount "$work/tree" 2> /dev/null || true; rm -rf --one-file-system "$work"' EXIT
mkdir "$work/tree" "$work/out" "$work/kept"
chroot "$1" dpkg-query -W > "$work/out/packages"
cp "$1"/boot/vmlinuz-* "$work/out/vmlinuz"
cp "$1"/boot/initrd.img-* "$work/out/initrd.img"
mv "$1"/var/cache/apt/archives/*.deb "$work/kept"
rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*.bin "$1"/var/log/*.log "$1"/var/log/apt/*
tree=$work/tree
mount --bind "$1" "$tree" 2> /dev/null || tree=$1
echo "nephos: making the file system"
mke2fs -q -t ext4 -L root -m 1 -E lazy_itable_init=0,lazy_journal_init=0,nodiscard -d "$tree" "$work/raw" "$2"
echo "nephos: making the disk"
qemu-img convert -f raw -O qcow2 "$work/raw" "$work/out/disk.qcow2"
mv "$work/kept"/*.deb "$1/var/cache/apt/archives/"
mv "$work/out" "$1/nephos"
"#;

/// Builds `vmlinuz`, `initrd.img` and `disk.qcow2` in the directory `into`, with packages kept in `cache`. Gives the
/// versions of the packages that it is made of.
pub fn build(into: &Path, cache: &Path, mirror: Option<&str>) -> Result<String, Error> {
    for (program, package) in
        [("mmdebstrap", "mmdebstrap"), ("mke2fs", "e2fsprogs"), ("qemu-img", "qemu-utils")]
    {
        program_check(program, package)?;
    }
    if !rustix::process::geteuid().is_root() && !is_here("newuidmap") && !is_here("fakechroot") {
        return Err(missing("newuidmap", "uidmap"));
    }
    let mut command = Command::new("mmdebstrap");
    command.args(["--mode=auto", "--variant=minbase", "--format=null", "--verbose"]);
    command.arg(format!("--include={PACKAGES}"));
    command.args(["--skip=download/empty", "--skip=essential/unlink"]);
    command.arg(r#"--setup-hook=mkdir -p "$1/var/cache/apt/archives""#);
    command.arg(format!("--setup-hook=sync-in {} /var/cache/apt/archives", word(cache)));
    command.arg(format!("--customize-hook=set -- \"$1\" {DISK_MIB}M\n{MAKE}"));
    for file in ["vmlinuz", "initrd.img", "disk.qcow2", "packages"] {
        command.arg(format!("--customize-hook=download /nephos/{file} {}", word(&into.join(file))));
    }
    command.arg(format!("--customize-hook=sync-out /var/cache/apt/archives {}", word(cache)));
    command.args([SUITE, "-"]).args(mirror);
    run(command)?;
    let packages = into.join("packages");
    fs::read_to_string(&packages).map_err(Error::file("read", &packages))
}

/// Of a path in a hook, which splits its words as a shell does.
fn word(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

fn is_here(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.map(|folder| folder.join(program)).any(|file| file.is_file())
}

fn program_check(program: &str, package: &str) -> Result<(), Error> {
    if is_here(program) { Ok(()) } else { Err(missing(program, package)) }
}

fn missing(program: &str, package: &str) -> Error {
    Error::Said(format!(
        "the program {program} is missing; on Debian or Ubuntu, as root: apt-get install {package}"
    ))
}

/// Runs mmdebstrap, and says every few seconds how far it is.
fn run(mut command: Command) -> Result<(), Error> {
    let failed = |source| Error::Process { what: "run mmdebstrap".into(), source };
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.env("LC_ALL", "C");
    let mut child = command.spawn().map_err(failed)?;
    let mut progress = Progress::default();
    let mut last = std::collections::VecDeque::new();
    // By bytes: what a package prints need not be text.
    let mut lines = child.stderr.take().map(BufReader::new);
    let mut line = Vec::new();
    while let Some(reader) = &mut lines {
        line.clear();
        if reader.read_until(b'\n', &mut line).map_err(failed)? == 0 {
            break;
        }
        let text = String::from_utf8_lossy(&line).trim().to_owned();
        progress.hear(&text);
        progress.show(false);
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(text);
    }
    let status = child.wait().map_err(failed)?;
    progress.show(true);
    if status.success() {
        return Ok(());
    }
    let last: Vec<String> = last.into();
    let hint = if rustix::process::geteuid().is_root() {
        ""
    } else {
        "\nWithout root it needs user namespaces and a range of ids for this user in /etc/subuid and /etc/subgid."
    };
    Err(Error::Said(format!("mmdebstrap failed ({status}); its last words:\n{}{hint}", last.join("\n"))))
}

/// How far mmdebstrap is, from what apt and dpkg print. They work in two rounds: what is required, then the rest.
#[derive(Default)]
struct Progress {
    /// Packages of this round, and the bytes to download, as apt says it.
    packages: u32,
    bytes: String,
    downloaded: u32,
    unpacked: u32,
    set_up: u32,
    doing: &'static str,
    said: Option<Instant>,
    text: String,
}

impl Progress {
    fn hear(&mut self, line: &str) {
        let first = |text: &str| text.split(' ').next().and_then(|word| word.parse().ok());
        if let Some(rest) = line.split_once(" upgraded, ").map(|(_, rest)| rest)
            && let Some(packages) = first(rest)
        {
            *self = Progress { packages, said: self.said, doing: "downloading", ..Progress::default() };
        } else if let Some(rest) = line.strip_prefix("Need to get ") {
            self.bytes = rest.trim_end_matches('.').replace(" of archives", "");
        } else if line.starts_with("Get:") && self.packages > 0 {
            self.downloaded += 1;
        } else if line.starts_with("Unpacking ") {
            self.doing = "unpacking";
            self.unpacked += 1;
        } else if line.starts_with("Setting up ") {
            self.doing = "setting up";
            self.set_up += 1;
        } else if line == "nephos: making the file system" {
            self.doing = "making the file system";
        } else if line == "nephos: making the disk" {
            self.doing = "making the disk";
        }
    }

    fn text(&self) -> String {
        let Progress { packages, bytes, .. } = self;
        match self.doing {
            "downloading" => format!("downloading: {} of {packages} packages, {bytes}", self.downloaded),
            "unpacking" => format!("unpacking: {} of {packages} packages", self.unpacked.min(*packages)),
            "setting up" => format!("setting up: {} of {packages} packages", self.set_up.min(*packages)),
            "" => String::from("fetching the lists of packages"),
            doing => doing.to_owned(),
        }
    }

    /// On a terminal one line that changes; else a line every few seconds.
    fn show(&mut self, last: bool) {
        let mut error = std::io::stderr();
        let terminal = error.is_terminal();
        let every = if terminal { PROGRESS_EVERY / 10 } else { PROGRESS_EVERY };
        if self.said.is_some_and(|said| said.elapsed() < every) && !last {
            return;
        }
        let text = self.text();
        self.said = Some(Instant::now());
        let _ = match (terminal, last) {
            (true, true) => writeln!(error, "\r\x1b[K{text}"),
            (true, false) => write!(error, "\r\x1b[K{text}"),
            (false, _) if text == self.text => Ok(()),
            (false, _) => writeln!(error, "{text}"),
        };
        self.text = text;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_follows_what_apt_and_dpkg_say() {
        let mut progress = Progress::default();
        let mut heard = Vec::new();
        for line in [
            "Get:1 http://deb.debian.org/debian bookworm InRelease [151 kB]",
            "0 upgraded, 69 newly installed, 0 to remove and 0 not upgraded.",
            "Need to get 29.7 MB of archives.",
            "Get:1 http://deb.debian.org/debian bookworm/main amd64 libc6 amd64 2.36-9 [2759 kB]",
            "Unpacking libc6:amd64 (2.36-9) ...",
            "Setting up libc6:amd64 (2.36-9) ...",
            "nephos: making the disk",
        ] {
            progress.hear(line);
            heard.push(progress.text());
        }
        assert_eq!(
            heard,
            [
                "fetching the lists of packages",
                "downloading: 0 of 69 packages, ",
                "downloading: 0 of 69 packages, 29.7 MB",
                "downloading: 1 of 69 packages, 29.7 MB",
                "unpacking: 1 of 69 packages",
                "setting up: 1 of 69 packages",
                "making the disk",
            ]
        );
    }
}
