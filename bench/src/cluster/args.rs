//! What every command that starts clusters takes.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::error::Error;
use crate::machine;
use crate::target::Target;

/// Which systems to start, from which binaries, and where.
#[derive(Args, Clone, Debug)]
pub struct SystemsArgs {
    /// The systems, in the order of the table
    #[arg(long, value_enum, value_delimiter = ',', default_value = "etcd,drey")]
    pub systems: Vec<Target>,

    /// The drey binary
    #[arg(long, value_name = "PATH", default_value = "drey")]
    pub drey: PathBuf,

    /// The etcd binary
    #[arg(long, value_name = "PATH", default_value = "etcd")]
    pub etcd: PathBuf,

    /// One more argument for each drey node, repeatable
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    pub drey_argument: Vec<String>,

    /// One more argument for each etcd node, repeatable
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    pub etcd_argument: Vec<String>,

    /// Where the nodes keep their data, on a disk; removed afterwards [default: the system's temporary directory]
    #[arg(long)]
    pub directory: Option<PathBuf>,

    /// Keep what the nodes say in this directory, a file each
    #[arg(long, value_name = "DIRECTORY")]
    pub logs: Option<PathBuf>,
}

/// A directory on a disk.
pub(crate) struct Place {
    pub(crate) directory: PathBuf,
    /// The name of its file system.
    pub(crate) file_system: String,
}

impl SystemsArgs {
    /// The systems, each once.
    pub(crate) fn targets(&self) -> Result<&[Target], Error> {
        for (place, target) in self.systems.iter().enumerate() {
            if self.systems[..place].contains(target) {
                return Err(Error::Usage(format!("{} is given twice", target.name())));
            }
        }
        if self.systems.is_empty() {
            return Err(Error::Usage("give at least one system".into()));
        }
        Ok(&self.systems)
    }

    /// The system's binary.
    pub(crate) fn binary(&self, target: Target) -> &Path {
        match target {
            Target::Drey => &self.drey,
            Target::Etcd => &self.etcd,
        }
    }

    /// Where the nodes keep their data. A directory in memory is refused.
    pub(crate) fn place(&self) -> Result<Place, Error> {
        let directory = self.directory.clone().unwrap_or_else(std::env::temp_dir);
        let directory =
            directory.canonicalize().map_err(|source| Error::io(format!("looking for {directory:?}"), source))?;
        let (file_system, in_memory) = machine::file_system(&directory)
            .map_err(|source| Error::io(format!("asking for the file system of {directory:?}"), source))?;
        if in_memory {
            return Err(Error::InMemory { directory, file_system });
        }
        Ok(Place { directory, file_system })
    }

    /// What each node of a system is given on top of what it needs.
    pub(crate) fn arguments_of(&self, target: Target) -> &[String] {
        match target {
            Target::Drey => &self.drey_argument,
            Target::Etcd => &self.etcd_argument,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Defaults {
        #[command(flatten)]
        systems: SystemsArgs,
    }

    fn parse(line: &str) -> SystemsArgs {
        Defaults::parse_from(line.split(' ')).systems
    }

    #[test]
    fn each_system_is_asked_for_once() {
        assert_eq!(parse("compare").targets().unwrap(), [Target::Etcd, Target::Drey]);
        let drey = parse("compare --systems drey --drey /a/drey");
        assert_eq!((drey.targets().unwrap(), drey.binary(Target::Drey)), (&[Target::Drey][..], Path::new("/a/drey")));
        assert!(parse("compare --systems drey,drey").targets().is_err());
    }
}
