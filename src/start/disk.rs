//! The disk of this machine, as the operating system gives it.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use tercel_core::base::disk::{Disk, File};

/// This machine's disk.
pub struct MachineDisk;

struct Plain(fs::File);

/// A file that is locked as long as it is open, where files can be locked.
enum Written {
    Locked(Flock<fs::File>),
    Unlocked(fs::File),
}

impl Written {
    fn file(&self) -> &fs::File {
        match self {
            Written::Locked(file) => file,
            Written::Unlocked(file) => file,
        }
    }
}

impl Read for Plain {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Plain {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl File for Plain {
    fn byte_len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn is_regular(&self) -> io::Result<bool> {
        Ok(self.0.metadata()?.is_file())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_all()
    }
}

impl Read for Written {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.file().read(into)
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file().flush()
    }
}

impl File for Written {
    fn byte_len(&self) -> io::Result<u64> {
        Ok(self.file().metadata()?.len())
    }

    fn is_regular(&self) -> io::Result<bool> {
        Ok(self.file().metadata()?.is_file())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file().sync_all()
    }
}

fn lock(file: fs::File) -> Result<Flock<fs::File>, fs::File> {
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(file, _)| file)
}

impl Disk for MachineDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        // Opening a pipe would wait for whoever writes to it; a configuration may come from one, and is
        // there already.
        let is_file = fs::metadata(path)?.is_file();
        let mut options = fs::OpenOptions::new();
        options.read(true);
        if !is_file && !is_readable_pipe(path) {
            options.custom_flags(libc::O_NONBLOCK);
        }
        Ok(Box::new(Plain(options.open(path)?)))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let file = lock(fs::File::create(path)?).map_or_else(Written::Unlocked, Written::Locked);
        Ok(Box::new(file))
    }

    fn copy_permissions(&self, from: &Path, to: &Path) -> io::Result<()> {
        match fs::metadata(from) {
            Ok(metadata) => fs::set_permissions(to, metadata.permissions()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        match fs::File::open(directory).and_then(|directory| directory.sync_all()) {
            // Some file systems do not know what that is, and say so.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EBADF)) => Ok(()),
            result => result,
        }
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(directory)?.map(|file| Ok(file?.path())).collect()
    }

    fn is_abandoned(&self, path: &Path) -> bool {
        // What only points to a file is nobody's save.
        fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file())
            && fs::File::open(path).is_ok_and(|file| lock(file).is_ok())
    }

    fn directory(&self, from: &Path, path: &Path) -> io::Result<PathBuf> {
        let directory = from.join(path).canonicalize()?;
        // What cannot be entered or listed is no directory to work in.
        fs::read_dir(&directory)?;
        Ok(directory)
    }

    fn matching(&self, pattern: &str) -> Result<Vec<PathBuf>, String> {
        let found = glob::glob(pattern).map_err(|error| error.to_string())?;
        found.map(|path| path.map_err(|error| error.to_string())).collect()
    }
}

/// Whether a path is one end of a pipe that this process already has, as a shell hands over.
fn is_readable_pipe(path: &Path) -> bool {
    path.starts_with("/dev/fd") || path.starts_with("/proc/self/fd") || path == Path::new("/dev/stdin")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The directories of procfs cannot be synced: EINVAL.
    #[test]
    fn a_directory_that_cannot_be_synced_fails_nothing() {
        let directory = Path::new("/proc/self");
        let refused = fs::File::open(directory).unwrap().sync_all().unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EINVAL));
        MachineDisk.sync_directory(directory).unwrap();
        MachineDisk.sync_directory(Path::new("/nowhere/at/all")).unwrap_err();
    }

    #[test]
    fn a_file_is_abandoned_once_it_is_closed() {
        let path = std::env::temp_dir().join(format!("tercel-disk-{}", std::process::id()));
        let mut file = MachineDisk.create(&path).unwrap();
        file.write_all(b"half").unwrap();
        assert!(!MachineDisk.is_abandoned(&path));
        drop(file);
        assert!(MachineDisk.is_abandoned(&path));
        MachineDisk.remove(&path).unwrap();
    }
}
