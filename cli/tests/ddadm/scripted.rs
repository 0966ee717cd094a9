//! Runs command lines in this process, and serves scripted services on a socket.

use std::ffi::OsString;

use ddadm::failure::Exit;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::service::Routes;
use tonic::transport::Server;

/// What a command line came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) exit: Exit,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `ddadm LINE WAY…`; the line is split at spaces.
pub(crate) async fn ran(line: &str, stdin: &str, way: &[&str]) -> Ran {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let arguments = std::iter::once("ddadm")
        .chain(line.split(' '))
        .chain(way.iter().copied())
        .map(OsString::from);
    let exit = ddadm::run(
        arguments,
        &mut stdin.as_bytes(),
        &mut stdout,
        ddadm::Stdout::Pipe,
        &mut stderr,
    )
    .await;
    Ran {
        exit,
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

/// The services on a socket in a directory of its own.
pub(crate) fn on_a_socket(services: Routes) -> (TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("admin.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::spawn(
        Server::builder()
            .add_routes(services)
            .serve_with_incoming(UnixListenerStream::new(listener)),
    );
    let socket = socket.to_str().unwrap().to_owned();
    (directory, socket)
}
