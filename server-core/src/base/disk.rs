//! What a server asks of a disk. Nothing above names a file of the operating system's: the process brings
//! one implementation, and [`MemoryDisk`] is another, for tests and for whole servers in one process.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// An open file. Reading and writing go on where they stopped.
pub trait File: Read + Write + Send {
    /// Length in bytes.
    ///
    /// # Errors
    /// The operating system's.
    fn byte_len(&self) -> io::Result<u64>;

    /// Whether it is a file, and no pipe or device that nobody may ever write to.
    ///
    /// # Errors
    /// The operating system's.
    fn is_regular(&self) -> io::Result<bool>;

    /// Waits until what was written is on the disk.
    ///
    /// # Errors
    /// The operating system's.
    fn sync(&mut self) -> io::Result<()>;
}

/// A disk, or as much of one as the process may see.
pub trait Disk: Send + Sync {
    /// Opens a file for reading. Does not wait for whoever writes to a pipe.
    ///
    /// # Errors
    /// The operating system's.
    fn open(&self, path: &Path) -> io::Result<Box<dyn File>>;

    /// Opens an empty file for writing. As long as it is open it is not [abandoned](Disk::is_abandoned).
    ///
    /// # Errors
    /// The operating system's.
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>>;

    /// Gives a file the permissions of another, if that is there.
    ///
    /// # Errors
    /// The operating system's.
    fn copy_permissions(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Puts a file in another's place at once.
    ///
    /// # Errors
    /// The operating system's.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// The operating system's.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Waits until what a directory holds is on the disk, where the file system knows what that is.
    ///
    /// # Errors
    /// The operating system's.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;

    /// The files of a directory.
    ///
    /// # Errors
    /// The operating system's.
    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>>;

    /// Whether nobody has a file open that [`Disk::create`] made, in whatever process. False where that is
    /// not known.
    fn is_abandoned(&self, path: &Path) -> bool;

    /// A directory by its one name, relative ones seen from `from`.
    ///
    /// # Errors
    /// The operating system's; it is no directory.
    fn directory(&self, from: &Path, path: &Path) -> io::Result<PathBuf>;

    /// The files that match a pattern of the shell's, in order.
    ///
    /// # Errors
    /// What is wrong with the pattern, or with a directory.
    fn matching(&self, pattern: &str) -> Result<Vec<PathBuf>, String>;
}

/// The bytes of a file in memory, shared by all who have it open.
type Bytes = Arc<Mutex<Vec<u8>>>;

/// A disk in memory, without directories: a path is a name.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    files: Arc<Mutex<BTreeMap<PathBuf, Bytes>>>,
}

struct MemoryFile {
    bytes: Bytes,
    at: usize,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Read for MemoryFile {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let bytes = locked(&self.bytes);
        let len = Read::read(&mut bytes.get(self.at..).unwrap_or_default(), into)?;
        self.at += len;
        Ok(len)
    }
}

impl Write for MemoryFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        locked(&self.bytes).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl File for MemoryFile {
    fn byte_len(&self) -> io::Result<u64> {
        Ok(locked(&self.bytes).len() as u64)
    }

    fn is_regular(&self) -> io::Result<bool> {
        Ok(true)
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MemoryDisk {
    /// The bytes of a file.
    #[must_use]
    pub fn bytes(&self, path: &Path) -> Option<Vec<u8>> {
        let bytes = locked(&self.files).get(path).cloned()?;
        let copy = locked(&bytes).clone();
        Some(copy)
    }

    /// Puts a file there.
    pub fn put(&self, path: &Path, bytes: &[u8]) {
        locked(&self.files).insert(path.to_owned(), Arc::new(Mutex::new(bytes.to_vec())));
    }
}

impl Disk for MemoryDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let bytes = locked(&self.files).get(path).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(MemoryFile { bytes, at: 0 }))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let bytes = Bytes::default();
        locked(&self.files).insert(path.to_owned(), Arc::clone(&bytes));
        Ok(Box::new(MemoryFile { bytes, at: 0 }))
    }

    fn copy_permissions(&self, _: &Path, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = locked(&self.files);
        let bytes = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), bytes);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        locked(&self.files).remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(locked(&self.files).keys().filter(|path| path.parent() == Some(directory)).cloned().collect())
    }

    fn is_abandoned(&self, path: &Path) -> bool {
        locked(&self.files).get(path).is_some_and(|bytes| Arc::strong_count(bytes) == 1)
    }

    fn directory(&self, from: &Path, path: &Path) -> io::Result<PathBuf> {
        Ok(from.join(path))
    }

    fn matching(&self, _: &str) -> Result<Vec<PathBuf>, String> {
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_in_memory_is_written_renamed_and_read() {
        let disk = MemoryDisk::default();
        let (temporary, path) = (Path::new("/d/temp"), Path::new("/d/file"));
        let mut file = disk.create(temporary).unwrap();
        file.write_all(b"abc").unwrap();
        assert!(!disk.is_abandoned(temporary));
        drop(file);
        assert!(disk.is_abandoned(temporary));
        disk.rename(temporary, path).unwrap();
        assert_eq!(disk.list(Path::new("/d")).unwrap(), [path]);
        let mut text = String::new();
        disk.open(path).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "abc");
        disk.remove(path).unwrap();
        assert_eq!(disk.open(path).err().unwrap().kind(), io::ErrorKind::NotFound);
    }
}
