//! `--help` of every command, whole.

use crate::support::diffpref;
use crate::support::each::one_test_each;

fn help_of(command: &[&str]) -> String {
    let assert = diffpref().args(command).arg("--help").assert().success();
    String::from_utf8_lossy(&assert.get_output().stdout).into_owned()
}

fn assert_reads_well(command: &str) {
    let help = help_of(&[command]);
    assert!(help.contains("Example") && help.contains(&format!("diffpref {command} ")), "{help}");
    insta::assert_snapshot!(command, help);
}

fn assert_operation_reads_well(operation: &str) {
    let help = help_of(&["merge", operation]);
    assert!(help.contains(&format!("diffpref merge {operation} --")), "{help}");
    insta::assert_snapshot!(format!("merge-{operation}"), help);
}

one_test_each! {
    help_of_the_command_reads_well: super::assert_reads_well;
    train train_scorer("train-scorer") generate eval score pairs data cache run sweep sweep_worker("sweep-worker") runs scorers
    export merge keys methods doctor
}

one_test_each! {
    help_of_the_operation_reads_well: super::assert_operation_reads_well;
    soup task_vector("task-vector") npo lora join extract
}

/// The names under "Commands:".
fn listed(help: &str) -> Vec<&str> {
    let rows = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| line.starts_with("  "));
    let names = rows.filter(|row| !row.starts_with("   ")).filter_map(|row| row.split_whitespace().next());
    names.filter(|name| *name != "help").collect()
}

#[test]
fn no_command_is_left_out() {
    let help = help_of(&[]);
    assert_eq!(listed(&help), help_of_the_command_reads_well::NAMES);
    assert_eq!(listed(&help_of(&["merge"])), help_of_the_operation_reads_well::NAMES);
    insta::assert_snapshot!("diffpref", help);
}
