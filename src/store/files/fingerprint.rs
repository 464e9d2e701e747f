//! Recognizes a directory, wherever it is mounted or copied to, and shows whether somebody wrote to it: a write of a
//! former server changes the size of a file, or makes a new one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA256};

use super::directory::{CLIENTS, SERVER, ensure_regular};

/// Whether a former server has kept anything there. Fails where that cannot be seen.
pub fn holds_store(root: &Path) -> io::Result<bool> {
    for file in [SERVER, CLIENTS] {
        match fs::metadata(root.join(file)) {
            Ok(_) => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// Reads no messages. Locks, scripts and other files that are no server's data do not count.
pub fn fingerprint(root: &Path) -> io::Result<String> {
    let mut files: Vec<PathBuf> = vec![SERVER.into(), CLIENTS.into()];
    for entry in fs::read_dir(root)? {
        let channel = entry?.path();
        if !channel.is_dir() {
            continue;
        }
        let entries = match fs::read_dir(&channel) {
            // A server that runs has deleted it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        let entries = entries.collect::<io::Result<Vec<_>>>()?;
        let data = entries.iter().map(fs::DirEntry::path);
        let data = data.filter(|path| path.extension().is_some_and(|it| it == "dat"));
        files.extend(data.filter_map(|path| path.strip_prefix(root).map(Path::to_owned).ok()));
    }
    for file in [SERVER, CLIENTS] {
        ensure_regular(&root.join(file))?;
    }
    files.sort();
    let mut digest = Context::new(&SHA256);
    for file in files {
        match fs::metadata(root.join(&file)) {
            Ok(metadata) => {
                let name = file.as_os_str().as_encoded_bytes();
                digest.update(&(name.len() as u64).to_le_bytes());
                digest.update(name);
                digest.update(&metadata.len().to_le_bytes());
            }
            // Old stores lack some, and a copy may.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    digest.update(&fs::read(root.join(SERVER)).unwrap_or_default());
    Ok(data_encoding::HEXLOWER.encode(digest.finish().as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_the_same_and_a_store_that_was_written_to_another_one() {
        let of = |edit: &dyn Fn(&Path)| {
            let folder = tempfile::tempdir().unwrap();
            let root = folder.path();
            fs::write(root.join("server.dat"), "server").unwrap();
            fs::create_dir(root.join("orders")).unwrap();
            fs::write(root.join("orders/msgs.1.dat"), "messages").unwrap();
            edit(root);
            fingerprint(root).unwrap()
        };
        let plain = of(&|_| {});
        assert_eq!(of(&|_| {}), plain);
        // What is no data.
        assert_eq!(
            of(&|root| fs::write(root.join(".rootdir.lck"), "").unwrap()),
            plain
        );
        assert_eq!(
            of(&|root| fs::write(root.join("orders/msgs.1.idx"), "").unwrap()),
            plain
        );
        let append = |root: &Path| fs::write(root.join("orders/msgs.1.dat"), "messages.").unwrap();
        assert_ne!(of(&append), plain);
        let other = |root: &Path| fs::write(root.join("server.dat"), "verser").unwrap();
        assert_ne!(of(&other), plain);
        assert_ne!(of(&|root| fs::create_dir(root.join("empty")).unwrap()), "");
    }
}
