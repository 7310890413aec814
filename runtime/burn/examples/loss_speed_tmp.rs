use burn::backend::{Autodiff, Flex};
use burn::tensor::Tensor;
use impasto_burn::loss::*;
use impasto_burn::loss_network::*;
use std::time::Instant;
type A = Autodiff<Flex>;
fn cpu() -> f64 {
    let s = std::fs::read_to_string("/proc/self/stat").unwrap();
    let f: Vec<&str> = s.rsplit(") ").next().unwrap().split(' ').collect();
    (f[11].parse::<f64>().unwrap() + f[12].parse::<f64>().unwrap()) / 100.0
}
fn main() {
    let t = Instant::now();
    let w = LossWeights::load(std::env::args().nth(1).unwrap()).unwrap();
    println!("load {:?}", t.elapsed());
    let t = Instant::now();
    let net = LossNetwork::<Flex>::new(&w, &Default::default()).unwrap();
    println!("build {:?}", t.elapsed());
    let names = ["relu1_1", "relu2_1", "relu3_1", "relu4_1"];
    let x = Tensor::<Flex, 4>::random(
        [2, 3, 128, 128],
        burn::tensor::Distribution::Uniform(0.0, 255.0),
        &Default::default(),
    );
    let cfg = PerceptualConfig {
        content_layers: vec![("relu3_1".into(), 1.0)],
        style_layers: names.iter().map(|n| (n.to_string(), 1.0)).collect(),
        content_weight: 1.0,
        style_weight: 1e-6,
        tv_weight: 1e-3,
        statistic: StyleStatistic::Gram,
    };
    let style = Tensor::<Flex, 4>::random(
        [1, 3, 128, 128],
        burn::tensor::Distribution::Uniform(0.0, 255.0),
        &Default::default(),
    );
    let loss =
        PerceptualLoss::new(net.clone(), &cfg, &[StylePicture { rgb255: style, weight: 1.0 }]).unwrap();
    let set = net.layers(&names).unwrap();
    for _ in 0..4 {
        let t = Instant::now();
        let c = loss.content_target(x.clone()).unwrap();
        let tc = t.elapsed();
        let t = Instant::now();
        let f = net.features(x.clone(), &set).unwrap();
        let tf = t.elapsed();
        let t = Instant::now();
        let c0 = cpu();
        let c0 = cpu();
        let (l, g) = loss.value_and_gradient::<A>(x.clone() + 1.0, &c).unwrap();
        println!(
            "content {tc:?} fwd {tf:?} fwd+bwd cpu {:.2} {:?} {} {}",
            cpu() - c0,
            t.elapsed(),
            l.total.into_scalar(),
            g.abs().mean().into_scalar()
        );
        drop(f);
    }
    // plain autodiff
    let anet = LossNetwork::<A>::new(&w, &Default::default()).unwrap();
    for _ in 0..2 {
        let t = Instant::now();
        let c0 = cpu();
        let p = Tensor::<A, 4>::from_inner(x.clone()).require_grad();
        let f = anet.features(p.clone(), &set).unwrap();
        let tf = t.elapsed();
        let mut tot = Tensor::<A, 1>::zeros([1], &Default::default());
        for f in f {
            tot = tot + gram_matrix(f).square().mean();
        }
        let g = p.grad(&tot.backward()).unwrap();
        println!(
            "autodiff fwd {tf:?} fwd+bwd cpu {:.2} {:?} {}",
            cpu() - c0,
            t.elapsed(),
            g.abs().mean().into_scalar()
        );
    }
}
