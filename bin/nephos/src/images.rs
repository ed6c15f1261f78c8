//! The cloud's own copies of the machine images. The disks of its VMs are overlays on them, so a copy never changes
//! once it is there, whatever becomes of the directory that it was made from. And `nephos image`: the list of them, and
//! images that are built here. The region reads its list when it starts, hosts read an image when they boot a VM.

use crate::arguments::{Distribution, ImageCommand};
use crate::cloud::{Cloud, directory_make};
use crate::debian;
use crate::error::Error;
use serde::{Deserialize, Serialize};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What an image is known by, and the one file of it that may change: it holds the name, which a retired image
/// loses.
const DESCRIPTION: &str = "image.toml";

/// Copies the images that the cloud has not got yet.
pub fn ensure(cloud: &Cloud) -> Result<(), Error> {
    let (from, to) = (&cloud.topology.images, cloud.images());
    let offered = list(from);
    if offered.is_empty() && list(&to).is_empty() {
        return Err(Error::Said(format!(
            "there is no machine image in {}; `cargo xtask image` makes one under target/images, and --images \
             names another directory",
            from.display()
        )));
    }
    directory_make(&to, 0o755)?;
    for image in offered {
        let Some(name) = image.file_name() else { continue };
        let copy = to.join(name);
        if copy.join(DESCRIPTION).exists() {
            let description = image.join(DESCRIPTION);
            let text = fs::read(&description).map_err(Error::file("read", &description))?;
            let path = copy.join(DESCRIPTION);
            if fs::read(&path).ok().as_ref() != Some(&text) {
                base::disk::file_replace(&path, &text, 0o644).map_err(Error::file("write", &path))?;
            }
        } else {
            let fresh = to.join(format!(".{}.new", name.to_string_lossy()));
            copy_beside(&image, &fresh)?;
            fs::rename(&fresh, &copy).map_err(Error::file("make", &copy))?;
            sync(&to)?;
        }
    }
    Ok(())
}

/// What `nephos image list` says of an image.
#[derive(Debug, Deserialize, Serialize)]
struct About {
    id: String,
    name: String,
    description: String,
    created: String,
}

/// `nephos image`
pub fn image(command: &ImageCommand) -> Result<(), Error> {
    match command {
        ImageCommand::List(show) => print_list(&Cloud::open(&show.at)?, show.json),
        ImageCommand::Import { distribution: Distribution::Debian12, mirror, at } => {
            import_debian(&Cloud::open(at)?, mirror.as_deref())
        }
    }
}

fn print_list(cloud: &Cloud, json: bool) -> Result<(), Error> {
    let mut images = Vec::new();
    for image in list(&cloud.images()) {
        let path = image.join(DESCRIPTION);
        let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
        let about: About = toml::from_str(&text)
            .map_err(|error| Error::Content { path, why: error.message().to_owned() })?;
        images.push(about);
    }
    if json {
        let text = serde_json::to_string_pretty(&images).map_err(|error| Error::Said(error.to_string()))?;
        say!("{text}");
        return Ok(());
    }
    for About { id, name, description, .. } in images {
        say!("{id}  {name:<24}  {description}");
    }
    Ok(())
}

const DEBIAN: &str = "debian-12";

/// Builds the image beside the others, and moves it among them when it is whole.
fn import_debian(cloud: &Cloud, mirror: Option<&str>) -> Result<(), Error> {
    let images = cloud.images();
    let cache = cloud.dir.join("cache").join(DEBIAN);
    directory_make(&cloud.dir.join("cache"), 0o700)?;
    directory_make(&cache, 0o700)?;
    directory_make(&images, 0o755)?;
    let fresh = images.join(format!(".{DEBIAN}.new"));
    remove_all(&fresh)?;
    directory_make(&fresh, 0o755)?;
    let packages = debian::build(&fresh, &cache, mirror)?;
    let id = debian_id(&packages);
    let image = images.join(&id);
    if image.join(DESCRIPTION).exists() {
        remove_all(&fresh)?;
        say!("{id} is there already: no package has changed");
        return Ok(());
    }
    let path = fresh.join(DESCRIPTION);
    base::disk::file_replace(&path, debian_description(&id).as_bytes(), 0o644)
        .map_err(Error::file("write", &path))?;
    for entry in fs::read_dir(&fresh).map_err(Error::file("list", &fresh))? {
        let path = entry.map_err(Error::file("list", &fresh))?.path();
        fs::set_permissions(&path, Permissions::from_mode(0o644))
            .map_err(Error::file("set the permissions of", &path))?;
        sync(&path)?;
    }
    sync(&fresh)?;
    retire(&images, DEBIAN)?;
    fs::rename(&fresh, &image).map_err(Error::file("make", &image))?;
    sync(&images)?;
    say!("{id}  {DEBIAN}");
    if crate::process::supervisor(cloud).is_some() {
        say!("the region lists it after a restart: nephos kill region && nephos start region");
    }
    Ok(())
}

/// `deb12` for what it is, then which of that, by what it is made of.
fn debian_id(packages: &str) -> String {
    // FNV-1a: names what is there already, and guards nothing.
    let text = format!("{} {} {}\n{packages}", debian::RECIPE, debian::DISK_MIB, debian::COMMAND_LINE);
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("ami-0deb12{:011x}", hash >> 20)
}

fn debian_description(id: &str) -> String {
    let (disk_mib, cmdline) = (debian::DISK_MIB, debian::COMMAND_LINE);
    let created = base::clock::Timestamp::now().iso8601();
    format!(
        "# Made by `nephos image import {DEBIAN}`; the versions are in `packages`.\n\
         id = \"{id}\"\n\
         name = \"{DEBIAN}\"\n\
         description = \"Debian 12 (bookworm) with cloud-init\"\n\
         architecture = \"x86_64\"\n\
         root_device = \"/dev/vda\"\n\
         disk_mib = {disk_mib}\n\
         kernel = \"vmlinuz\"\n\
         initrd = \"initrd.img\"\n\
         disk = \"disk.qcow2\"\n\
         cmdline = \"{cmdline}\"\n\
         created = \"{created}\"\n"
    )
}

/// Takes a name from the images that have it: they are known by their ids from then on.
fn retire(images: &Path, name: &str) -> Result<(), Error> {
    for image in list(images) {
        let path = image.join(DESCRIPTION);
        let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
        let id = image.file_name().map(|id| id.to_string_lossy().into_owned()).unwrap_or_default();
        let retired = text.replace(&format!("name = \"{name}\"\n"), &format!("name = \"{name}-{id}\"\n"));
        if retired != text {
            base::disk::file_replace(&path, retired.as_bytes(), 0o644)
                .map_err(Error::file("write", &path))?;
        }
    }
    Ok(())
}

/// The folders that hold an image; none if the directory cannot be read.
fn list(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let named = entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
    let mut images: Vec<PathBuf> = named.map(|entry| entry.path()).collect();
    images.retain(|image| image.join(DESCRIPTION).exists());
    images.sort();
    images
}

/// A durable copy, readable by the users that VMs have.
fn copy_beside(image: &Path, fresh: &Path) -> Result<(), Error> {
    remove_all(fresh)?;
    directory_make(fresh, 0o755)?;
    for entry in fs::read_dir(image).map_err(Error::file("list", image))? {
        let from = entry.map_err(Error::file("list", image))?.path();
        let Some(name) = from.file_name().filter(|_| from.is_file()) else { continue };
        let to = fresh.join(name);
        fs::copy(&from, &to).map_err(Error::file("copy", &from))?;
        fs::set_permissions(&to, Permissions::from_mode(0o644))
            .map_err(Error::file("set the permissions of", &to))?;
        sync(&to)?;
    }
    sync(fresh)
}

fn remove_all(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::file("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn sync(path: &Path) -> Result<(), Error> {
    fs::File::open(path).and_then(|file| file.sync_all()).map_err(Error::file("sync", path))
}
