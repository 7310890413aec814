//! Where a training step's time goes on the CPU: the network forward and back, the loss network, the optimizer, the data.
//!
//! ```text
//! cargo run --release -p impasto-trainer --example step_times -- VGG19.safetensors PHOTOS/ [WIDTH SIZE BATCH]
//! ```
//! Medians of a few rounds after one warm-up round, in milliseconds. Without arguments: random weights, dead leaves.

use std::time::Instant;

use burn::backend::Autodiff;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use burn::train::Learner;
use impasto_burn::TransformNet;
use impasto_burn::backend::Cpu;
use impasto_burn::loss_network::{LossNetworkKind, LossWeights};
use impasto_checkpoints::StyleModel;
use impasto_datasets::{DeadLeaves, FolderOptions, PhotoFolder, Source};
use impasto_trainer::Preset;
use impasto_trainer::learn::criterion::Criterion;
use impasto_trainer::learn::feed::to_tensor;
use impasto_trainer::learn::gain::trained_architecture;
use impasto_trainer::learn::optimizer::NetworkOptimizer;
use impasto_trainer::learn::schedule::Schedule;
use impasto_trainer::learn::stability::Disturbance;
use impasto_trainer::learn::strategy::Components;
use impasto_trainer::learn::trainee::Trainee;
use impasto_trainer::style_picture::StylePicture;

type B = Autodiff<Cpu>;

const ROUNDS: usize = 5;
const PARTS: [&str; 7] = [
    "data (one thread)",
    "to tensor",
    "network forward",
    "stability forward",
    "loss network forward + back",
    "network back, both passes",
    "optimizer",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: usize| arguments.get(at).map_or(Ok(default), |text| text.parse());
    let mut config = Preset::Cpu.config();
    (config.width, config.image_size, config.batch_size) = (number(2, 16)?, number(3, 128)?, number(4, 2)?);
    // The preset leaves the stability term out for its time, which is asked for here.
    config.stability_weight = Preset::Gpu.config().stability_weight;
    let weights = match arguments.first() {
        Some(path) => LossWeights::load(path)?,
        None => LossWeights::random(LossNetworkKind::Vgg19, 0),
    };
    let source: Source = match arguments.get(1) {
        Some(folder) => PhotoFolder::open(folder, &FolderOptions::default())?.into(),
        None => DeadLeaves::default().into(),
    };
    let device = Default::default();
    let (batch, size) = (config.batch_size, config.image_size);
    let style = StylePicture::synthetic(config.style_size)?;
    let pictures = source.batch(0, 0, batch, size as u32)?;
    let photos = to_tensor::<Cpu>(&pictures.images, [batch, size, size], &device);
    let criterion = Criterion::<Cpu>::new(&config, &weights, &style.frame, &[photos], None, &device)?;
    let initial = StyleModel::initial(trained_architecture(config.width, config.output_gain)?, 0)?;
    let trainee = Trainee::<B> { net: TransformNet::from_model(&initial, &device)? };
    let optimizer = NetworkOptimizer::init(config.optimizer);
    let mut learner = Learner::<Components<B>>::new(trainee, optimizer, Schedule::new(&config, 0));

    let mut times = vec![Vec::new(); PARTS.len()];
    for round in 0..=ROUNDS {
        let mut before = Instant::now();
        let mut taken = Vec::new();
        let mut lap = || {
            taken.push(before.elapsed().as_secs_f64() * 1e3);
            before = Instant::now();
        };
        let pictures = source.batch(0, round as u64, batch, size as u32)?;
        lap();
        let photos = to_tensor::<Cpu>(&pictures.images, [batch, size, size], &device);
        let disturbance = Disturbance::draw(&config, round as u64, &device).ok_or("no stability term")?;
        lap();
        let net = learner.model().net;
        let painted = net.forward(Tensor::<B, 4>::from_inner(photos.clone()));
        lap();
        let again = net.forward(Tensor::from_inner(disturbance.photos(&photos)));
        lap();
        let instability = disturbance.loss(painted.clone(), again);
        let (total, _) = criterion.train::<B>(painted, photos, Some(instability))?;
        lap();
        let gradients = GradientsParams::from_grads(total.backward(), &learner.model());
        lap();
        learner.lr_step();
        learner.optimizer_step(gradients);
        lap();
        if round > 0 {
            times.iter_mut().zip(taken).for_each(|(times, time)| times.push(time));
        }
    }
    println!("width {}, {size}², batch {batch}, {} to relu4_1", config.width, weights.origin);
    for (part, mut times) in PARTS.iter().zip(times) {
        times.sort_by(f64::total_cmp);
        println!("{part:32} {:8.1} ms", times[times.len() / 2]);
    }
    Ok(())
}
