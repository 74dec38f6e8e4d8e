//! The Python that serves: its interpreter and the versions of its packages, by the names of files.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ask::{ProgramAnswer, ask, find_program};
use super::package_version::PackageVersion;

/// The time that an interpreter is waited for.
const LIMIT: Duration = Duration::from_secs(20);

/// The most entries of a folder of packages that are looked at.
const ENTRIES: usize = 50_000;

/// The question: folders of packages, those of the environment and, outside of one, of the user.
const FOLDERS: &str = "import site, sys\nfolders = list(site.getsitepackages())\n\
                       if sys.prefix == sys.base_prefix: folders.append(site.getusersitepackages())\n\
                       print('\\n'.join(folders))";

/// The variables by which an interpreter is found.
#[derive(Clone, Debug, Default)]
pub struct PythonEnvironment {
    pub path: OsString,
    pub virtual_env: Option<PathBuf>,
    pub conda_prefix: Option<PathBuf>,
}

/// An interpreter, and the packages that matter here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PythonFacts {
    pub interpreter: PathBuf,
    /// Versions by package, such as `compressed-tensors`.
    pub packages: Vec<(&'static str, PackageVersion)>,
    /// The reason why the packages are not known.
    pub silent: Option<String>,
}

/// The packages that load what is written here.
pub(super) const PACKAGES: [&str; 4] = ["transformers", "vllm", "compressed-tensors", "sglang"];

impl PythonEnvironment {
    /// The variables of this process.
    pub fn of_process() -> Self {
        let folder = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        Self {
            path: std::env::var_os("PATH").unwrap_or_default(),
            virtual_env: folder("VIRTUAL_ENV"),
            conda_prefix: folder("CONDA_PREFIX"),
        }
    }

    /// The interpreter that `vllm` on the path runs by, else that of the active environment, else `python3`.
    pub fn interpreter(&self) -> Option<PathBuf> {
        let of_environment =
            |folder: &Option<PathBuf>| find_program("python", folder.as_ref()?.join("bin").as_os_str());
        let of_vllm = || interpreter_of(&find_program("vllm", &self.path)?);
        of_vllm()
            .or_else(|| of_environment(&self.virtual_env))
            .or_else(|| of_environment(&self.conda_prefix))
            .or_else(|| find_program("python3", &self.path))
            .or_else(|| find_program("python", &self.path))
    }
}

impl PythonFacts {
    /// Asks the interpreter where its packages lie, and reads their names there; none of them is imported.
    pub fn ask(environment: &PythonEnvironment) -> Option<Self> {
        let interpreter = environment.interpreter()?;
        // `-I`: neither the working directory nor variables lead it to other code.
        let (folders, silent) = match ask(&interpreter, &["-I", "-c", FOLDERS], LIMIT) {
            ProgramAnswer::Said(text) => (text.lines().map(PathBuf::from).collect(), None),
            ProgramAnswer::Failed(_) => (Vec::new(), Some("it ends with a failure".to_owned())),
            ProgramAnswer::NotStarted(error) => (Vec::new(), Some(error)),
            ProgramAnswer::TooLate => (Vec::new(), Some(format!("no answer within {} s", LIMIT.as_secs()))),
        };
        Some(Self { interpreter, packages: packages_in(&folders), silent })
    }

    /// The version of a package.
    pub fn version(&self, package: &str) -> Option<&PackageVersion> {
        self.packages.iter().find(|(name, _)| *name == package).map(|(_, version)| version)
    }
}

/// The interpreter that the first line of a script names.
fn interpreter_of(script: &Path) -> Option<PathBuf> {
    let mut head = Vec::new();
    File::open(script).ok()?.take(512).read_to_end(&mut head).ok()?;
    let line = String::from_utf8_lossy(&head).lines().next()?.strip_prefix("#!")?.trim().to_owned();
    let interpreter = PathBuf::from(line);
    let is_python = interpreter.file_name()?.to_str()?.starts_with("python");
    (is_python && interpreter.is_absolute() && interpreter.is_file()).then_some(interpreter)
}

/// Finds the versions of packages by the names of their `.dist-info` folders; the first folder that has one decides.
pub(super) fn packages_in(folders: &[PathBuf]) -> Vec<(&'static str, PackageVersion)> {
    let mut found: Vec<(&'static str, PackageVersion)> = Vec::new();
    for folder in folders.iter().filter(|folder| folder.is_absolute()) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten().take(ENTRIES) {
            let name = entry.file_name();
            let Some((package, version)) = name.to_str().and_then(package_of) else { continue };
            if !found.iter().any(|(known, _)| *known == package) {
                found.push((package, version));
            }
        }
    }
    found.sort_by_key(|(package, _)| PACKAGES.iter().position(|known| known == package));
    found
}

/// Reads `compressed_tensors-0.16.0.dist-info`.
fn package_of(entry: &str) -> Option<(&'static str, PackageVersion)> {
    let (name, version) = entry.strip_suffix(".dist-info")?.split_once('-')?;
    let name = name.to_ascii_lowercase().replace(['_', '.'], "-");
    let package = PACKAGES.iter().find(|known| **known == name)?;
    Some((package, PackageVersion::parse(version)?))
}
