//! The `feedgate` binary: a shell over the library.

fn main() -> std::process::ExitCode {
    feedgate::cli::run()
}
