//! Reading a file of this machine from end to end.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::error::HubError;

/// Bytes that are read at a time.
const READ: usize = 1 << 20;

/// Hands the first `len` bytes of a file to `take`, piece by piece.
///
/// # Errors
/// They cannot be read; or the work is cancelled.
pub(crate) fn read_through(
    file: &File,
    path: &Path,
    len: u64,
    is_cancelled: &dyn Fn() -> bool,
    mut take: impl FnMut(&[u8]),
) -> Result<(), HubError> {
    let (mut buffer, mut offset) = (vec![0; READ.min(len as usize)], 0);
    while offset < len {
        if is_cancelled() {
            return Err(HubError::Cancelled);
        }
        let most = buffer.len().min((len - offset) as usize);
        file.read_exact_at(&mut buffer[..most], offset).map_err(HubError::file("read", path))?;
        take(&buffer[..most]);
        offset += most as u64;
    }
    Ok(())
}
