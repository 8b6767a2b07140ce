//! The folder of rendered files.
//!
//! A file is in it whole or not at all, and on the disk before its name is told to anybody: a result in SQL never names
//! a file that a power cut took. Names are made here, and only such names are ever opened or removed, so that a folder
//! with other things in it is safe. Servers that share the folder find the same id in its marker file.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use thiserror::Error;

use crate::id::new_token;

/// The marker that makes a folder ours; it holds the folder's id.
pub const MARKER: &str = ".onetake-files";

const MAX_STEM: usize = 60;
const TOKEN: usize = 32;

#[derive(Debug, Error)]
pub enum Error {
    #[error("cannot use the folder of files {}", .folder.display())]
    Folder { folder: PathBuf, source: io::Error },
    #[error("{} does not hold the id of a folder of files: restore it, or remove it to start anew", .0.display())]
    Marker(PathBuf),
    #[error("cannot keep the file {}", .file.display())]
    Keep { file: PathBuf, source: io::Error },
}

/// A file that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFile {
    /// Its name in the folder: letters, digits and hyphens of ASCII, ending in ".mp4".
    pub name: String,
    pub bytes: u64,
}

/// The folder. Cheap to clone.
#[derive(Clone, Debug)]
pub struct FileStore {
    folder: PathBuf,
    id: String,
}

impl FileStore {
    /// Opens the folder, makes it and its marker where missing, and finds out that it can be written to.
    ///
    /// # Errors
    /// It cannot be made, read or written, or its marker was tampered with.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, Error> {
        let folder = folder.into();
        let id = mark(&folder).map_err(|source| Error::Folder { folder: folder.clone(), source })?;
        if !is_token(&id) {
            return Err(Error::Marker(folder.join(MARKER)));
        }
        Ok(Self { folder, id })
    }

    /// The folder's own id: servers that find the same one share the folder.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Moves a file into the folder, under a name that begins with `stem` as far as that is plain and that no other
    /// file has. Both the file and its name are on the disk when this returns.
    ///
    /// # Errors
    /// The file cannot be read or moved; then it is still where it was.
    ///
    /// # Cancel safety
    /// When dropped, the file may be kept all the same. Nobody knows its name then, and it goes when it is old.
    pub async fn keep(&self, file: &Path, stem: &str) -> Result<StoredFile, Error> {
        let (folder, file, stem) = (self.folder.clone(), file.to_owned(), plain(stem));
        let kept = tokio::task::spawn_blocking(move || {
            keep(&folder, &file, &stem).map_err(|source| Error::Keep { file, source })
        });
        kept.await.expect("keeping a file does not panic")
    }

    /// Where a file of this name is or would be; `None` if it is no name of ours, whatever it leads to.
    pub fn path_of(&self, name: &str) -> Option<PathBuf> {
        (is_ours(name) && name.ends_with(".mp4")).then(|| self.folder.join(name))
    }

    /// Removes a file; one that is gone already, or no file of ours, is none.
    ///
    /// # Errors
    /// The folder does not allow it.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        if !is_ours(name) {
            return Ok(());
        }
        match fs::remove_file(self.folder.join(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The names of all files that were last changed more than `age` ago. Which of them may go is the caller's to know.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn older_than(&self, age: Duration) -> io::Result<Vec<String>> {
        let Some(before) = SystemTime::now().checked_sub(age) else { return Ok(Vec::new()) };
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            // One that is gone meanwhile was removed by another server.
            let Ok(about) = entry.metadata() else { continue };
            if is_ours(&name) && about.modified()? < before {
                names.push(name);
            }
        }
        Ok(names)
    }
}

/// Makes the folder and its marker where missing; returns what the marker says.
fn mark(folder: &Path) -> io::Result<String> {
    fs::create_dir_all(folder)?;
    let marker = folder.join(MARKER);
    // Written aside and linked, so that of two servers that start at once one wins and neither reads half an id. Written
    // each time, since this is also what shows that the folder can be written to.
    let draft = folder.join(format!("{MARKER}.{}", new_token()));
    fs::write(&draft, new_token())?;
    let linked = File::open(&draft).and_then(|draft| draft.sync_all()).and_then(|()| {
        match fs::hard_link(&draft, &marker) {
            // File systems without hard links: the last of two that start at once wins, and both read on.
            Err(error) if error.kind() != ErrorKind::AlreadyExists && !marker.exists() => fs::rename(&draft, &marker),
            _ => Ok(()),
        }
    });
    let _ = fs::remove_file(&draft);
    linked?;
    sync_folder(folder)?;
    Ok(fs::read_to_string(&marker)?.trim().to_owned())
}

fn keep(folder: &Path, file: &Path, stem: &str) -> io::Result<StoredFile> {
    let opened = File::open(file)?;
    opened.sync_all()?;
    let bytes = opened.metadata()?.len();
    let name = format!("{stem}-{}.mp4", new_token());
    let path = folder.join(&name);
    match fs::rename(file, &path) {
        Err(error) if error.kind() == ErrorKind::CrossesDevices => {
            copy(file, &path)?;
            fs::remove_file(file)?;
        }
        moved => moved?,
    }
    sync_folder(folder)?;
    Ok(StoredFile { name, bytes })
}

/// Copies to another file system: aside first, so that nobody sees half a file under a name of ours.
fn copy(file: &Path, path: &Path) -> io::Result<()> {
    let aside = path.with_extension("part");
    let copied = fs::copy(file, &aside).and_then(|_| File::open(&aside)?.sync_all());
    let moved = copied.and_then(|()| fs::rename(&aside, path));
    if moved.is_err() {
        let _ = fs::remove_file(&aside);
    }
    moved
}

/// A rename is on the disk when its folder is.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// What of a stem can stand in any file name and address: the name is for people, the token behind it for us.
fn plain(stem: &str) -> String {
    let mut plain = String::new();
    for character in stem.chars().take(MAX_STEM) {
        if character.is_ascii_alphanumeric() {
            plain.push(character.to_ascii_lowercase());
        } else if !plain.is_empty() && !plain.ends_with('-') {
            plain.push('-');
        }
    }
    let plain = plain.trim_end_matches('-');
    if plain.is_empty() { "file".to_owned() } else { plain.to_owned() }
}

/// `<stem>-<token>.mp4`; a copy that was never finished ends in ".part" and is ours to list and remove alike.
fn is_ours(name: &str) -> bool {
    let stem = name.strip_suffix(".mp4").or_else(|| name.strip_suffix(".part"));
    let Some((stem, token)) = stem.and_then(|stem| stem.rsplit_once('-')) else { return false };
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=MAX_STEM).contains(&stem.len()) && stem.bytes().all(is_plain) && is_token(token)
}

fn is_token(text: &str) -> bool {
    text.len() == TOKEN && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;

    fn draft(folder: &TempDir) -> PathBuf {
        let path = folder.path().join("out.mp4");
        fs::write(&path, b"video").unwrap();
        path
    }

    #[tokio::test]
    async fn a_kept_file_is_found_by_its_name_only() {
        let (scratch, folder) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let store = FileStore::open(folder.path()).unwrap();
        let source = draft(&scratch);
        let kept = store.keep(&source, "Anna--Мария & co").await.unwrap();
        assert!(kept.name.starts_with("anna-co-") && kept.name.ends_with(".mp4"), "{}", kept.name);
        assert_eq!(kept.bytes, 5);
        assert!(!source.exists());
        assert_eq!(fs::read(store.path_of(&kept.name).unwrap()).unwrap(), b"video");

        let other = store.keep(&draft(&scratch), "Мария").await.unwrap();
        assert!(other.name.starts_with("file-"));
        store.remove(&kept.name).unwrap();
        store.remove(&kept.name).unwrap();
        assert!(!store.path_of(&kept.name).unwrap().exists() && store.path_of(&other.name).unwrap().exists());
    }

    #[test]
    fn no_name_leads_out_of_the_folder() {
        let folder = TempDir::new().unwrap();
        let store = FileStore::open(folder.path()).unwrap();
        let token = new_token();
        let (up, deep, hidden) = (format!("../a-{token}.mp4"), format!("a/b-{token}.mp4"), format!(".a-{token}.mp4"));
        let (null, upper, other) = (format!("a\0-{token}.mp4"), format!("A-{token}.mp4"), format!("a-{token}.mp4.txt"));
        for bad in ["", ".", "..", "/etc/passwd", "holiday.mp4", MARKER, &up, &deep, &hidden, &null, &upper, &other] {
            assert_eq!(store.path_of(bad), None, "{bad}");
            store.remove(bad).unwrap();
        }
        assert!(folder.path().join(MARKER).exists());
        assert!(store.path_of(&format!("a-{token}.mp4")).is_some());
    }

    #[test]
    fn servers_that_share_a_folder_find_one_id() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("new/files");
        let ids: Vec<_> = std::thread::scope(|scope| {
            let opened: Vec<_> = (0..8).map(|_| scope.spawn(|| FileStore::open(&path).unwrap())).collect();
            opened.into_iter().map(|store| store.join().unwrap().id().to_owned()).collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1, "the marker alone is left");
    }

    #[test]
    fn a_folder_that_cannot_be_used_is_named() {
        let folder = TempDir::new().unwrap();
        let file = draft(&folder);
        let refused = FileStore::open(&file).unwrap_err();
        assert!(matches!(&refused, Error::Folder { folder, .. } if *folder == file), "{refused}");

        fs::write(folder.path().join(MARKER), "something else").unwrap();
        assert!(matches!(FileStore::open(folder.path()), Err(Error::Marker(_))));
    }

    #[test]
    fn only_old_files_of_ours_are_listed() {
        let folder = TempDir::new().unwrap();
        let store = FileStore::open(folder.path()).unwrap();
        let old = SystemTime::now() - Duration::from_secs(1000);
        let name = |stem: &str, end: &str| format!("{stem}-{}.{end}", new_token());
        let (aged, fresh, part) = (name("aged", "mp4"), name("fresh", "mp4"), name("part", "part"));
        for (name, is_old) in [(&aged, true), (&fresh, false), (&part, true), (&"holiday.mp4".to_owned(), true)] {
            let file = File::create(folder.path().join(name)).unwrap();
            file.set_permissions(fs::Permissions::from_mode(0o600)).unwrap();
            if is_old {
                file.set_modified(old).unwrap();
            }
        }
        let mut listed = store.older_than(Duration::from_secs(500)).unwrap();
        listed.sort();
        assert_eq!(listed, [&aged[..], &part[..]]);

        assert_eq!(store.path_of(&part), None, "half a file is not for reading");
        store.remove(&part).unwrap();
        assert_eq!(store.older_than(Duration::from_secs(500)).unwrap(), [aged]);
    }

    #[test]
    fn a_copy_leaves_nothing_half_done() {
        let folder = TempDir::new().unwrap();
        let target = folder.path().join("kept.mp4");
        copy(&draft(&folder), &target).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"video");
        assert!(copy(&folder.path().join("missing"), &target).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
