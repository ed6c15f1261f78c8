//! The cloud's own copies of the machine images. The disks of its VMs are overlays on them, so a copy never changes
//! once it is there, whatever becomes of the directory that it was made from.

use crate::cloud::{Cloud, directory_make};
use crate::error::Error;
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
    match fs::remove_dir_all(fresh) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::file("remove", fresh)(error));
        }
        _ => {}
    }
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

fn sync(path: &Path) -> Result<(), Error> {
    fs::File::open(path).and_then(|file| file.sync_all()).map_err(Error::file("sync", path))
}
