//! `understood FOLDER`: which of the kernels in a folder (`*.ptx`) the interpreter does not understand, and why.

use std::process::ExitCode;

fn main() -> std::io::Result<ExitCode> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    let (mut known, mut unknown) = (0, 0);
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "ptx") {
            match cuda::check(&std::fs::read_to_string(&path)?) {
                Ok(()) => known += 1,
                Err(error) => {
                    unknown += 1;
                    println!("{}: {error}", path.display());
                }
            }
        }
    }
    println!("{known} understood, {unknown} not");
    Ok(if unknown == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
