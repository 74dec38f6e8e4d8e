//! Copying a range from file to file inside the kernel, or through a buffer where it will not.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::copy_file_range;

/// Which side of a copy failed.
#[derive(Debug)]
pub(super) enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

/// Copies `buffer.len()` bytes; `buffer` is used only where the kernel refuses to copy by itself.
pub(super) fn copy(
    source: &File,
    mut from: u64,
    output: &File,
    mut to: u64,
    buffer: &mut [u8],
) -> Result<(), CopyError> {
    let mut left = buffer.len();
    while left > 0 {
        match copy_file_range(source, Some(&mut from), output, Some(&mut to), left) {
            Ok(0) => return Err(CopyError::Read(io::ErrorKind::UnexpectedEof.into())),
            Ok(copied) => left -= copied,
            // Different or peculiar file systems; after a real failure, the same again says on which side it lies.
            Err(_) => {
                let rest = &mut buffer[..left];
                source.read_exact_at(rest, from).map_err(CopyError::Read)?;
                return output.write_all_at(rest, to).map_err(CopyError::Write);
            }
        }
    }
    Ok(())
}
