use std::hint::black_box;
use std::time::Instant;
use std::path::Path;
use impasto::picture::*;
fn many(name:&str, n:usize, mut f: impl FnMut()){ let mut all=vec![]; let total=Instant::now(); for _ in 0..n {let t=Instant::now(); f(); all.push(t.elapsed().as_secs_f64()*1e3);} let whole=total.elapsed().as_secs_f64()*1e3/n as f64; all.sort_by(f64::total_cmp); println!("{name}: min {:.3} median {:.3} max {:.3} mean-of-whole {:.3} ms",all[0],all[n/2],all[n-1],whole);}
#[test]
fn timing(){
  let dir=Path::new("/work/shared/data/photos/eval");
  let pic=|n:&str| Picture::open(dir.join(n),&Default::default()).unwrap();
  let (a,b)=(pic("kodak_01.png"),pic("kodak_02.png"));
  for bytes in [1usize<<20, 1179648, 64<<20] { let src=vec![7u8;bytes]; let mut dst=vec![1u8;bytes]; many(&format!("memcpy {bytes}"),100,||{black_box(&mut dst).copy_from_slice(black_box(&src));}); 
    many(&format!("to_vec {bytes}"),100,||{black_box(black_box(&src).to_vec());}); }
  many("tiff 768x512",200,||{black_box(black_box(&a).encode(Format::Tiff,&Default::default()).unwrap());});
  let p=resize_frame(&a.frame,640,480).unwrap(); let o=resize_frame(&b.frame,640,480).unwrap();
  many("side 640x480",200,||{black_box(side_by_side(black_box(&p),black_box(&o)));});
  let mut m=p.clone();
  many("blend",200,||{blend(black_box(&mut m),black_box(&o),0.6).unwrap();});
  let mut m=p.clone();
  many("keep",200,||{keep_colors(black_box(&mut m),black_box(&o)).unwrap();});
  let mut r=Resizer::new(); let mut into=impasto::Frame::black(320,240); many("resize half",200,||r.resize_into(black_box(&p),black_box(&mut into)).unwrap());
  let mut into=impasto::Frame::black(1280,960); many("resize double",100,||r.resize_into(black_box(&p),black_box(&mut into)).unwrap());
  let j=Picture::from(p.clone()).encode(Format::Jpeg,&Default::default()).unwrap(); many("jpeg dec 640x480 q90",100,||{black_box(Picture::from_bytes(black_box(&j),"x",&Default::default()).unwrap());});
  for f in [Format::Png,Format::Jpeg,Format::WebP,Format::Tiff] { let q=Picture::from(p.clone()); many(&format!("enc {f:?} 640x480"),50,||{black_box(black_box(&q).encode(f,&Default::default()).unwrap());}); }
}
