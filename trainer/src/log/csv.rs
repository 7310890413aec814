//! The losses as a CSV file, one line a step; a resumed run goes on where the checkpoint was.
//!
//! The steps of training are counted from 0, so the line of a step is written before the checkpoint of the step after it;
//! the held-out photos are measured at the checkpoint's own step.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use impasto_checkpoints::write_atomically;

/// A CSV file that is being written.
#[derive(Debug)]
pub struct Csv {
    file: File,
    columns: Vec<String>,
}

impl Csv {
    /// Opens `path` for the lines from `next_step` on: later lines of an earlier run are dropped, and a file with
    /// other columns is started anew.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn open(path: &Path, columns: &[String], next_step: u64) -> io::Result<Self> {
        let header = columns.join(",");
        let old = fs::read_to_string(path).unwrap_or_default();
        let mut kept = format!("{header}\n");
        if old.lines().next() == Some(header.as_str()) {
            // A line that was cut short by a kill has no line end and is not kept.
            for line in old.split_inclusive('\n').skip(1).filter(|line| line.ends_with('\n')) {
                let step = line.split(',').next().and_then(|step| step.parse::<u64>().ok());
                if step.is_some_and(|step| step < next_step) {
                    kept.push_str(line);
                }
            }
        }
        write_atomically(path, |out| out.write_all(kept.as_bytes()))?;
        let file = OpenOptions::new().append(true).open(path)?;
        Ok(Csv { file, columns: columns.to_vec() })
    }

    /// Appends a line; a value that `find` does not know stays empty.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn write(&mut self, find: impl Fn(&str) -> Option<f64>) -> io::Result<()> {
        let cells: Vec<String> = self
            .columns
            .iter()
            .map(|name| {
                find(name)
                    .filter(|value| value.is_finite())
                    .map(|value| value.to_string())
                    .unwrap_or_default()
            })
            .collect();
        self.file.write_all(format!("{}\n", cells.join(",")).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_file_has_every_step_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.csv");
        let columns = ["step".to_owned(), "loss".to_owned()];
        let value = |step: f64| move |name: &str| Some(if name == "step" { step } else { step / 2.0 });
        let mut csv = Csv::open(&path, &columns, 0).unwrap();
        for step in 0..4 {
            csv.write(value(f64::from(step))).unwrap();
        }
        csv.file.write_all(b"4,0.").unwrap();
        let mut csv = Csv::open(&path, &columns, 2).unwrap();
        csv.write(value(2.0)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "step,loss\n0,0\n1,0.5\n2,1\n");
    }
}
