//! How the agents that are known here are started.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::process::program;

/// Debian's own, which sees Debian's grpcio.
const PYTHON: &str = "/usr/bin/python3";

/// The agent of this project.
pub fn ours() -> String {
    let program = program("dd-agent");
    format!(
        "{} --config {{config}} --join-file {{token_file}}",
        program.display()
    )
}

/// The example in Python, or one of the careless ones beside the tests; a path below the repository.
///
/// # Panics
/// The messages of the contract cannot be generated: `make deps` installs what does.
pub fn python(path: &str) -> String {
    let program = repository().join(path);
    let example = repository().join("docs/examples/python-agent");
    format!(
        "env PYTHONPATH={}:{} {PYTHON} -B {} --name {{name}} --state {{state}} --controller {{controller}} \
         --source {{source}} --helo {{helo}} --dns {{dns}} --allow {{allow}} --join-file {{token_file}}",
        generated().display(),
        example.display(),
        program.display(),
    )
}

/// The messages of the contract, generated from the .proto files once; that is all an agent needs.
fn generated() -> &'static Path {
    static GENERATED: OnceLock<TempDir> = OnceLock::new();
    let directory = GENERATED.get_or_init(|| {
        let into = tempfile::tempdir().expect("a temporary directory");
        let proto = repository().join("proto");
        let done = Command::new("protoc")
            .arg(format!("--proto_path={}", proto.display()))
            .arg(format!("--python_out={}", into.path().display()))
            .args(["dd/v1/site.proto", "dd/v1/delivery.proto"])
            .arg("dd/v1/enrollment.proto")
            .status();
        assert!(
            done.is_ok_and(|status| status.success()),
            "protoc failed; `make deps` installs it"
        );
        into
    });
    directory.path()
}

fn repository() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().expect("tests/ lies in the repository").into()
}
