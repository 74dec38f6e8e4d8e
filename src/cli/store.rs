//! Prefixes of object stores that a command names as its source or its output.

use std::path::Path;
use std::sync::Arc;

use super::args::ApplyArgs;
use super::error::CommandError;
use crate::checkpoint::remote::Repository;
use crate::checkpoint::store::OutputStore;
use crate::plan::Plan;
use crate::run::Sha256Of;

/// The beginnings of addresses in object stores.
const SCHEMES: [&str; 3] = ["s3://", "gs://", "az://"];

/// Returns whether a text is an address in an object store.
pub(super) fn is_address(text: &str) -> bool {
    SCHEMES.iter().any(|scheme| text.starts_with(scheme))
}

/// Opens the checkpoint at an address.
#[cfg(feature = "stores")]
pub(super) fn source(address: &str) -> Result<Arc<dyn Repository>, CommandError> {
    let location = qwen_fp8_stores::StoreLocation::parse(address).map_err(|error| refused(&error))?;
    Ok(qwen_fp8_stores::StoreRepository::open(location).map_err(|error| refused(&error))?)
}

/// Opens the address of an output; `None` where it is a path.
#[cfg(feature = "stores")]
pub(super) fn output(output: &Path) -> Result<Option<Box<dyn OutputStore>>, CommandError> {
    let Some(address) = output.to_str().filter(|output| is_address(output)) else { return Ok(None) };
    let location = qwen_fp8_stores::StoreLocation::parse(address).map_err(|error| refused(&error))?;
    let bucket = qwen_fp8_stores::Bucket::open(location).map_err(|error| refused(&error))?;
    Ok(Some(Box::new(bucket)))
}

#[cfg(feature = "stores")]
fn refused(error: &qwen_fp8_stores::StoreError) -> CommandError {
    use crate::checkpoint::remote::RemoteFailure as _;
    let failure = if error.is_of_input() { CommandError::input(error) } else { CommandError::run(error) };
    failure.with_help(&error.help())
}

/// Refuses an address, which this build can do nothing with.
#[cfg(not(feature = "stores"))]
pub(super) fn source(address: &str) -> Result<Arc<dyn Repository>, CommandError> {
    Err(left_out(address))
}

/// Refuses the address of an output; `None` where it is a path.
#[cfg(not(feature = "stores"))]
pub(super) fn output(output: &Path) -> Result<Option<Box<dyn OutputStore>>, CommandError> {
    output.to_str().filter(|output| is_address(output)).map_or(Ok(None), |address| Err(left_out(address)))
}

#[cfg(not(feature = "stores"))]
fn left_out(address: &str) -> CommandError {
    use crate::checkpoint::text::shown;
    let message = format!("{} is in an object store, which this build leaves out", shown(address));
    CommandError::Input(message).with_help(&[
        "`cargo build --release --features stores` makes one that has them, as released ones do".to_owned(),
    ])
}

/// Refuses what a run cannot do whose output is in an object store or on the hub; `way_out` says what to do instead.
pub(super) fn check_options(
    args: &ApplyArgs,
    plan: &Plan,
    sha256: Sha256Of,
    way_out: &str,
) -> Result<(), CommandError> {
    let parts = &args.parts;
    let refused = [
        (args.verify || args.report.is_some(), "`--verify` and `--report` read the whole output once more"),
        (plan.recipe.expect.sqnr_at_least.is_some(), "`sqnr_at_least` reads the whole output once more"),
        (sha256.output, "`--sha256` reads the whole output once more"),
        (parts.part.is_some() || parts.join || parts.slurm.is_some(), "parts are put together by names of files"),
    ];
    let Some((_, why)) = refused.into_iter().find(|(is_asked, _)| *is_asked) else { return Ok(()) };
    let message = format!("{why}, which an output elsewhere does not have on this machine");
    Err(CommandError::Input(message).with_help(&[way_out.to_owned()]))
}
