//! The dead leaves model: endless synthetic scenes with the statistics of photographs.
//!
//! Opaque disks fall on each other like leaves in autumn; their radii have density r⁻³, which makes the
//! scene look the same at every scale, as the world does, and gives the spectrum of photographs, about
//! 1/f². Each leaf here also has a shade and a texture, so that a network has more than flat areas to
//! learn from.
//!
//! Source: A. B. Lee, D. Mumford, J. Huang, "Occlusion Models for Natural Images: A Statistical Study of
//! a Scale-Invariant Dead Leaves Model", International Journal of Computer Vision 41, 2001.

use std::sync::Arc;

use crate::error::DatasetError;
use crate::rng::{Purpose, Random};
use crate::source::check_batch;
use crate::texture::NoiseTile;

/// Leaves fall until all pixels are covered, or until this many times the scene's area has fallen; the
/// e⁻⁶ = 0.25 % of pixels that are bare by then show the ground.
const LAYERS: f32 = 6.0;

/// The leaves of the scenes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeadLeavesOptions {
    /// The smallest radius, in pixels, at least 0.5; each scene has its own, up to twice this.
    pub min_radius: f32,
    /// The largest radius, as a fraction of the scene's side, above 0 and at most 4.
    pub max_radius: f32,
    /// How strong shade and texture are: 0 for flat leaves as in the paper, 1 as a rule, at most 4.
    pub relief: f32,
}

impl Default for DeadLeavesOptions {
    fn default() -> Self {
        Self { min_radius: 1.0, max_radius: 0.5, relief: 1.0 }
    }
}

/// Endless dead-leaves scenes. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct DeadLeaves {
    options: DeadLeavesOptions,
    noise: Arc<NoiseTile>,
}

impl Default for DeadLeaves {
    fn default() -> Self {
        Self { options: DeadLeavesOptions::default(), noise: Arc::new(NoiseTile::new()) }
    }
}

impl DeadLeaves {
    /// Scenes with these leaves.
    ///
    /// # Errors
    /// [`DatasetError::Config`] for options outside their ranges.
    pub fn new(options: DeadLeavesOptions) -> Result<Self, DatasetError> {
        let DeadLeavesOptions { min_radius, max_radius, relief } = options;
        let broken = if !(0.5..=1e4).contains(&min_radius) {
            format!("a smallest leaf of {min_radius} pixels, expected at least 0.5")
        } else if !(max_radius > 0.0 && max_radius <= 4.0) {
            format!("a largest leaf of {max_radius} sides, expected more than 0 and at most 4")
        } else if !(0.0..=4.0).contains(&relief) {
            format!("a relief of {relief}, expected 0 to 4")
        } else {
            return Ok(Self { options, ..Self::default() });
        };
        Err(DatasetError::Config { reason: broken })
    }

    /// Scene number `index` of `seed`, the same on every platform.
    ///
    /// # Shapes
    /// sRGB bytes, `[size, size, 3]`, rows from the top.
    ///
    /// # Errors
    /// [`DatasetError::Config`] for a size of zero or beyond [`MAX_BATCH_BYTES`](crate::MAX_BATCH_BYTES).
    pub fn scene(&self, seed: u64, index: u64, size: u32) -> Result<Vec<u8>, DatasetError> {
        check_batch(1, size)?;
        let mut scene = vec![0; size as usize * size as usize * 3];
        self.paint_training(seed, index, size, &mut scene);
        Ok(scene)
    }

    /// Scene `index` of `seed` into `out`, which has `size`·`size`·3 bytes.
    pub(crate) fn paint_training(&self, seed: u64, index: u64, size: u32, out: &mut [u8]) {
        self.paint(Random::new(Purpose::Scene, seed, index, 0), size, out);
    }

    /// A scene to validate on: no seed's training scenes contain it.
    pub(crate) fn held_out_scene(&self, index: u64, size: u32) -> Vec<u8> {
        let mut scene = vec![0; size as usize * size as usize * 3];
        self.paint(Random::new(Purpose::HeldOutScene, 0, index, 0), size, &mut scene);
        scene
    }

    /// Paints from the uppermost leaf down, so that a pixel is done once it is covered.
    ///
    /// Only additions, multiplications, divisions, roots and comparisons: exact by IEEE 754, hence equal
    /// on every platform, which sines and powers are not.
    fn paint(&self, mut random: Random, size: u32, out: &mut [u8]) {
        let side = size as f32;
        // Departure from the paper, where it is one number: photos are taken from near and from far, and
        // a squared fraction makes fine detail the rule.
        let near = random.unit();
        let smallest = self.options.min_radius * (1.0 + near * near);
        let largest = (self.options.max_radius * side).max(smallest);
        let shrink = smallest / largest;
        let mood = Mood::draw(&mut random, self.options.relief);
        let mut canvas = Canvas::new(size);
        let mut fallen = 0.0;
        while canvas.bare > 0 && fallen < LAYERS {
            // The inverse of the distribution with density r⁻³ between the two radii.
            let radius = smallest / (1.0 - random.unit() * (1.0 - shrink * shrink)).sqrt();
            // Leaves that touch the scene have their centres within a radius of it. Accepting by that
            // area is the same as letting leaves fall everywhere, without those that miss.
            let reach = side + 2.0 * radius;
            let chance = reach / (side + 2.0 * largest);
            if random.unit() >= chance * chance {
                continue;
            }
            let x = random.unit() * reach - radius;
            let y = random.unit() * reach - radius;
            // The leaf's share of the area that its centre was drawn from is the mean coverage it adds.
            fallen += std::f32::consts::PI * radius * radius / (reach * reach);
            let disk = Disk { x, y, radius };
            // Most leaves fall where all is covered: those need no look.
            if canvas.shows(&disk) {
                canvas.cover(&Leaf::draw(&mut random, &mood, disk), &self.noise);
            }
        }
        canvas.finish(mood.colour(&mut random), out);
    }
}

/// What the leaves of one scene have in common, so that scenes differ from each other as photos do.
struct Mood {
    brightness: f32,
    contrast: f32,
    /// Added to every leaf: the colour of the light.
    cast: [f32; 2],
    saturation: f32,
    relief: f32,
}

impl Mood {
    fn draw(random: &mut Random, relief: f32) -> Self {
        Self {
            brightness: random.between(70.0, 170.0),
            contrast: random.between(30.0, 75.0),
            cast: [12.0 * random.bell(), 6.0 * random.bell()],
            saturation: random.between(5.0, 45.0),
            relief,
        }
    }

    /// A colour as brightness and two opponent axes: photographs vary most in the first, less from
    /// orange to blue, least from green to purple.
    fn colour(&self, random: &mut Random) -> [f32; 3] {
        let light = self.brightness + self.contrast * random.bell();
        let warm = self.cast[0] + self.saturation * random.bell();
        let green = self.cast[1] + 0.4 * self.saturation * random.bell();
        [light + warm - 0.5 * green, light + 0.1 * warm + 0.6 * green, light - warm - 0.5 * green]
    }
}

/// Where a leaf lies.
struct Disk {
    x: f32,
    y: f32,
    radius: f32,
}

impl Disk {
    /// Half a pixel beyond the rim: where pixels begin to be covered.
    fn outer(&self) -> f32 {
        self.radius + 0.5
    }

    /// Half of the row's length within the disk, by the middle of the row.
    fn half_row(&self, y: u32) -> f32 {
        let dy = y as f32 + 0.5 - self.y;
        (self.outer() * self.outer() - dy * dy).max(0.0).sqrt()
    }
}

/// One disk, with its colour, shade and texture.
struct Leaf {
    disk: Disk,
    colour: [f32; 3],
    /// Change of brightness for each pixel to the right and down: light from one side.
    slope: [f32; 2],
    /// How much darker the rim is than the centre: roundness.
    rim: f32,
    texture: Texture,
    /// Grey levels for a texture value of 1.
    amplitude: f32,
    /// Pixels to texture coordinates, in 1/256: a rotation and a scale.
    turn: [i32; 2],
    shift: [i32; 2],
}

#[derive(Clone, Copy, PartialEq)]
enum Texture {
    Plain,
    Noise,
    Stripes,
}

impl Leaf {
    fn draw(random: &mut Random, mood: &Mood, disk: Disk) -> Self {
        let [light_x, light_y] = direction(random);
        let shade = mood.relief * random.between(0.0, 45.0) / disk.radius;
        let texture = match random.below(8) {
            0 | 1 => Texture::Plain,
            2 => Texture::Stripes,
            _ => Texture::Noise,
        };
        let strength = random.unit();
        let [turn_x, turn_y] = direction(random);
        let scale = 256.0 * random.between(0.4, 1.6);
        Self {
            disk,
            colour: mood.colour(random),
            slope: [shade * light_x, shade * light_y],
            rim: mood.relief * random.between(0.0, 30.0),
            texture,
            // Squared, so that weak textures are the rule.
            amplitude: mood.relief * 70.0 * strength * strength,
            turn: [(scale * turn_x) as i32, (scale * turn_y) as i32],
            shift: [random.below(1 << 16) as i32, random.below(1 << 16) as i32],
        }
    }

    /// How far the texture lifts the brightness at a pixel.
    fn texture_at(&self, noise: &NoiseTile, x: i32, y: i32) -> f32 {
        if self.texture == Texture::Plain {
            return 0.0;
        }
        // Wrapping is harmless, both textures repeat.
        let [c, s] = self.turn;
        let u = c.wrapping_mul(x).wrapping_sub(s.wrapping_mul(y)).wrapping_add(self.shift[0]);
        if self.texture == Texture::Stripes {
            // A triangle wave with a period of 16 texture pixels, within ±1/2.
            return self.amplitude * (((u & 4095) - 2048).abs() - 1024) as f32 / 2048.0;
        }
        let v = s.wrapping_mul(x).wrapping_add(c.wrapping_mul(y)).wrapping_add(self.shift[1]);
        self.amplitude * noise.at(u >> 8, v >> 8)
    }
}

/// A direction as a unit vector, by rejection from the square.
fn direction(random: &mut Random) -> [f32; 2] {
    loop {
        let (x, y) = (random.between(-1.0, 1.0), random.between(-1.0, 1.0));
        let square = x * x + y * y;
        if (0.01..=1.0).contains(&square) {
            let length = square.sqrt();
            return [x / length, y / length];
        }
    }
}

/// A scene in the making.
struct Canvas {
    size: u32,
    colours: Vec<[f32; 3]>,
    /// How much of each pixel is still bare, 1 to 0; rims cover pixels in part, which smooths them.
    open: Vec<f32>,
    /// How many pixels are bare in part or whole.
    bare: usize,
}

impl Canvas {
    fn new(size: u32) -> Self {
        let pixels = size as usize * size as usize;
        Self { size, colours: vec![[0.0; 3]; pixels], open: vec![1.0; pixels], bare: pixels }
    }

    /// Whether any pixel under this disk is bare in part.
    fn shows(&self, disk: &Disk) -> bool {
        self.span(disk.y, disk.outer()).any(|y| {
            let row = y as usize * self.size as usize;
            self.span(disk.x, disk.half_row(y)).any(|x| self.open[row + x as usize] > 0.0)
        })
    }

    /// Puts a leaf below all that is there.
    fn cover(&mut self, leaf: &Leaf, noise: &NoiseTile) {
        let disk = &leaf.disk;
        let outer = disk.outer();
        let inner = (disk.radius - 0.5).max(0.0);
        let roundness = leaf.rim / (disk.radius * disk.radius);
        for y in self.span(disk.y, outer) {
            let dy = y as f32 + 0.5 - disk.y;
            let row = y as usize * self.size as usize;
            for x in self.span(disk.x, disk.half_row(y)) {
                let open = self.open[row + x as usize];
                if open == 0.0 {
                    continue;
                }
                let dx = x as f32 + 0.5 - disk.x;
                let square = dx * dx + dy * dy;
                let cover =
                    if square <= inner * inner { 1.0 } else { (outer - square.sqrt()).clamp(0.0, 1.0) };
                let light = leaf.slope[0] * dx + leaf.slope[1] * dy - roundness * square
                    + leaf.texture_at(noise, x as i32, y as i32);
                for (sum, colour) in self.colours[row + x as usize].iter_mut().zip(leaf.colour) {
                    *sum += open * cover * (colour + light).clamp(0.0, 255.0);
                }
                // Below half a grey level nothing underneath can show.
                let left = open * (1.0 - cover);
                let left = if left < 1.0 / 512.0 { 0.0 } else { left };
                self.open[row + x as usize] = left;
                self.bare -= usize::from(left == 0.0);
            }
        }
    }

    /// The pixels whose middles lie within `reach` of `centre`.
    fn span(&self, centre: f32, reach: f32) -> std::ops::Range<u32> {
        let first = (centre - reach - 0.5).ceil().max(0.0) as u32;
        let end = ((centre + reach - 0.5).floor() + 1.0).clamp(0.0, self.size as f32) as u32;
        first..end
    }

    /// Fills what is bare and writes the bytes.
    fn finish(&self, ground: [f32; 3], out: &mut [u8]) {
        for ((to, sum), open) in out.chunks_exact_mut(3).zip(&self.colours).zip(&self.open) {
            for ((byte, sum), ground) in to.iter_mut().zip(sum).zip(ground) {
                *byte = (sum + open * ground.clamp(0.0, 255.0) + 0.5).clamp(0.0, 255.0) as u8;
            }
        }
    }
}
