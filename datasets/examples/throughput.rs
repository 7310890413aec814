//! How many pictures a second the loader makes, and how much memory it holds, over time.
//!
//! `cargo run --release -p impasto-datasets --example throughput -- FOLDER --size 256 --seconds 20`
//!
//! `--workers 2 --batch 8`; `leaves` in place of a folder measures the dead leaves; `--sheet FILE.png`
//! writes a contact sheet of the first pictures instead of measuring.

use std::time::{Duration, Instant};

use impasto_datasets::{Batch, DeadLeaves, FolderOptions, Loader, LoaderConfig, PhotoFolder, Source};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut config = LoaderConfig { batch_size: 8, workers: 1, ..LoaderConfig::default() };
    let (mut from, mut seconds, mut sheet) = (None, 20, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--size" => config.image_size = value()?.parse()?,
            "--batch" => config.batch_size = value()?.parse()?,
            "--workers" => config.workers = value()?.parse()?,
            "--seconds" => seconds = value()?.parse()?,
            "--sheet" => sheet = Some(value()?),
            _ => from = Some(argument),
        }
    }
    let from = from.ok_or("expected a folder of photos, or the word `leaves`")?;
    let start = Instant::now();
    let source = if from == "leaves" {
        Source::from(DeadLeaves::default())
    } else {
        Source::from(PhotoFolder::open(&from, &FolderOptions::default())?)
    };
    println!("opened in {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    if let Some(sheet) = sheet {
        return contact_sheet(&source.batch(0, 0, 24, config.image_size)?, &sheet);
    }
    println!("{config:?}");
    measure(&source, &config, Duration::from_secs(seconds))?;
    if let Source::Folder(folder) = &source {
        println!("{} of {} photos are bad", folder.bad_count(), folder.training_len());
    }
    Ok(())
}

fn measure(source: &Source, config: &LoaderConfig, time: Duration) -> Result<(), Box<dyn std::error::Error>> {
    let mut loader = Loader::new(source.clone(), config.clone())?;
    // The first batches warm the file cache and the workers' buffers.
    for _ in 0..2 * config.workers + config.queue {
        loader.next_batch()?;
    }
    let processor_start = processor_seconds().unwrap_or(f64::NAN);
    let (start, mut batches, mut report) = (Instant::now(), 0, time / 4);
    while start.elapsed() < time {
        loader.next_batch()?;
        batches += 1;
        if start.elapsed() >= report {
            let rate = (batches * config.batch_size) as f64 / start.elapsed().as_secs_f64();
            let per_core = match processor_seconds() {
                Some(now) => (batches * config.batch_size) as f64 / (now - processor_start),
                None => f64::NAN,
            };
            println!(
                "{batches:7} batches  {rate:8.1} pictures/s  {per_core:8.1} per core second  {}",
                resident()
            );
            report += time / 4;
        }
    }
    Ok(())
}

/// Processor time of all threads so far, where the system tells (Linux, ticks of 10 ms): on a busy machine
/// the rate by the clock says more about the neighbours.
fn processor_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The fields are counted from the end of the name, which may hold spaces.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?;
    Some(ticks / 100.0)
}

/// Memory held now, where the system tells (Linux, pages of 4 KiB).
fn resident() -> String {
    let pages: Option<f64> = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_whitespace().nth(1)?.parse().ok());
    pages.map_or("resident memory unknown".to_owned(), |pages| format!("{:.1} MiB resident", pages / 256.0))
}

/// Six columns of pictures.
fn contact_sheet(batch: &Batch, path: &str) -> Result<(), Box<dyn std::error::Error>> {
    let size = batch.image_size;
    let rows = (batch.batch_size as u32).div_ceil(6);
    let mut sheet = image::RgbImage::new(6 * size, rows * size);
    for (number, rgb) in (0..).zip(batch.images.chunks_exact(size as usize * size as usize * 3)) {
        let picture = image::RgbImage::from_raw(size, size, rgb.to_vec()).ok_or("a picture of odd size")?;
        image::imageops::replace(
            &mut sheet,
            &picture,
            (number % 6 * size).into(),
            (number / 6 * size).into(),
        );
    }
    sheet.save(path)?;
    println!("wrote {path}");
    Ok(())
}
