//! The command line; everything is in the library.

fn main() -> std::process::ExitCode {
    stanby::cli::main(std::env::args_os())
}
