//! What the guest image is made of that is not ours: Debian's cloud kernel, its static busybox and its small ssh server.
//!
//! Called by `image`. All packages are unpacked under target/setup/, never installed: the machine keeps its own
//! kernel and its own busybox. Fetched once; newer ones
//! are taken when target/setup has been removed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::debian::Archive;
use crate::progress::step;
use crate::tree::{Tree, walk};

/// Raise it when what is fetched, or where it is put, changes.
const KEY: &str = "linux-image-cloud-amd64 busybox-static dropbear-bin, layout 2";

/// The ssh server, and the packages with its libraries.
const SSH_SERVER: [&str; 7] =
    ["dropbear-bin", "libc6", "libcrypt1", "zlib1g", "libtomcrypt1", "libtommath1", "libgmp10"];
/// The libraries themselves.
const LIBRARIES: [&str; 6] =
    ["libc.so.6", "libcrypt.so.1", "libz.so.1", "libtomcrypt.so.1", "libtommath.so.1", "libgmp.so.10"];

/// The unpacked packages.
pub struct Ingredients {
    /// The compressed kernel.
    pub kernel: PathBuf,
    /// The folder with the kernel's modules and `modules.builtin`.
    pub modules: PathBuf,
    /// busybox, statically linked.
    pub busybox: PathBuf,
    /// dropbear...
    pub ssh_server: PathBuf,
    /// ...what loads it...
    pub loader: PathBuf,
    /// ...and what it loads.
    pub libraries: Vec<PathBuf>,
    /// `package version` lines, for the image's description.
    pub versions: String,
}

/// Fetches the packages unless they are here.
pub fn ensure(tree: &Tree) -> Result<Ingredients> {
    let folder = tree.setup().join("guest");
    if !tree.is_done("guest", KEY) {
        step(tree, "guest", "fetching the guest's kernel, busybox and ssh server", |log| {
            if folder.exists() {
                fs::remove_dir_all(&folder)?;
            }
            let root = folder.join("root");
            fs::create_dir_all(&root)?;
            let archive = Archive::open(log, folder.join("apt"))?;
            let kernel = archive.dependency("linux-image-cloud-amd64", "linux-image-")?;
            let mut versions = String::new();
            for package in [kernel.as_str(), "busybox-static"].into_iter().chain(SSH_SERVER) {
                let version = archive.unpack(package, &root)?;
                versions.push_str(&format!("{package} {version}\n"));
            }
            fs::write(folder.join("versions"), versions)?;
            // The package lists are by far the largest part, and are fetched anew whenever they are needed.
            fs::remove_dir_all(folder.join("apt"))?;
            Ok(())
        })?;
        tree.done("guest", KEY)?;
    }
    find(&folder)
}

fn find(folder: &Path) -> Result<Ingredients> {
    let root = folder.join("root");
    let only = |parent: &str, prefix: &str| -> Result<PathBuf> {
        let parent = root.join(parent);
        for entry in fs::read_dir(&parent).with_context(|| format!("cannot list {}", parent.display()))? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(prefix) {
                return Ok(entry.path());
            }
        }
        bail!("no {prefix}* in {}; remove {} and try again", parent.display(), folder.display())
    };
    // Debian merged /lib into /usr/lib after release 12.
    let modules = only("lib/modules", "").or_else(|_| only("usr/lib/modules", ""))?;
    let busybox = only("bin", "busybox").or_else(|_| only("usr/bin", "busybox"))?;
    let versions = fs::read_to_string(folder.join("versions"))?;
    let library = |name: &str| {
        let places = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"];
        let found = places.iter().map(|place| root.join(place).join(name)).find(|path| path.is_file());
        found.with_context(|| format!("{} holds no {name}; remove it and try again", folder.display()))
    };
    Ok(Ingredients {
        kernel: only("boot", "vmlinuz-")?,
        modules,
        busybox,
        ssh_server: only("usr/sbin", "dropbear")?,
        loader: library("ld-linux-x86-64.so.2")?,
        libraries: LIBRARIES.into_iter().map(library).collect::<Result<_>>()?,
        versions,
    })
}

/// A kernel module and its content.
pub struct Module {
    /// The name by which others depend on it.
    pub name: String,
    /// The ELF object as insmod takes it.
    pub content: Vec<u8>,
}

/// The modules named and all that they depend on, each after what it needs; without those built into the kernel.
pub fn modules(ingredients: &Ingredients, names: &[&str]) -> Result<Vec<Module>> {
    let builtin = fs::read_to_string(ingredients.modules.join("modules.builtin"))?;
    let builtin: Vec<String> = builtin.lines().filter_map(|line| module_name(Path::new(line))).collect();
    let files = walk(&ingredients.modules)?;
    let mut ordered = Vec::new();
    for name in names {
        add(&mut ordered, name, ingredients, &builtin, &files)?;
    }
    Ok(ordered)
}

fn add(
    ordered: &mut Vec<Module>,
    name: &str,
    ingredients: &Ingredients,
    builtin: &[String],
    files: &[PathBuf],
) -> Result<()> {
    if builtin.iter().any(|module| module == name) || ordered.iter().any(|module| module.name == name) {
        return Ok(());
    }
    let file = files.iter().find(|file| module_name(file).is_some_and(|found| found == name));
    let file = ingredients.modules.join(file.with_context(|| format!("this kernel has no module {name}"))?);
    let content = read_module(&file, &ingredients.busybox)?;
    for needed in depends(&content) {
        add(ordered, &needed, ingredients, builtin, files)?;
    }
    ordered.push(Module { name: name.to_owned(), content });
    Ok(())
}

/// `kernel/fs/ext4/ext4.ko` is `ext4`; dashes and underscores in module names are the same.
fn module_name(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let (name, rest) = file.split_once('.')?;
    (rest == "ko" || rest == "ko.xz").then(|| name.replace('-', "_"))
}

fn read_module(file: &Path, busybox: &Path) -> Result<Vec<u8>> {
    if file.extension().is_some_and(|extension| extension == "xz") {
        let output = std::process::Command::new(busybox).args(["xz", "-dc"]).arg(file).output()?;
        if !output.status.success() {
            bail!("cannot unpack {}: {}", file.display(), String::from_utf8_lossy(&output.stderr));
        }
        return Ok(output.stdout);
    }
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

/// What a module says it needs, in its `.modinfo`: a string `depends=a,b` between two NULs.
fn depends(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(start) = module.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let value = module[start + KEY.len()..].split(|&byte| byte == 0).next().unwrap_or_default();
    let names = String::from_utf8_lossy(value);
    names.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_says_what_it_needs() {
        let module = b"\x7fELF\0license=GPL\0depends=virtio,virtio-ring\0name=x\0";
        assert_eq!(depends(module), ["virtio", "virtio_ring"]);
        assert!(depends(b"\x7fELF\0depends=\0name=x\0").is_empty());
        assert!(depends(b"no module").is_empty());
    }

    #[test]
    fn a_module_is_found_by_its_file_name() {
        assert_eq!(module_name(Path::new("kernel/a/crc32c-intel.ko")), Some("crc32c_intel".to_owned()));
        assert_eq!(module_name(Path::new("kernel/a/ext4.ko.xz")), Some("ext4".to_owned()));
        assert_eq!(module_name(Path::new("modules.builtin")), None);
    }
}
