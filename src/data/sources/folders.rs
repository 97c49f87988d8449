//! Pairs of image files: equal names in two folders, as the DPO branch of kohya's sd-scripts has them (w/ and l/), or
//! NAME_w.png beside NAME_l.png. The prompt is in NAME.txt or NAME.caption.

use super::files::{Files, ending, listed};
use super::format::Format;
use super::source::{Source, Take};
use crate::data::image_ref::ImageRef;
use crate::data::item::{ItemKind, Preference};
use crate::data::prompts;
use crate::data::row::{Entry, Place, Row};
use anyhow::{Result, bail};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Names of the better and the worse side: of folders, and after `_` at the end of file names.
const SIDES: [[&str; 2]; 4] = [["w", "l"], ["winner", "loser"], ["winners", "losers"], ["chosen", "rejected"]];
const IMAGES: [&str; 9] = ["jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "gif", "jfif"];
const CAPTIONS: [&str; 2] = ["txt", "caption"];

pub struct Folders;

/// Name of a pair -> its images, the better one first, and files of its prompt.
type Pairs = BTreeMap<String, [Side; 2]>;

#[derive(Default)]
struct Side {
    images: Vec<PathBuf>,
    captions: Vec<PathBuf>,
}

impl Source for Folders {
    fn format(&self) -> Format {
        Format::Folders
    }

    fn expects(&self) -> &'static str {
        "images of equal names in folders w and l (or winner and loser, chosen and rejected), or NAME_w.png and NAME_l.png, \
         with the prompt in NAME.txt"
    }

    fn recognises(&self, files: &Files) -> Result<bool> {
        Ok(files.is_folder
            && (!roots(&files.path)?.is_empty() || files.files.iter().any(|file| side_of(file).is_some())))
    }

    fn read(&self, files: &Files, _: ItemKind, take: &mut Take) -> Result<()> {
        let mut pairs = Pairs::new();
        let roots = roots(&files.path)?;
        for (root, sides) in &roots {
            for (place, side) in sides.iter().enumerate() {
                in_folder(&files.path, root, &root.join(side), place, &mut pairs)?;
            }
        }
        if roots.is_empty() {
            beside(files, &mut pairs);
        }
        if pairs.is_empty() {
            bail!("data.path: {} holds no pair of images; expected {}", files.path.display(), self.expects());
        }
        for (number, (name, sides)) in pairs.iter().enumerate() {
            let file = sides.iter().flat_map(|side| side.images.iter().chain(&side.captions)).next();
            let file = file.unwrap_or(&files.path).as_path().into();
            take(Place { file, row: number + 1 }, row(name, sides).map(Entry::from))?;
        }
        Ok(())
    }
}

/// Folders that hold a folder of winners and one of losers: the folder itself, or those in it, as kohya's `10_name`.
fn roots(folder: &Path) -> Result<Vec<(PathBuf, [&'static str; 2])>> {
    let sides = |root: &Path| SIDES.into_iter().find(|sides| sides.iter().all(|side| root.join(side).is_dir()));
    if let Some(sides) = sides(folder) {
        return Ok(vec![(folder.to_path_buf(), sides)]);
    }
    let (_, below) = listed(folder)?;
    Ok(below.into_iter().filter_map(|root| Some((root.clone(), sides(&root)?))).collect())
}

fn in_folder(data: &Path, root: &Path, folder: &Path, place: usize, pairs: &mut Pairs) -> Result<()> {
    let mut open = vec![folder.to_path_buf()];
    while let Some(next) = open.pop() {
        let (files, folders) = listed(&next)?;
        open.extend(folders);
        for file in files {
            let below = file.strip_prefix(folder).unwrap_or(&file).with_extension("");
            let name = root.strip_prefix(data).unwrap_or(root).join(below);
            add(pairs, name.display().to_string(), place, file);
        }
    }
    Ok(())
}

fn beside(files: &Files, pairs: &mut Pairs) {
    for file in &files.files {
        match side_of(file) {
            Some((name, place)) => add(pairs, name, place, file.clone()),
            // The prompt of both sides.
            None if CAPTIONS.contains(&ending(file).as_str()) => {
                let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                add(pairs, name, 0, file.clone());
            }
            None => {}
        }
    }
}

fn add(pairs: &mut Pairs, name: String, place: usize, file: PathBuf) {
    let ending = ending(&file);
    let (is_image, is_caption) = (IMAGES.contains(&ending.as_str()), CAPTIONS.contains(&ending.as_str()));
    if !is_image && !is_caption {
        return;
    }
    let side = &mut pairs.entry(name).or_default()[place];
    if is_image { side.images.push(file) } else { side.captions.push(file) }
}

/// Name and place of NAME_w.png.
fn side_of(file: &Path) -> Option<(String, usize)> {
    let is_known = |ending: &str| IMAGES.contains(&ending) || CAPTIONS.contains(&ending);
    let (name, side) = file.file_stem()?.to_str()?.rsplit_once('_')?;
    let place = SIDES.iter().find_map(|sides| sides.iter().position(|known| *known == side))?;
    is_known(&ending(file)).then(|| (name.to_string(), place))
}

fn row(name: &str, sides: &[Side; 2]) -> Result<Row, String> {
    let image = |side: &Side, what: &str| match side.images.as_slice() {
        [one] => Ok(ImageRef::File(one.clone())),
        [] => Err(format!("the pair {name} has no {what}; add the image, or remove the other one")),
        [first, second, ..] => {
            Err(format!("the pair {name} has two images as its {what}, {} and {}", first.display(), second.display()))
        }
    };
    let images = vec![image(&sides[0], "winner")?, image(&sides[1], "loser")?];
    let captions: Vec<String> =
        sides.iter().flat_map(|side| &side.captions).map(|file| caption(file)).collect::<Result<_, _>>()?;
    let Some(prompt) = captions.first() else {
        return Err(format!("the pair {name} has no prompt; write it into a file of that name ending in .txt"));
    };
    if let Some(other) = captions.iter().find(|other| *other != prompt) {
        return Err(format!(
            "the images of the pair {name} have two prompts, {prompt:?} and {other:?}; a pair has one"
        ));
    }
    Ok(Row { id: Some(name.to_string()), ..Row::new(prompt.clone(), images, Preference::Pair { tie: false }) })
}

fn caption(file: &Path) -> Result<String, String> {
    let bytes = std::fs::read(file).map_err(|e| format!("cannot read {}: {e}", file.display()))?;
    let text = prompts::text(&bytes).map_err(|e| format!("{} {e}", file.display()))?;
    Ok(text.trim().to_string())
}
