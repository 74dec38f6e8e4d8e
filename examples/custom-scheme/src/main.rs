use custom_scheme as _;
fn main() -> std::process::ExitCode {
    qwen_fp8::main()
}
