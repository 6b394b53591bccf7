//! `tercel-bench`: see `tercel-bench --help` and docs/measuring.md.

fn main() -> std::process::ExitCode {
    tercel_bench::cli::main()
}
