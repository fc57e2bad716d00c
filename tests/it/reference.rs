//! What a user of docker's tutorials types about containers, and the test that holds each of it: the commands and
//! flags of a container's life and of looking inside.

use std::fs;
use std::path::Path;

/// `(what is typed, tests that hold it)`; a test is named by its file and function.
const ROWS: &[(&str, &[&str])] = &[
    (
        "run IMAGE [CMD]: exit status, 125, 126, 127",
        &[
            "container::a_run_gives_the_programs_outputs_apart_and_its_exit_code",
            "container::a_program_that_cannot_run_has_dockers_codes",
            "run_failures::a_program_that_cannot_run_says_why",
        ],
    ),
    (
        "--name: unique, conflict names the other id",
        &["container::names_are_unique_and_a_running_container_is_not_removed"],
    ),
    ("-d: prints the id, lives on", &["container::a_background_container_lives_until_it_is_stopped"]),
    (
        "-i -t -it: stdin open, a terminal",
        &[
            "container::standard_input_is_forwarded_with_its_end",
            "container::a_terminal_is_one_stream_with_a_size",
            "attach::the_programs_terminal_follows_the_window",
        ],
    ),
    ("-v /c, name:/c, /host:/c, :ro", &["container::volumes_keep_what_containers_leave_in_them"]),
    ("-e, --env-file, -u, -w", &["container::environment_user_and_working_directory_are_as_asked"]),
    (
        "-m, -c and the other limits",
        &[
            "limits::limits_by_flags_reach_the_kernel",
            "limits::a_bad_limit_names_its_flag_and_makes_nothing",
            "container::a_kill_for_memory_is_known_as_soon_as_the_code_is",
        ],
    ),
    (
        "--rm: gone with its anonymous volumes",
        &["container::a_run_gives_the_programs_outputs_apart_and_its_exit_code"],
    ),
    (
        "--net bridge, none, host, container:ID",
        &[
            "container::the_network_has_an_address_and_reaches_the_gateway",
            "isolation::a_network_is_shared_with_another_container",
        ],
    ),
    (
        "--privileged, --restart",
        &[
            "views::inspect_shows_all_that_docker_shows",
            "restart_policy::on_failure_starts_again_so_many_times",
            "restart_policy::always_starts_again_until_the_user_stops_it",
        ],
    ),
    (
        "ps: columns, -a -q -n -l -s, --filter, --format, STATUS",
        &[
            "views::filters_choose_containers_as_dockers_do",
            "views::sizes_are_what_a_container_wrote_and_stands_on",
            "scale::a_hundred_containers_live_at_once",
        ],
    ),
    ("start, start -a, start -i", &["container::a_stopped_container_keeps_its_files_and_starts_again"]),
    (
        "stop -t -s, kill -s, restart",
        &[
            "container::a_background_container_lives_until_it_is_stopped",
            "lifecycle::the_time_to_stop_is_the_containers_unless_the_command_says_more",
            "lifecycle::a_restart_gives_the_same_container_a_new_process",
            "lifecycle::several_containers_answer_a_line_each_in_the_order_of_their_names",
        ],
    ),
    ("pause, unpause", &["limits::a_paused_container_stands_still_until_it_is_unpaused"]),
    ("rm, rm -f, rm -v", &["container::names_are_unique_and_a_running_container_is_not_removed"]),
    (
        "ctrl-p ctrl-q, --detach-keys",
        &[
            "attach::ctrl_p_ctrl_q_leaves_a_shell_running_and_attach_comes_back_to_it",
            "attach::the_keys_to_detach_can_be_chosen",
        ],
    ),
    ("attach, several of them", &["attach::several_who_attach_see_the_same_and_all_may_type"]),
    (
        "exec -it, -d, -e, -u, -w, --privileged",
        &["container::exec_joins_a_running_container", "events::further_processes_are_told_and_shown"],
    ),
    (
        "create, wait, rename, update",
        &[
            "container::a_killed_container_can_be_removed_at_once_and_its_code_is_known",
            "lifecycle::a_renamed_container_is_found_by_its_new_name_alone",
            "limits::limits_change_while_it_runs_and_stay_for_the_next_start",
        ],
    ),
    ("process 1 ends the container", &["container::signals_of_the_command_reach_the_program"]),
    (
        "logs -f -t --tail --since --until --details",
        &[
            "container::logs_follow_and_keep_the_streams_apart",
            "logs::lines_are_chosen_and_explained",
            "logs::a_follower_reads_over_rotations_to_the_end",
            "logs::logs_are_rotated_as_the_flags_say",
        ],
    ),
    ("top", &["stats::top_shows_the_processes_as_ps_of_the_host"]),
    (
        "inspect: JSON, -f, -s, --type",
        &["views::inspect_shows_all_that_docker_shows", "container::scripts_find_their_fields"],
    ),
    (
        "stats, --no-stream",
        &[
            "stats::stats_show_what_a_container_uses",
            "stats::stats_are_painted_again_on_a_terminal_until_the_container_is_gone",
        ],
    ),
    ("port", &["views::a_container_without_published_ports_has_none_to_show"]),
    ("diff", &["cp::diff_names_what_was_added_changed_and_deleted"]),
    (
        "events --since --until -f --format",
        &["events::the_whole_life_of_containers_is_told", "events::what_happens_is_told_while_it_happens"],
    ),
    (
        "cp both ways, running or stopped, -, -a, -L, -q",
        &[
            "cp::copies_are_named_by_dockers_rules_running_or_not",
            "cp::a_dash_is_a_tar_both_ways",
            "cp::owners_and_rights_come_over_with_archive_only",
        ],
    ),
    (
        "export, commit -m -a -c",
        &[
            "cp::export_writes_the_merged_files_without_volumes",
            "commit::a_commit_keeps_files_and_configuration",
            "commit::changes_are_applied_and_an_unchanged_container_makes_no_layer",
        ],
    ),
    ("container prune --filter", &["views::prune_takes_what_its_filters_name"]),
    (
        "HEALTHCHECK and --health-*",
        &[
            "health::a_container_is_starting_then_healthy_then_unhealthy",
            "health::the_images_check_is_taken_over_or_left_out",
        ],
    ),
];

#[test]
fn every_row_has_its_test() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    for (row, tests) in ROWS {
        assert!(!tests.is_empty(), "{row}");
        for test in *tests {
            let (file, function) = test.split_once("::").unwrap();
            let text = fs::read_to_string(folder.join(file).with_extension("rs")).unwrap();
            assert!(
                text.contains(&format!("#[test]\nfn {function}() {{")),
                "{row}: there is no test `{test}`"
            );
        }
    }
}
