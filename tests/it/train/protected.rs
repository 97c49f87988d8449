//! What a run may replace: only what it wrote itself, or was told to.

use crate::support::{World, files, flags, succeeds};

/// Pairs, and arguments of a run with another result.
const OTHER: [&str; 2] = ["train.seed=7", "validate.fraction=0"];

#[test]
fn a_result_without_checkpoints_is_not_replaced() {
    let world = World::new(12);
    let run = world.trained("run", &[]);
    let result = files(&run.join("final"));
    for entry in std::fs::read_dir(&run).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("checkpoint-") {
            std::fs::remove_dir_all(path).unwrap();
        }
    }
    std::fs::remove_file(run.join("metrics.jsonl")).unwrap();
    for resume in [&[][..], &["--resume"], &["--resume=auto"]] {
        let said = world.refused(&mut world.train(&[&flags(&OTHER)[..], resume].concat()), 1);
        let expected = "DIR/run: the folder holds final, which this run would replace, and no checkpoint to continue from. \
                        Set another train.out, or set train.overwrite = true to delete it.";
        // Another seed is refused before the folder is looked at, where the configuration is compared.
        assert!(said.contains(expected) || said.contains("cannot resume with another configuration"), "{said}");
        assert_eq!(files(&run.join("final")), result);
    }
    succeeds(&mut world.train_with(&[&OTHER[..], &["train.overwrite=true"]].concat()));
    assert_ne!(files(&run.join("final")), result);
}

#[test]
fn a_folder_of_the_users_own_is_not_replaced() {
    for name in ["final/notes.txt", "best/notes.txt", "eval/notes.txt", "samples/step-000200/a.png"] {
        let world = World::new(12);
        let file = world.run_dir().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, "mine").unwrap();
        for resume in [&[][..], &["--resume=auto"]] {
            let said = world.refused(&mut world.train(resume), 1);
            assert!(said.contains("which this run would replace"), "{name}: {said}");
            assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
        }
        assert!(!world.run_dir().join("resolved.toml").exists());
    }
}
