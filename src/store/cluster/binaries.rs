//! Where the Postgres server binaries are.
//!
//! Its rule: the newest version wins for a new cluster, and a cluster keeps the major version that made it.

use super::ClusterError;
use std::path::{Path, PathBuf};
use tokio::process::Command;

/// A folder with `initdb` and `postgres`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    /// The folder.
    pub dir: PathBuf,
    /// Version, most significant first.
    pub version: Vec<u32>,
}

impl Binaries {
    fn major(&self) -> String {
        self.version.first().map_or_else(String::new, u32::to_string)
    }
}

/// All server installations of this machine, newest first.
pub async fn find() -> Vec<Binaries> {
    let mut dirs: Vec<PathBuf> = path_dirs();
    for parent in ["/usr/lib/postgresql", "/usr/local/opt", "/opt/homebrew/opt", "/usr"] {
        let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
        let named = entries.filter(|e| {
            let name = e.file_name();
            parent == "/usr/lib/postgresql"
                || name.to_string_lossy().starts_with("postgresql")
                || name.to_string_lossy().starts_with("pgsql-")
        });
        dirs.extend(named.map(|e| e.path().join("bin")));
    }
    let mut found: Vec<Binaries> = Vec::new();
    for dir in dirs {
        // A link in PATH often points at one binary of a folder; its neighbours are where it really is.
        let Ok(real) = dir.join("postgres").canonicalize() else { continue };
        let Some(dir) = real.parent().map(Path::to_owned) else { continue };
        if found.iter().any(|b| b.dir == dir) || !dir.join("initdb").exists() {
            continue;
        }
        if let Some(version) = version(&dir).await {
            found.push(Binaries { dir, version });
        }
    }
    found.sort_by(|a, b| b.version.cmp(&a.version));
    found
}

#[expect(clippy::disallowed_methods, reason = "PATH is where programs are looked for, not configuration")]
fn path_dirs() -> Vec<PathBuf> {
    std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default()
}

/// The binaries for the cluster in `data`: those that made it, or the newest if it is not made yet.
pub(super) async fn for_cluster(data: &Path) -> Result<Binaries, ClusterError> {
    let all = find().await;
    let newest = all.first().cloned().ok_or(ClusterError::NotInstalled { install: install_command() })?;
    let Ok(wanted) = std::fs::read_to_string(data.join("PG_VERSION")) else { return Ok(newest) };
    let wanted = wanted.trim().to_owned();
    all.iter().find(|b| b.major() == wanted).cloned().ok_or_else(|| ClusterError::WrongVersion {
        dir: data.to_owned(),
        wanted,
        found: all.iter().map(Binaries::major).collect::<Vec<_>>().join(", "),
    })
}

async fn version(dir: &Path) -> Option<Vec<u32>> {
    let output = Command::new(dir.join("postgres")).arg("--version").output().await.ok()?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
}

/// `postgres (PostgreSQL) 15.18 (Debian …)` gives `[15, 18]`.
fn parse_version(text: &str) -> Option<Vec<u32>> {
    let number = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let parts: Vec<u32> = number.split('.').map_while(|part| part.parse().ok()).collect();
    (!parts.is_empty()).then_some(parts)
}

/// How Postgres is installed on this platform.
#[must_use]
pub fn install_command() -> &'static str {
    if cfg!(target_os = "macos") {
        "brew install postgresql@17"
    } else if Path::new("/etc/debian_version").exists() {
        "apt-get install postgresql"
    } else if Path::new("/etc/alpine-release").exists() {
        "apk add postgresql"
    } else if Path::new("/etc/redhat-release").exists() {
        "dnf install postgresql-server"
    } else {
        "your package manager (the package is called postgresql or postgresql-server)"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(parse_version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"), Some(vec![15, 18]));
        assert_eq!(parse_version("postgres (PostgreSQL) 18beta1"), None);
        assert_eq!(parse_version("nonsense"), None);
    }
}
