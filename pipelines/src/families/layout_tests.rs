//! Every name of the three families against diffusers' converters (`tests/golden/make_original_keys.py`).

use super::*;
use crate::families::registry::of_key;
use crate::families::standard::{Noise, descriptions};
use crate::models::ConfigFile;
use crate::schedulers::PredictionType;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::Path;

pub(in crate::families) const EPSILON: Noise = Noise { prediction: PredictionType::Epsilon, zero_terminal_snr: false };

pub(in crate::families) fn declared(key: &str) -> &'static Declaration {
    of_key(key).unwrap()
}

/// The places of a family's full-size model: names and shapes only.
pub(in crate::families) fn full_size(declaration: &'static Declaration) -> Vec<Place> {
    let texts = descriptions(declaration, EPSILON).unwrap();
    let config = |component: &str| {
        let name = format!("{component}/config.json");
        ConfigFile::parse(Path::new(&name), &texts[&name]).unwrap()
    };
    let network = (declaration.network.describe)(config("unet")).unwrap();
    let vae = VaeConfig::from_file(config("vae")).unwrap();
    let text: Vec<_> = declaration.text.iter().map(|t| ClipTextConfig::from_file(config(t.encoder)).unwrap()).collect();
    places(declaration, Shapes { network: &*network, vae: &vae, text: &text }, &|_| String::new()).unwrap()
}

/// `diffusers name TAB original name LF` in the order of the names, fused projections with their third.
fn rows(places: &[Place], component: &str) -> Vec<String> {
    let own = places.iter().filter(|place| place.component == component);
    let rows = own.map(|place| {
        let stored = [NETWORK, VAE].iter().fold(place.stored.as_str(), |s, prefix| s.strip_prefix(prefix).unwrap_or(s));
        let third = if let Form::Third(third) = place.form { format!("#{third}") } else { String::new() };
        format!("{}\t{stored}{third}\n", place.name)
    });
    let mut rows: Vec<String> = rows.collect();
    rows.sort();
    rows
}

#[test]
fn every_tensor_of_every_family_has_the_name_that_diffusers_converts() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/original_keys.json");
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(golden).unwrap()).unwrap();
    let counts = [
        ("sd1", &[("unet", 686), ("vae", 248), ("text_encoder", 196)][..]),
        ("sd2", &[("unet", 686), ("vae", 248), ("text_encoder", 372)][..]),
        ("sdxl", &[("unet", 1680), ("vae", 248), ("text_encoder", 196), ("text_encoder_2", 517)][..]),
    ];
    for (key, components) in counts {
        let places = full_size(declared(key));
        assert_eq!(places.len(), components.iter().map(|(_, count)| count).sum::<usize>());
        for (component, count) in components {
            let (rows, golden) = (rows(&places, component), &golden[key][component]);
            assert_eq!((rows.len(), Some(*count as u64)), (*count, golden["tensors"].as_u64()), "{component}");
            for (ours, theirs) in rows.iter().step_by(25).zip(golden["rows"].as_array().unwrap()) {
                assert_eq!(Some(ours.as_str()), theirs.as_str(), "{} {component}", key);
            }
            let digest = Sha256::digest(rows.concat().as_bytes());
            let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(Some(digest.as_str()), golden["sha256"].as_str(), "{} {component}", key);
        }
    }
}

#[test]
fn forms_lead_there_and_back() {
    for (form, shape, stored) in [
        (Form::Same, vec![3, 2], vec![3, 2]),
        (Form::Pointwise, vec![3, 2], vec![3, 2, 1, 1]),
        (Form::Transposed, vec![3, 2], vec![2, 3]),
        (Form::Third(1), vec![3, 2], vec![9, 2]),
    ] {
        assert_eq!(form.stored_shape(&shape), stored);
        assert_eq!(form.shape_of(&stored), shape);
    }
}
