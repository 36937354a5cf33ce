//! `make test`: runs every test that this machine can run; the last line is the sum.

use std::process::ExitCode;

use katonic_logging_e2e::suite;

fn main() -> ExitCode {
    match suite::run() {
        Ok(summary) => {
            println!("{summary}");
            if summary.failed == 0 {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!("suite: {error:#}");
            ExitCode::FAILURE
        }
    }
}
