//! Makes the default guest image: a kernel, an initial RAM disk and a root disk, from `images/default/`.
//!
//! Called by `setup`; read by the host agent (files) and the region (its
//! `image.toml`). Needs no root: the archive is written here with root as owner, and debugfs gives root the files
//! of the disk. Deliberately absent: a package manager in the image; it is for being up in two seconds.
//!
//! ```text
//! target/images/ami-0deb1aVVVVVVVVVVV/     the id follows from what it is made of
//!   image.toml      what it is, and how to boot it
//!   vmlinuz         Debian's cloud kernel
//!   initrd.img      busybox, every kernel module a guest needs, images/default/initrd/init
//!   disk.qcow2      ext4 without a partition table: busybox, an ssh server and images/default/root
//! ```
//!
//! An image is never changed: instances' disks are overlays on it. Other ingredients make another image beside it,
//! which takes over the name `nephos-linux`; the older one keeps its id.
//!
//! Kernel and modules are never on the disk, so an instance's disk boots with whatever kernel its host has.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cpio;
use crate::debian::which;
use crate::ingredients::{self, Ingredients};
use crate::progress::{Log, step};
use crate::tree::{Tree, fingerprint, walk};

/// The name of the newest image: what people and tests launch by.
const NAME: &str = "nephos-linux";

/// Raise it when this file makes another image of the same sources.
const RECIPE: &str = "recipe 2";

/// What a guest needs of its platform, before what these depend on: its disk, fw_cfg, the power button and its key.
const MODULES: [&str; 6] = ["virtio_pci", "virtio_blk", "ext4", "qemu_fw_cfg", "button", "evdev"];

/// What it needs for network cards, if it has any.
const MODULES_NETWORK: [&str; 1] = ["virtio_net"];

/// How the kernel is booted. The console is the serial line; the kernel speaks there of errors only. A panic is
/// printed and resets at once, so that the host sees it. The rest is for guests without KVM, where each saves a twentieth
/// to a tenth of the time to user space and none costs a guest with KVM anything: emulated timers need no check,
/// Debian's kernel has tested its ciphers before, and a guest with one CPU keeps its lock prefixes rather than
/// patch them out of the kernel's code.
const COMMAND_LINE: &str =
    "console=ttyS0 quiet panic=-1 no_timer_check tsc=reliable cryptomgr.notests noreplace-smp";

/// The root disk's size: what a guest can write. The file is sparse.
const DISK_MIB: u32 = 128;

/// Folders that the root disk has besides those with files in them, with their modes.
const FOLDERS: [(&str, u32); 17] = [
    ("bin", 0o755),
    ("sbin", 0o755),
    ("usr/bin", 0o755),
    ("usr/sbin", 0o755),
    ("etc/dropbear", 0o755),
    ("usr/local/bin", 0o755),
    ("dev", 0o755),
    ("proc", 0o555),
    ("sys", 0o555),
    ("run", 0o755),
    ("mnt", 0o755),
    ("home", 0o755),
    ("root", 0o700),
    ("tmp", 0o1777),
    ("var/lib", 0o755),
    ("var/log", 0o755),
    ("var/tmp", 0o1777),
];

/// Makes the image unless it is there, made of the same things.
pub fn ensure(tree: &Tree) -> Result<()> {
    let ingredients = ingredients::ensure(tree)?;
    let sources = tree.root.join("images/default");
    let key = key(&sources, &ingredients)?;
    let folder = tree.images().join(id(&key));
    if tree.is_done("image", &key) && folder.join("image.toml").is_file() {
        return Ok(());
    }
    step(tree, "image", "making the guest image", |log| {
        let work = tree.setup().join("image");
        if work.exists() {
            fs::remove_dir_all(&work)?;
        }
        let made = work.join("made");
        fs::create_dir_all(&made)?;
        fs::copy(&ingredients.kernel, made.join("vmlinuz"))?;
        fs::set_permissions(made.join("vmlinuz"), fs::Permissions::from_mode(0o644))?;
        fs::write(made.join("initrd.img"), initrd(&sources.join("initrd"), &ingredients)?)?;
        disk(log, &sources.join("root"), &ingredients, &work)?;
        fs::write(made.join("image.toml"), description(&ingredients, &key))?;
        fs::create_dir_all(tree.images())?;
        retire(&tree.images(), &folder)?;
        // The same id is the same content; what is there may be in use.
        if folder.exists() {
            fs::rename(made.join("image.toml"), folder.join("image.toml"))?;
        } else {
            fs::rename(&made, &folder)
                .with_context(|| format!("cannot put the image at {}", folder.display()))?;
        }
        fs::remove_dir_all(&work)?;
        Ok(())
    })?;
    tree.done("image", &key)
}

/// The image's id: `deb1a` for what it is made of, then which of that.
fn id(key: &str) -> String {
    let version: String = key.chars().chain(std::iter::repeat('0')).take(11).collect();
    format!("ami-0deb1a{version}")
}

/// Takes the name from the images that had it before.
fn retire(images: &Path, newest: &Path) -> Result<()> {
    for entry in fs::read_dir(images)? {
        let path = entry?.path();
        let about = path.join("image.toml");
        if path == newest || !about.is_file() {
            continue;
        }
        let text = fs::read_to_string(&about)?;
        let suffix = path.file_name().map(|id| id.to_string_lossy().into_owned()).unwrap_or_default();
        let retired = text.replace(&format!("name = \"{NAME}\"\n"), &format!("name = \"{NAME}-{suffix}\"\n"));
        if retired != text {
            let fresh = path.join("image.toml.new");
            fs::write(&fresh, retired)?;
            fs::rename(&fresh, &about)?;
        }
    }
    Ok(())
}

/// All that the image depends on.
fn key(sources: &Path, ingredients: &Ingredients) -> Result<String> {
    let mut parts = vec![RECIPE.as_bytes().to_vec(), ingredients.versions.clone().into_bytes()];
    parts.push(description(ingredients, "").into_bytes());
    for relative in walk(sources)? {
        let path = sources.join(&relative);
        parts.push(relative.to_string_lossy().into_owned().into_bytes());
        if path.is_file() {
            parts.push(vec![u8::from(is_executable(&path)?)]);
            parts.push(fs::read(&path)?);
        }
    }
    Ok(fingerprint(parts.iter().map(Vec::as_slice)))
}

fn description(ingredients: &Ingredients, key: &str) -> String {
    let of = ingredients.versions.trim().replace('\n', ", ");
    let id = id(key);
    format!(
        "# Made by `cargo xtask image` of {of}.\n\
         id = \"{id}\"\n\
         name = \"{NAME}\"\n\
         description = \"Nephos Linux: a kernel, busybox and a small init\"\n\
         architecture = \"x86_64\"\n\
         root_device = \"/dev/vda\"\n\
         disk_mib = {DISK_MIB}\n\
         kernel = \"vmlinuz\"\n\
         initrd = \"initrd.img\"\n\
         disk = \"disk.qcow2\"\n\
         cmdline = \"{COMMAND_LINE}\"\n\
         created = \"2026-01-01T00:00:00.000Z\"\n\
         fingerprint = \"{key}\"\n"
    )
}

/// The initial RAM disk, not compressed: unpacking costs a guest more time than reading it does.
fn initrd(sources: &Path, ingredients: &Ingredients) -> Result<Vec<u8>> {
    let mut archive = cpio::Archive::default();
    for folder in ["bin", "dev", "modules", "proc", "root", "sys"] {
        archive.directory(folder, 0o755);
    }
    // The kernel opens it for init's standard streams before anything is mounted.
    archive.character_device("dev/console", 0o600, (5, 1));
    archive.file("bin/busybox", 0o755, &fs::read(&ingredients.busybox)?);
    let first = ingredients::modules(ingredients, &MODULES)?;
    let all: Vec<&str> = MODULES.into_iter().chain(MODULES_NETWORK).collect();
    let mut network = ingredients::modules(ingredients, &all)?;
    network.retain(|module| first.iter().all(|other| other.name != module.name));
    for (list, modules) in [("order", first), ("order-network", network)] {
        let mut order = String::new();
        for module in modules {
            let file = format!("{}.ko", module.name);
            archive.file(&format!("modules/{file}"), 0o644, &module.content);
            order.push_str(&file);
            order.push('\n');
        }
        archive.file(&format!("modules/{list}"), 0o644, order.as_bytes());
    }
    archive.file("init", 0o755, &fs::read(sources.join("init"))?);
    Ok(archive.finish())
}

/// The root disk, at `work/made/disk.qcow2`.
fn disk(log: &Log, sources: &Path, ingredients: &Ingredients, work: &Path) -> Result<()> {
    let staged = work.join("root");
    stage(log, sources, ingredients, &staged)?;
    let raw = work.join("disk.raw");
    let size = format!("{DISK_MIB}M");
    let mut mke2fs = Command::new(program("mke2fs")?);
    mke2fs.args(["-q", "-t", "ext4", "-L", "nephos-root", "-b", "4096", "-m", "0", "-J", "size=4", "-d"]);
    // Tables are written now: a guest would otherwise write them in the background of its first minutes.
    mke2fs.arg(&staged).args(["-E", "root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0,nodiscard"]);
    log.run(mke2fs.arg(&raw).arg(size))?;

    let commands = work.join("owners");
    let mut script = File::create(&commands)?;
    for path in walk(&staged)? {
        let path = path.to_str().context("a file name in the image is not UTF-8")?;
        writeln!(script, "set_inode_field \"/{path}\" uid 0\nset_inode_field \"/{path}\" gid 0")?;
    }
    log.run(Command::new(program("debugfs")?).arg("-w").arg("-f").arg(&commands).arg(&raw))?;
    log.run(Command::new(program("e2fsck")?).args(["-f", "-n"]).arg(&raw))?;
    let convert = ["convert", "-f", "raw", "-O", "qcow2"];
    log.run(Command::new(program("qemu-img")?).args(convert).arg(&raw).arg(work.join("made/disk.qcow2")))
}

/// Puts the root disk's files together: ours, busybox and a link for each of its applets.
fn stage(log: &Log, sources: &Path, ingredients: &Ingredients, staged: &Path) -> Result<()> {
    let folder = |path: &Path, mode: u32| -> Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        Ok(())
    };
    folder(staged, 0o755)?;
    for (path, mode) in FOLDERS {
        folder(&staged.join(path), mode)?;
    }
    for relative in walk(sources)? {
        let (from, to) = (sources.join(&relative), staged.join(&relative));
        if from.is_dir() {
            if !to.is_dir() {
                folder(&to, 0o755)?;
            }
            continue;
        }
        let mode = if is_executable(&from)? { 0o755 } else { 0o644 };
        fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        fs::set_permissions(&to, fs::Permissions::from_mode(mode))?;
    }
    let busybox = staged.join("bin/busybox");
    fs::copy(&ingredients.busybox, &busybox)?;
    fs::set_permissions(&busybox, fs::Permissions::from_mode(0o755))?;
    let applets = log.output(Command::new(&busybox).arg("--list-full"))?;
    ensure!(applets.lines().any(|applet| applet == "sbin/acpid"), "this busybox has no acpid");
    for applet in applets.lines().filter(|applet| applet.contains('/')) {
        let link = staged.join(applet);
        if link.symlink_metadata().is_err() && link.parent().is_some_and(Path::is_dir) {
            symlink("/bin/busybox", link)?;
        }
    }
    symlink("/run/nephos/resolv.conf", staged.join("etc/resolv.conf"))?;
    ssh_server(log, ingredients, staged)
}

/// The one program that is not static, with the libraries that it needs.
fn ssh_server(log: &Log, ingredients: &Ingredients, staged: &Path) -> Result<()> {
    const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
    const LOADER: &str = "lib64/ld-linux-x86-64.so.2";
    let put = |from: &Path, to: &str| -> Result<()> {
        let to = staged.join(to);
        fs::DirBuilder::new().recursive(true).mode(0o755).create(to.parent().context("it is a file")?)?;
        fs::copy(from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
        Ok(())
    };
    put(&ingredients.loader, LOADER)?;
    put(&ingredients.ssh_server, "usr/sbin/dropbear")?;
    for library in &ingredients.libraries {
        let name = library.file_name().context("a library has a name")?.to_string_lossy();
        put(library, &format!("{LIBRARIES}/{name}"))?;
    }
    // The loader itself says what it would not find.
    let mut list = Command::new(staged.join(LOADER));
    list.args(["--inhibit-cache", "--library-path"]).arg(staged.join(LIBRARIES));
    let found = log.output(list.arg("--list").arg(staged.join("usr/sbin/dropbear")))?;
    for line in found.lines().filter(|line| line.contains("=>")) {
        let inside = staged.to_string_lossy();
        ensure!(line.contains(&*inside), "the ssh server lacks a library in the image:{line}");
    }
    Ok(())
}

fn is_executable(path: &Path) -> Result<bool> {
    Ok(path.metadata()?.permissions().mode() & 0o111 != 0)
}

fn program(name: &str) -> Result<PathBuf> {
    which(name).with_context(|| format!("the program {name} is missing; `cargo xtask setup` installs it"))
}
