//! The program: parse, build the runtime, run, give the exit code. Everything else is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    assize::cli::main()
}
