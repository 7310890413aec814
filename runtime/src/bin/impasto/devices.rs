//! `impasto devices`: what can paint here, and what is missing: the processor, GPUs, ffmpeg.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
use impasto::Device;
use impasto::engine::{Isa, cpu_name, default_threads, physical_cores};
use impasto::video::Tools;
use serde::Serialize;

use crate::say::{json_line, print};

#[derive(Args)]
pub struct DevicesArgs {
    /// In JSON
    #[arg(long)]
    pub json: bool,
}

/// Everything that was found, for programs.
#[derive(Serialize)]
struct Found {
    cpu: Cpu,
    cuda: Gpus,
    wgpu: Gpus,
    ffmpeg: Ffmpeg,
}

#[derive(Serialize)]
struct Cpu {
    name: String,
    /// Physical cores, where the system tells.
    cores: Option<usize>,
    /// Threads that paint unless told.
    threads: usize,
    instruction_sets: Vec<&'static str>,
    /// The one that is used.
    instruction_set: &'static str,
    /// What `--precision auto` takes for a style that loses nothing visible by it.
    auto_precision: &'static str,
}

/// The GPUs of one kind, or why there are none.
#[derive(Serialize, Default)]
struct Gpus {
    built_in: bool,
    devices: Vec<Gpu>,
    /// Why none can be used, in one line with a hint.
    problem: Option<String>,
}

#[derive(Serialize)]
struct Gpu {
    /// How to ask for it: `cuda:1`.
    device: String,
    name: String,
    /// Why it cannot be used.
    problem: Option<String>,
}

#[derive(Serialize)]
struct Ffmpeg {
    version: Option<String>,
    path: Option<String>,
    /// Why videos cannot be painted, in one line with a hint.
    problem: Option<String>,
}

pub fn run(args: DevicesArgs) -> Result<ExitCode> {
    let found = Found { cpu: cpu()?, cuda: gpus("cuda"), wgpu: gpus("wgpu"), ffmpeg: ffmpeg() };
    print(if args.json { json_line(&found)? } else { describe(&found) })?;
    Ok(ExitCode::SUCCESS)
}

fn cpu() -> Result<Cpu> {
    let isa = Isa::from_environment()?;
    Ok(Cpu {
        name: cpu_name(),
        cores: physical_cores(),
        threads: default_threads(),
        instruction_sets: Isa::ALL.into_iter().filter(|isa| isa.is_available()).map(Isa::name).collect(),
        instruction_set: isa.name(),
        auto_precision: if isa.gains_from_bf16() { "bf16" } else { "f32" },
    })
}

fn ffmpeg() -> Ffmpeg {
    match Tools::find() {
        Ok(tools) => Ffmpeg {
            version: Some(tools.version().into()),
            path: Some(tools.path().display().to_string()),
            problem: None,
        },
        Err(error) => Ffmpeg { version: None, path: None, problem: Some(error.to_string()) },
    }
}

/// The GPUs of a kind, `cuda` or `wgpu`.
fn gpus(kind: &'static str) -> Gpus {
    match kind {
        #[cfg(feature = "cuda")]
        "cuda" => probe(Device::Cuda(0)),
        #[cfg(feature = "wgpu")]
        "wgpu" => probe(Device::Wgpu(0)),
        _ => Gpus {
            problem: Some(format!("not in this build; hint: cargo install --path runtime --features {kind}")),
            ..Gpus::default()
        },
    }
}

/// The devices of the same kind as `first`.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
fn probe(first: Device) -> Gpus {
    let problem = |device| impasto_burn::device::check(device).err().map(|error| error.to_string());
    let same = |other: &Device| std::mem::discriminant(other) == std::mem::discriminant(&first);
    let found = impasto_burn::available().into_iter().filter(|info| same(&info.device));
    let devices: Vec<_> = found
        .map(|info| Gpu { device: info.device.to_string(), name: info.name, problem: problem(info.device) })
        .collect();
    let problem = if devices.is_empty() { problem(first) } else { None };
    Gpus { built_in: true, devices, problem }
}

/// The same for people.
fn describe(found: &Found) -> String {
    let Found { cpu, cuda, wgpu, ffmpeg } = found;
    let plural = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    let cores = cpu.cores.map_or(String::new(), |cores| format!(", {}", plural(cores, "core")));
    let mut lines = vec![
        ("cpu".to_string(), format!("{}{cores}; paints with {}", cpu.name, plural(cpu.threads, "thread"))),
        (
            String::new(),
            format!("instruction sets: {}; used: {}", cpu.instruction_sets.join(", "), cpu.instruction_set),
        ),
        (
            String::new(),
            match cpu.auto_precision {
                "bf16" => {
                    "--precision auto: bf16 where a style's file says that nothing visible is lost, else f32"
                }
                _ => "--precision auto: f32",
            }
            .to_string(),
        ),
    ];
    for (kind, gpus) in [("cuda", cuda), ("wgpu", wgpu)] {
        for gpu in &gpus.devices {
            let problem = gpu.problem.as_ref().map_or(String::new(), |problem| format!("; {problem}"));
            lines.push((gpu.device.clone(), format!("{}{problem}", gpu.name)));
        }
        if let Some(problem) = &gpus.problem {
            lines.push((kind.into(), problem.clone()));
        }
    }
    let ffmpeg = match (&ffmpeg.version, &ffmpeg.path) {
        (Some(version), Some(path)) => format!("{version} at {path}"),
        _ => ffmpeg.problem.clone().unwrap_or_default(),
    };
    lines.push(("ffmpeg".into(), ffmpeg));
    lines.iter().map(|(device, words)| format!("{device:8}{words}\n")).collect()
}
