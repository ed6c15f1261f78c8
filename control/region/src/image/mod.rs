//! Machine images: what the region offers, read at start from the images' directory. Each image is a folder named
//! by its id, with an `image.toml` that says what it is; hosts read kernel and disk from the same folder.

use base::ids::ImageId;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// What customers are told of an image. (`image.toml` holds more: what a host needs to boot it.)
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Image {
    /// `ami-...`
    pub id: ImageId,
    /// Its stable name; RunInstances takes it in the place of the id.
    pub name: String,
    /// For people.
    pub description: String,
    /// `x86_64`
    pub architecture: String,
    /// `/dev/vda`
    pub root_device: String,
    /// RFC 3339.
    pub created: String,
    /// The root disk's size in the guest, in MiB.
    pub disk_mib: u32,
}

/// Why images cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The directory or a file cannot be read.
    #[error("cannot read images from {path}; `cargo xtask image` makes the default one")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// An `image.toml` is wrong.
    #[error("{path} is not a description of an image: {why}")]
    Malformed {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

/// All images in a directory, sorted by id. Folders without an `image.toml` (being made) are passed over.
pub fn images_read(directory: &Path) -> Result<Vec<Image>, ImageError> {
    let unreadable = |path: &Path, source| ImageError::Unreadable { path: path.to_owned(), source };
    let mut images = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(|e| unreadable(directory, e))? {
        let path = entry.map_err(|e| unreadable(directory, e))?.path().join("image.toml");
        if !path.exists() {
            continue;
        }
        let text = std::fs::read_to_string(&path).map_err(|e| unreadable(&path, e))?;
        let image: Image = toml::from_str(&text)
            .map_err(|e| ImageError::Malformed { path: path.clone(), why: e.message().to_owned() })?;
        images.push(image);
    }
    images.sort_by_key(|image| image.id);
    Ok(images)
}
