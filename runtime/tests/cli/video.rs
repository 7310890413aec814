//! `impasto video` when all is well: frames, timestamps, duration, sound and colours are the source's.

use impasto_test_support::test_data;

use super::media::{
    assert_same_steps, assert_same_times, clip_with_sound, ffmpeg, ffmpeg_is_there, probe, psnr, shown,
    sound_hashes,
};
use super::support::Studio;

/// Timestamps are printed with 6 digits.
const EXACT: f64 = 2e-6;
/// Matroska counts milliseconds.
const MILLISECOND: f64 = 0.0011;
/// GIF counts hundredths of a second.
const HUNDREDTH: f64 = 0.0051;

/// Paints `source` to `result`, which must go well; gives what was said.
fn paint(studio: &Studio, source: &str, result: &str, more: &[&str]) -> String {
    let mut command = studio.impasto(&["video", "--model", "style.safetensors", source, "-o", result]);
    let output = command.args(more).output().expect("it ran");
    let text = String::from_utf8(output.stderr).expect("text");
    assert!(output.status.success(), "{source} to {result}: {text}");
    text
}

#[test]
fn times_and_sound_are_the_sources_whatever_the_source() {
    if !ffmpeg_is_there("video timestamps") {
        return;
    }
    let studio = Studio::new();
    clip_with_sound(&studio, "constant.mp4", "testsrc=s=64x48:r=25:d=2", "");
    // Irregular, and the last frame lasts half a second.
    let irregular =
        "select=not(mod(n\\,3))+not(mod(n\\,7)),tpad=stop=1,settb=1/15360,setpts=PTS+gte(N\\,20)*3000";
    clip_with_sound(
        &studio,
        "variable.mp4",
        "testsrc=s=64x48:r=30:d=2",
        &format!("-vf {irregular} -fps_mode vfr"),
    );
    clip_with_sound(&studio, "plain.mp4", "testsrc=s=64x48:r=25:d=2", "-bf 0");
    ffmpeg(
        &studio,
        "-i plain.mp4 -c copy -bsf:v setts=pts=PTS:dts=DTS:duration='if(eq(N,49),7777,DURATION)' long_end.mp4",
    );
    ffmpeg(&studio, "-i constant.mp4 -c copy -metadata:s:v:0 rotate=90 turned.mp4");
    ffmpeg(&studio, "-f lavfi -i testsrc=s=64x48:r=30000/1001:d=1 -c:v libx264 silent.mp4");
    ffmpeg(&studio, "-f lavfi -i testsrc=s=64x48:r=25:d=0.04 -c:v libx264 single.mp4");
    ffmpeg(
        &studio,
        "-f lavfi -i testsrc=s=64x48:r=25:d=1 -vf crop=61:47,format=yuv444p -c:v libx264 odd.mp4",
    );
    ffmpeg(
        &studio,
        "-itsoffset 0.7 -i constant.mp4 -i constant.mp4 -map 0:v -map 1:a -c copy late_video.mp4",
    );
    clip_with_sound(&studio, "offset.mkv", "testsrc=s=64x48:r=25:d=2", "-output_ts_offset 5");
    ffmpeg(&studio, "-f lavfi -i testsrc=s=64x48:r=50:d=1 -c:v mpeg2video -f mpegts clock.ts");
    let cases = [
        ("constant.mp4", "mp4", EXACT),
        ("variable.mp4", "mp4", EXACT),
        ("long_end.mp4", "mp4", EXACT),
        ("turned.mp4", "mp4", EXACT),
        ("silent.mp4", "mov", EXACT),
        ("single.mp4", "mp4", EXACT),
        ("odd.mp4", "mp4", EXACT),
        ("late_video.mp4", "mp4", EXACT),
        ("offset.mkv", "mp4", EXACT),
        ("offset.mkv", "mkv", MILLISECOND),
        ("clock.ts", "mp4", EXACT),
    ];
    for (source, extension, tolerance) in cases {
        let result = format!("{source}.out.{extension}");
        paint(&studio, source, &result, &[]);
        let (source, result) = (studio.path(source), studio.path(&result));
        assert_same_times(&result, &source, tolerance);
        assert_eq!(sound_hashes(&result), sound_hashes(&source), "{}", result.display());
    }
    // Upright, without a mark that would turn it again.
    let turned = probe(&studio.path("turned.mp4.out.mp4"), "stream=width,height:stream_side_data=rotation");
    assert_eq!((&turned["streams"][0]["width"], &turned["streams"][0]["height"]), (&48.into(), &64.into()));
    assert!(turned["streams"][0]["side_data_list"].is_null(), "{turned}");
    let names = studio.files();
    assert!(!names.iter().any(|name| name.contains(".part")), "{names:?}");
}

#[test]
fn strength_0_is_the_source() {
    if !ffmpeg_is_there("video colours") {
        return;
    }
    let studio = Studio::new();
    // Colours within the gamut of RGB, as cameras give them, in each way to code them.
    let chart = "-f lavfi -i testsrc=s=96x64:r=25:d=0.4,gblur=sigma=2";
    let x264 = "-c:v libx264 -qp 1";
    for (name, options) in [
        ("silent.mp4", format!("-vf format=yuv420p {x264}")),
        ("full.mp4", format!("-vf scale=out_range=pc,format=yuv420p {x264} -color_range pc")),
        (
            "hd.mp4",
            format!(
                "-vf scale=out_color_matrix=bt709,format=yuv420p {x264} -colorspace bt709 -color_range tv \
                     -color_primaries bt709 -color_trc bt709"
            ),
        ),
        ("ten.mp4", format!("-vf format=yuv420p10le {x264}")),
        ("uhd.mp4", format!("-vf scale=out_color_matrix=bt2020,format=yuv420p {x264} -colorspace bt2020nc")),
        ("fine.mp4", format!("-vf crop=95:63,format=yuv444p {x264}")),
    ] {
        ffmpeg(&studio, &format!("{chart} {options} {name}"));
        let result = format!("out.{name}");
        let said = paint(&studio, name, &result, &["--strength", "0"]);
        let (source, path) = (studio.path(name), studio.path(&result));
        let tags = "stream=color_range,color_space,color_primaries,color_transfer";
        assert_eq!(probe(&path, tags)["streams"], probe(&source, tags)["streams"], "{name}");
        // Odd sides are compared with their last row and column repeated, as they are written.
        let even = "format=yuv444p,pad=96:64,fillborders=right=1:bottom=1:mode=smear,format=yuv420p";
        let filters = if name == "fine.mp4" { even } else { "format=yuv420p" };
        let decibels = psnr(&path, &source, filters);
        assert!(decibels >= 40.0, "{name}: {decibels} dB");
        assert_eq!(said.contains("made even"), name == "fine.mp4", "{said}");
        assert_eq!(said.contains("more than 8 bits"), name == "ten.mp4", "{said}");
    }
}

/// A large video that does not say how its colours are coded is BT.709 to players, a small one BT.601. What is made
/// smaller looks the same all the same.
#[test]
fn colours_that_are_not_told_survive_another_size() {
    if !ffmpeg_is_there("untold colours") {
        return;
    }
    let studio = Studio::new();
    let green = "-f lavfi -i color=0x20c040:s=1280x720:r=5:d=0.4";
    ffmpeg(
        &studio,
        &format!("{green} -vf scale=out_color_matrix=bt709,format=yuv420p -c:v libx264 -qp 4 in.mkv"),
    );
    let seen = |name: &str, matrix: &str| {
        let look = format!("-vf scale=in_color_matrix={matrix},format=rgb24 -frames:v 1 -f rawvideo -");
        ffmpeg(&studio, &format!("-i {name} {look}")).stdout[..3].to_vec()
    };
    paint(&studio, "in.mkv", "large.mkv", &["--strength", "0"]);
    paint(&studio, "in.mkv", "small.mkv", &["--strength", "0", "--size", "128"]);
    let source = seen("in.mkv", "bt709");
    for (name, matrix) in [("large.mkv", "bt709"), ("small.mkv", "bt601")] {
        let result = seen(name, matrix);
        let off = source.iter().zip(&result).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(off <= 3, "{name}: {source:?} became {result:?}");
    }
}

#[test]
fn every_container_and_codec_is_written_or_named_as_missing() {
    if !ffmpeg_is_there("video containers") {
        return;
    }
    let studio = Studio::new();
    clip_with_sound(&studio, "clip.mp4", "testsrc=s=96x64:r=25:d=1", "");
    let encoders = String::from_utf8(ffmpeg(&studio, "-encoders").stdout).unwrap();
    for (result, codec, needs, stream, tolerance) in [
        ("a.mp4", "h265", "libx265", "hevc", EXACT),
        ("b.mp4", "av1", "libsvtav1", "av1", EXACT),
        ("c.mkv", "vp9", "libvpx-vp9", "vp9", MILLISECOND),
        ("d.webm", "vp9", "libvpx-vp9", "vp9", MILLISECOND),
        ("e.mov", "h264", "libx264", "h264", EXACT),
    ] {
        if !encoders.contains(needs) {
            let line = studio.impasto(&["video", "--model", "style.safetensors", "clip.mp4", "-o", result]);
            let error = super::support::failure({ line }.args(["--codec", codec]));
            assert!(error.contains(needs) && error.contains("hint"), "{error}");
            continue;
        }
        let said = paint(&studio, "clip.mp4", result, &["--codec", codec]);
        let path = studio.path(result);
        assert_same_steps(&path, &studio.path("clip.mp4"), tolerance);
        let told = probe(&path, "stream=codec_name,pix_fmt");
        assert_eq!(told["streams"][0]["codec_name"], stream, "{told}");
        assert_eq!(told["streams"][0]["pix_fmt"], "yuv420p", "{told}");
        let webm = result.ends_with("webm");
        assert_eq!(told["streams"][1]["codec_name"], if webm { "opus" } else { "aac" }, "{told}");
        assert_eq!(said.contains("encoded anew as opus"), webm, "{said}");
    }
    // Lower quality, smaller file; the file can be played before it is whole.
    let size = |name: &str| std::fs::metadata(studio.path(name)).unwrap().len();
    paint(&studio, "clip.mp4", "fine.mp4", &["--quality", "10", "--preset", "fast"]);
    paint(&studio, "clip.mp4", "coarse.mp4", &["--quality", "45"]);
    assert!(size("coarse.mp4") < size("fine.mp4"));
    let bytes = std::fs::read(studio.path("fine.mp4")).unwrap();
    let find = |name: &[u8]| bytes.windows(4).position(|part| part == name).unwrap();
    assert!(find(b"moov") < find(b"mdat"));
}

/// Sound that the container or its codec takes only with care: Opus knows no side speakers, Matroska no floats of the
/// other byte order, and FFmpeg 5 calls FLAC in .mp4 an experiment.
#[test]
fn sound_that_a_container_is_particular_about_comes_along() {
    if !ffmpeg_is_there("particular sound") {
        return;
    }
    let studio = Studio::new();
    for (source, sound, result, codec, layout) in [
        ("side.mkv", "-af aformat=channel_layouts=5.1(side) -c:a ac3", "side.webm", "opus", "5.1"),
        ("low.mov", "-af aformat=channel_layouts=2.1 -c:a pcm_s16le", "low.webm", "opus", "stereo"),
        ("flac.mkv", "-c:a flac", "flac.mp4", "flac", "mono"),
        ("floats.mov", "-c:a pcm_f32be", "floats.mkv", "flac", "mono"),
        ("packed.mov", "-c:a adpcm_ima_qt", "packed.mkv", "flac", "mono"),
    ] {
        clip_with_sound(&studio, source, "testsrc=s=64x48:r=25:d=0.4", sound);
        let said = paint(&studio, source, result, &["--strength", "0"]);
        let told = probe(&studio.path(result), "stream=codec_name,channel_layout");
        let sound = &told["streams"][1];
        assert_eq!(
            (&sound["codec_name"], &sound["channel_layout"]),
            (&codec.into(), &layout.into()),
            "{told}"
        );
        // A hint never names what is done already.
        assert_eq!(said.contains(".mkv would keep it"), result.ends_with("webm"), "{source}: {said}");
    }
}

/// What ffmpeg says of every video of a phone or a camera is no complaint about this one.
#[test]
fn nothing_is_said_of_a_source_that_is_whole() {
    if !ffmpeg_is_there("whole sources") {
        return;
    }
    let studio = Studio::new();
    clip_with_sound(&studio, "full_range.mp4", "testsrc=s=64x48:r=25:d=0.2", "-pix_fmt yuvj420p");
    clip_with_sound(&studio, "speakers.avi", "testsrc=s=64x48:r=25:d=0.2", "-c:v mjpeg -c:a pcm_s16le");
    for source in ["full_range.mp4", "speakers.avi"] {
        let said = paint(&studio, source, &format!("{source}.mkv"), &["--strength", "0"]);
        assert!(!said.contains("note:"), "{source}: {said}");
    }
}

#[test]
fn covers_and_transparency_are_missed_with_a_note() {
    if !ffmpeg_is_there("covers and transparency") {
        return;
    }
    let studio = Studio::new();
    let clip = "-f lavfi -i testsrc=s=64x48:r=25:d=0.2";
    let cover = "-f lavfi -i testsrc=s=64x64:d=0.04 -map 0 -map 1 -c:v:0 libx264 -c:v:1 mjpeg";
    ffmpeg(&studio, &format!("{clip} {cover} -disposition:v:1 attached_pic cover.mp4"));
    ffmpeg(&studio, &format!("{clip} -c:v qtrle -pix_fmt argb transparent.mov"));
    ffmpeg(&studio, &format!("{clip} -c:v libvpx-vp9 -pix_fmt yuva420p transparent.webm"));
    for (source, expected) in [
        ("cover.mp4", "a cover or second video"),
        ("transparent.mov", "without its transparency"),
        ("transparent.webm", "without its transparency"),
    ] {
        let said = paint(&studio, source, &format!("{source}.mkv"), &["--strength", "0"]);
        assert_eq!(said.matches("note:").count(), 1, "{source}: {said}");
        assert!(said.contains(expected), "{source}: {said}");
    }
}

#[test]
fn gif_in_and_out_keeps_its_delays() {
    if !ffmpeg_is_there("animated GIF") {
        return;
    }
    let studio = Studio::new();
    let delays = "setpts=PTS+gt(N\\,9)*0.5/TB";
    ffmpeg(
        &studio,
        &format!("-f lavfi -i testsrc=s=41x30:r=10:d=2 -vf {delays} -fps_mode vfr -final_delay 70 in.gif"),
    );
    clip_with_sound(&studio, "in.mp4", "testsrc=s=40x30:r=25:d=1", "");
    for (source, result) in [("in.gif", "out.gif"), ("in.gif", "out.mp4"), ("in.mp4", "film.gif")] {
        let said = paint(&studio, source, result, &[]);
        assert_same_times(&studio.path(result), &studio.path(source), HUNDREDTH);
        assert_eq!(said.contains("left out"), source == "in.mp4", "{said}");
    }
    assert!((shown(&studio.path("out.gif")).seconds - 3.1).abs() < HUNDREDTH);
    // 150 frames a second do not fit in hundredths; each second that fits is shown.
    ffmpeg(&studio, "-f lavfi -i testsrc=s=40x30:r=150:d=0.4 -c:v libx264 fast.mp4");
    let said = paint(&studio, "fast.mp4", "fast.gif", &[]);
    let frames = shown(&studio.path("fast.gif")).times.len();
    assert!(frames < 60 && said.contains(&format!("{} frames left out", 60 - frames)), "{frames}: {said}");
}

#[test]
fn subtitles_chapters_and_names_come_along() {
    if !ffmpeg_is_there("subtitles") {
        return;
    }
    let studio = Studio::new();
    clip_with_sound(&studio, "plain.mkv", "testsrc=s=64x48:r=25:d=2", "");
    studio.write(
        "words.srt",
        b"1\n00:00:00,200 --> 00:00:00,900\nHello\n\n2\n00:00:01,200 --> 00:00:01,900\nWorld\n",
    );
    studio.write(
        "names.txt",
        b";FFMETADATA1\ntitle=Clip\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=1000\ntitle=One\n\
          [CHAPTER]\nTIMEBASE=1/1000\nSTART=1000\nEND=2000\ntitle=Two\n",
    );
    studio.write("letters.ttf", b"no font, but carried like one");
    ffmpeg(
        &studio,
        "-i plain.mkv -i words.srt -i names.txt -map 0:a -map 0:v -map 1 -map_metadata 2 -c copy -c:s srt \
         -metadata:s:a:0 language=fra -metadata:s:s:0 language=deu -metadata:s:v:0 language=eng -metadata:s:v:0 title=Main \
         -attach letters.ttf -metadata:s:t:0 mimetype=application/x-truetype-font source.mkv",
    );
    let words = |name: &str| {
        String::from_utf8(ffmpeg(&studio, &format!("-i {name} -map 0:s -f srt -")).stdout).unwrap()
    };
    for (result, codec) in [("out.mkv", "subrip"), ("out.mp4", "mov_text"), ("out.webm", "webvtt")] {
        paint(&studio, "source.mkv", result, &[]);
        let path = studio.path(result);
        let told = probe(
            &path,
            "stream=codec_type,codec_name:stream_tags=language,title:chapter_tags=title:format_tags=title",
        );
        let stream = |kind: &str| {
            let streams = told["streams"].as_array().unwrap();
            streams.iter().find(|stream| stream["codec_type"] == kind).cloned().unwrap_or_default()
        };
        assert_eq!(stream("subtitle")["codec_name"], codec, "{told}");
        assert_eq!(stream("subtitle")["tags"]["language"], "deu", "{told}");
        assert_eq!(stream("audio")["tags"]["language"], "fra", "{told}");
        assert_eq!(stream("video")["tags"]["language"], "eng", "{told}");
        assert_eq!(stream("attachment").is_null(), result != "out.mkv", "{told}");
        assert_eq!(told["format"]["tags"]["title"], "Clip", "{told}");
        assert_eq!(told["chapters"][1]["tags"]["title"], "Two", "{told}");
        if result == "out.webm" {
            // All streams a little later, by what the new sound's codec needs to run in.
            assert!(words(result).contains("Hello") && words(result).contains("World"));
        } else {
            assert_eq!(words(result), words("source.mkv"), "{result}");
        }
    }
}

#[test]
fn a_part_begins_where_asked_and_is_as_long_as_asked() {
    if !ffmpeg_is_there("part of a video") {
        return;
    }
    let studio = Studio::new();
    // Clocks that begin at 0 and later.
    clip_with_sound(&studio, "zero.mp4", "testsrc=s=64x48:r=25:d=4", "-g 20");
    clip_with_sound(&studio, "late.mkv", "testsrc=s=64x48:r=25:d=4", "-g 20 -output_ts_offset 100");
    // In these ffmpeg seeks to the key frame after the one it should.
    clip_with_sound(&studio, "send.ts", "testsrc=s=64x48:r=25:d=4", "-g 20 -f mpegts");
    clip_with_sound(&studio, "one_key_frame.ts", "testsrc=s=64x48:r=25:d=4", "-g 200 -f mpegts");
    for source in ["zero.mp4", "late.mkv", "send.ts", "one_key_frame.ts"] {
        let begin = shown(&studio.path(source)).times[0];
        paint(
            &studio,
            source,
            "part.mp4",
            &["--start", "1.01", "--duration", "0:02", "--overwrite", "--strength", "0"],
        );
        let part = shown(&studio.path("part.mp4"));
        assert_eq!(part.times[0], 0.0, "{source}");
        assert_eq!(part.times.len(), 50, "{source}");
        assert!((part.seconds - 2.0).abs() < EXACT, "{source}: {} seconds", part.seconds);
        // It begins with the first frame after the start: the one at 1.04 on the file's clock.
        let file_begin = probe(&studio.path(source), "format=start_time")["format"]["start_time"].clone();
        let file_begin: f64 = file_begin.as_str().unwrap().parse().unwrap();
        let first = (file_begin + 1.01 - begin) / 0.04;
        let against = |first: f64| {
            let trim = format!("trim=start_frame={first},setpts=PTS-STARTPTS");
            psnr(&studio.path("part.mp4"), &studio.path(source), &trim)
        };
        let (before, exact, after) = (first.ceil() - 1.0, first.ceil(), first.ceil() + 1.0);
        assert!(against(exact) > against(before) && against(exact) > against(after), "{source}");
        let sound = probe(&studio.path("part.mp4"), "stream=codec_type,start_time,duration");
        let sound =
            sound["streams"].as_array().unwrap().iter().find(|s| s["codec_type"] == "audio").unwrap().clone();
        let seconds = |name: &str| sound[name].as_str().unwrap().parse::<f64>().unwrap();
        // To within a packet of 1024 samples at either end.
        assert!(seconds("start_time") < 0.024, "{sound}");
        assert!((seconds("start_time") + seconds("duration") - 2.0).abs() < 0.05, "{sound}");
    }
    let line = super::support::failure(
        studio
            .impasto(&["video", "--model", "style.safetensors", "zero.mp4", "-o", "x.mp4"])
            .args(["--start", "9"]),
    );
    assert!(line.contains("--start 9") && line.contains("4.0"), "{line}");
}

/// Of the subtitles and chapters, those of the part, at its times: what is said before it would begin the result.
#[test]
fn a_part_has_its_own_subtitles_and_chapters() {
    if !ffmpeg_is_there("subtitles of a part") {
        return;
    }
    let studio = Studio::new();
    clip_with_sound(&studio, "plain.mkv", "testsrc=s=64x48:r=25:d=6", "-g 200");
    let lines = [(200, "Hello"), (1500, "World"), (4500, "Later")].map(|(at, word)| {
        format!(
            "0\n00:00:0{0},{1:03} --> 00:00:0{0},{2:03}\n{word}\n\n",
            at / 1000,
            at % 1000,
            at % 1000 + 400
        )
    });
    studio.write("words.srt", lines.concat().as_bytes());
    studio.write(
        "names.txt",
        b";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=2000\ntitle=One\n\
          [CHAPTER]\nTIMEBASE=1/1000\nSTART=2000\nEND=6000\ntitle=Two\n",
    );
    ffmpeg(
        &studio,
        "-i plain.mkv -i words.srt -i names.txt -map 0 -map 1 -map_metadata 2 -c copy -c:s srt source.mkv",
    );
    for result in ["out.mkv", "out.mp4"] {
        paint(&studio, "source.mkv", result, &["--start", "1", "--duration", "2", "--strength", "0"]);
        let told = probe(&studio.path(result), "format=duration:packet=codec_type,pts_time");
        let packets = told["packets"].as_array().unwrap();
        let first = |kind: &str| {
            let packet = packets.iter().find(|packet| packet["codec_type"] == kind).unwrap();
            packet["pts_time"].as_str().unwrap().parse::<f64>().unwrap()
        };
        assert!(first("video") < 0.05, "{result}: {}", first("video"));
        let words = ffmpeg(&studio, &format!("-i {result} -map 0:s -f srt -")).stdout;
        let words = String::from_utf8(words).unwrap();
        assert!(!words.contains("Hello") && !words.contains("Later"), "{result}: {words}");
        let begins = words.split_once("00:00:00,").and_then(|(_, rest)| rest[..3].parse::<f64>().ok());
        // To within a frame and what Matroska moves all streams by.
        assert!((begins.unwrap() - 500.0).abs() < 70.0, "{result}: {words}");
        let seconds: f64 = told["format"]["duration"].as_str().unwrap().parse().unwrap();
        assert!((seconds - 2.0).abs() < 0.1, "{result}: {seconds} seconds");
    }
}

/// Recordings put one behind the other with `cat`, as people do with .ts and .vob: the clock begins anew in the middle.
#[test]
fn joined_recordings_follow_one_another() {
    if !ffmpeg_is_there("joined recordings") {
        return;
    }
    let studio = Studio::new();
    for (name, codecs) in
        [("joined.ts", "-c:a aac -f mpegts"), ("joined.vob", "-c:v mpeg2video -c:a mp2 -f vob")]
    {
        clip_with_sound(&studio, "piece", "testsrc=s=64x48:r=25:d=2", codecs);
        studio.write(name, &std::fs::read(studio.path("piece")).unwrap().repeat(2));
        paint(&studio, name, "out.mp4", &["--overwrite", "--strength", "0"]);
        let result = shown(&studio.path("out.mp4"));
        assert_eq!(result.times.len(), 100, "{name}");
        for (at, pair) in result.times.windows(2).enumerate() {
            assert!((pair[1] - pair[0] - 0.04).abs() < MILLISECOND, "{name}: frame {at}: {pair:?}");
        }
        // The second piece's sound with its picture, to within what the first one's is longer.
        let told = probe(&studio.path("out.mp4"), "stream=codec_type,duration");
        let sound = told["streams"].as_array().unwrap().iter().find(|s| s["codec_type"] == "audio").unwrap();
        let seconds: f64 = sound["duration"].as_str().unwrap().parse().unwrap();
        assert!((seconds - 4.0).abs() < 0.15, "{name}: {seconds} seconds of sound");
    }
}

/// The fields of a frame show two moments; painted as one picture, each moving edge would be a comb.
#[test]
fn fields_become_whole_frames() {
    if !ffmpeg_is_there("interlaced video") {
        return;
    }
    let studio = Studio::new();
    // Stripes that move by four pixels from one field to the next.
    let stripes = "-f lavfi -i nullsrc=s=96x64:r=50:d=1,geq=lum=128+100*sin((X-4*N)/8):cb=128:cr=128";
    let fields = "tinterlace=interleave_bottom -c:v libx264 -x264-params bff=1 -qp 4";
    ffmpeg(&studio, &format!("{stripes} -vf {fields} fields.mp4"));
    let first = "select=not(mod(n\\,2)) -r 25 -c:v libx264 -qp 4";
    ffmpeg(&studio, &format!("{stripes} -vf {first} whole.mp4"));
    let said = paint(&studio, "fields.mp4", "out.mp4", &["--strength", "0"]);
    assert!(said.contains("interlaced"), "{said}");
    assert_same_times(&studio.path("out.mp4"), &studio.path("fields.mp4"), EXACT);
    assert_eq!(
        probe(&studio.path("out.mp4"), "stream=field_order")["streams"][0]["field_order"],
        "progressive"
    );
    let luma = |name: &str| psnr(&studio.path(name), &studio.path("whole.mp4"), "null");
    assert!(luma("out.mp4") > luma("fields.mp4") + 3.0, "{} dB, {} dB", luma("out.mp4"), luma("fields.mp4"));
}

#[test]
fn sizes_and_views_are_as_asked_and_the_report_tells_them() {
    if !ffmpeg_is_there("video report") {
        return;
    }
    let studio = Studio::new();
    clip_with_sound(&studio, "clip.mp4", "testsrc=s=64x46:r=25:d=1", "");
    for (more, width, height) in [
        (&["--size", "100"][..], 100, 72),
        (&["--size", "33"], 34, 24),
        (&["--side-by-side"], 128, 46),
        (&["--stroke-scale", "0.5", "--keep-colors"], 64, 46),
    ] {
        let mut command =
            studio.impasto(&["video", "--model", "style.safetensors", "clip.mp4", "-o", "out.mp4"]);
        let output = command.args(["--json", "--overwrite"]).args(more).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&report["width"], &report["height"]), (&width.into(), &height.into()), "{more:?}");
        assert_eq!(report["frames"], 25);
        assert!((report["seconds"].as_f64().unwrap() - 1.0).abs() < EXACT, "{report}");
        for stage in ["decode", "paint", "encode"] {
            assert!(report[stage]["busy_seconds"].as_f64().unwrap() > 0.0, "{report}");
        }
        let told = probe(&studio.path("out.mp4"), "stream=width,height");
        assert_eq!(told["streams"][0]["width"], width, "{more:?}");
    }
}

/// Names that ffmpeg could take for an option, an address or a pattern; and a result in the place of its source.
#[test]
fn files_of_awkward_names_are_painted_like_others() {
    if !ffmpeg_is_there("awkward names") {
        return;
    }
    let studio = Studio::new();
    clip_with_sound(&studio, "clip.mp4", "testsrc=s=64x48:r=25:d=0.4", "");
    for name in ["-y.mp4", "concat:a|b.mp4", "frame%03d.mp4", "der Fluß, 'zitiert'.mp4", "http:x.mp4"] {
        std::fs::copy(studio.path("clip.mp4"), studio.path(name)).unwrap();
        let result = format!("out {name}");
        let args = ["video", "--model", "style.safetensors", "--output", &result, "--", name];
        studio.impasto(&args).assert().success();
        assert_eq!(shown(&studio.path(&result)).times.len(), 10, "{name}");
    }
    paint(&studio, "clip.mp4", "clip.mp4", &["--overwrite", "--strength", "0"]);
    assert_eq!(shown(&studio.path("clip.mp4")).times.len(), 10);
}

/// The painting in the video is the picture that the library paints. Luma is compared, which has no half sides.
#[test]
fn the_frames_are_the_paintings() {
    if !ffmpeg_is_there("painted frames") {
        return;
    }
    use impasto::Frame;
    use impasto::smooth::Smoother;
    let studio = Studio::new();
    let (width, height, frames) = (64, 48, 5);
    ffmpeg(
        &studio,
        "-f lavfi -i testsrc=s=64x48:r=5:d=1,gblur=sigma=2 -vf format=yuv444p -c:v libx264 -qp 0 in.mkv",
    );
    paint(&studio, "in.mkv", "plain.mkv", &["--quality", "0", "--smooth", "0"]);
    paint(&studio, "in.mkv", "calm.mkv", &["--quality", "0"]);
    let seen = "-sws_flags bicubic+accurate_rnd+full_chroma_int+full_chroma_inp -pix_fmt rgb24 -f rawvideo -";
    let seen = ffmpeg(&studio, &format!("-i in.mkv {seen}")).stdout;
    let stylizer = impasto::Stylizer::open(studio.path("style.safetensors")).unwrap();
    for (name, smooth) in [("plain.mkv", 0.0), ("calm.mkv", Smoother::DEFAULT_STRENGTH)] {
        let mut smoother = Smoother::new(smooth);
        let luma = ffmpeg(&studio, &format!("-i {name} -vf extractplanes=y -f rawvideo -")).stdout;
        assert_eq!((seen.len(), luma.len()), (frames * width * height * 3, frames * width * height));
        for (rgb, luma) in seen.chunks_exact(width * height * 3).zip(luma.chunks_exact(width * height)) {
            let source = Frame::new(width, height, rgb.to_vec()).unwrap();
            let mut expected = stylizer.stylize(&source).unwrap();
            smoother.apply(&source, &mut expected);
            let difference = expected.rgb().chunks_exact(3).zip(luma).map(|(rgb, &luma)| {
                let [r, g, b] = [f64::from(rgb[0]), f64::from(rgb[1]), f64::from(rgb[2])];
                (16.0 + 219.0 / 255.0 * (0.299 * r + 0.587 * g + 0.114 * b) - f64::from(luma)).abs()
            });
            let mean = difference.sum::<f64>() / luma.len() as f64;
            // Rounding to whole levels alone gives 0.25.
            assert!(mean < 0.5, "{name}: {mean} levels off");
        }
    }
}

/// On real clips: those of `IMPASTO_TEST_DATA`, with and without a painting on them.
#[test]
fn real_clips_keep_their_times_sound_and_colours() {
    let Some(data) = test_data("real clips") else { return };
    if !ffmpeg_is_there("real clips") {
        return;
    }
    let studio = Studio::new();
    for name in ["friday.mp4", "flower.mp4"] {
        let source = data.join("video").join(name);
        for strength in ["0", "1"] {
            let source_name = source.display().to_string();
            paint(&studio, &source_name, "out.mp4", &["--strength", strength, "--overwrite"]);
            let result = studio.path("out.mp4");
            assert_same_times(&result, &source, EXACT);
            assert_eq!(sound_hashes(&result), sound_hashes(&source), "{name}");
            if strength == "0" {
                let decibels = psnr(&result, &source, "null");
                assert!(decibels >= 40.0, "{name}: {decibels} dB");
            }
        }
    }
}
