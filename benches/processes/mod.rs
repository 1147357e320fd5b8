//! The program as processes of their own, for benches that measure several of it: `limits` and `scaling`.
//!
//! Its rule: a process ends with the handle of its bench, whatever becomes of that.

use std::process::Stdio;
use tokio::process::{Child, Command};

/// A port of the loopback that nobody listens on at the moment.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port()
}

/// The program with arguments and variables, without its output.
pub fn program(args: &[&str], environment: &[(&str, &str)]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_assize"))
        .args(args)
        .envs(environment.iter().copied())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("the program starts")
}
