//! The compiled program against the table, number by number, on an interpreter of the six operations used.

use super::*;

fn run(program: &[Instruction], arch: u32, number: u32, argument: u32) -> u32 {
    let mut at = 0;
    let mut loaded = 0;
    loop {
        let Instruction { code, jump_true, jump_false, k } = program[at];
        at += 1;
        let holds = match code {
            LOAD => {
                loaded = match k {
                    NUMBER => number,
                    ARCH => arch,
                    FIRST_ARGUMENT => argument,
                    _ => panic!("an unknown word is loaded"),
                };
                continue;
            }
            JUMP => {
                at += k as usize;
                continue;
            }
            RETURN => return k,
            IF_EQUAL => loaded == k,
            IF_AT_LEAST => loaded >= k,
            IF_ANY_BIT => loaded & k != 0,
            _ => panic!("an unknown operation"),
        };
        at += usize::from(if holds { jump_true } else { jump_false });
    }
}

fn expected(rules: &[(u32, Rule)], number: u32, argument: u32) -> u32 {
    let rule = rules.iter().find(|(known, _)| *known == number).map(|(_, rule)| *rule);
    match rule {
        None | Some(Rule::NoSys) => RET_ENOSYS,
        Some(Rule::Allow) => RET_ALLOW,
        Some(Rule::Deny) => RET_EPERM,
        Some(Rule::Clone) if argument & NAMESPACE_FLAGS == 0 => RET_ALLOW,
        Some(Rule::Socket) if ![38, 40].contains(&argument) => RET_ALLOW,
        Some(Rule::Personality) if PERSONALITIES.contains(&argument) => RET_ALLOW,
        Some(_) => RET_EPERM,
    }
}

#[test]
fn every_number_of_every_architecture_does_what_the_table_says() {
    for (arches, program) in [
        (vec![X86_64, I386], compile(&[X86_64, I386], Capabilities::default())),
        (vec![AARCH64], compile(&[AARCH64], Capabilities::default())),
    ] {
        for arch in arches {
            let rules = rules_of(arch, Capabilities::default());
            let numbers = (0..2048).chain([X32_BIT, X32_BIT + 1, X32_BIT + 59, u32::MAX]);
            for number in numbers {
                for argument in
                    [0, 8, 17, 38, 40, 0x11, 0x20000, 0x1000_0000, 0x0002_0000, 0x4000_0000, u32::MAX]
                {
                    let got = run(&program, arch.audit, number, argument);
                    assert_eq!(got, expected(&rules, number, argument), "arch {arch:?} number {number}");
                }
            }
        }
    }
}

#[test]
fn an_unknown_architecture_is_killed() {
    assert_eq!(run(&compile(&[X86_64, I386], Capabilities::default()), AARCH64.audit, 0, 0), RET_KILL);
    assert_eq!(run(&compile(&[AARCH64], Capabilities::default()), X86_64.audit, 0, 0), RET_KILL);
}

fn compiled() -> Vec<u8> {
    let bytes_of = |step: &Instruction| {
        let ([code, code2], [k, k2, k3, k4]) = (step.code.to_le_bytes(), step.k.to_le_bytes());
        [code, code2, step.jump_true, step.jump_false, k, k2, k3, k4]
    };
    compile(&[X86_64, I386], Capabilities::default()).iter().flat_map(bytes_of).collect()
}

#[test]
fn the_recorded_filter_is_what_the_table_says() {
    assert!(compiled() == COMPILED, "the table has changed: see `COMPILED`");
}

#[test]
#[ignore = "writes the file that it is about"]
fn record_the_filter() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/runtime/seccomp/default.x86_64.bpf");
    std::fs::write(path, compiled()).unwrap();
}

#[test]
fn the_table_is_whole_and_the_program_small() {
    assert!(
        rules_of(X86_64, Capabilities::default()).len() > 360
            && rules_of(I386, Capabilities::default()).len() > 430
            && rules_of(AARCH64, Capabilities::default()).len() > 310
    );
    for arch in [X86_64, I386, AARCH64] {
        let rules = rules_of(arch, Capabilities::default());
        assert!(rules.windows(2).all(|pair| pair[0].0 < pair[1].0), "a number stands twice");
    }
    assert!(default_program().len() < 700, "{} instructions", default_program().len());
}

#[test]
fn what_escapes_a_container_is_refused() {
    let program = compile(&[X86_64, I386], Capabilities::default());
    let refused = [
        ("mount", 165),
        ("umount2", 166),
        ("unshare", 272),
        ("setns", 308),
        ("keyctl", 250),
        ("bpf", 321),
        ("open_by_handle_at", 304),
        ("kexec_load", 246),
        ("init_module", 175),
        ("io_uring_setup", 425),
        ("userfaultfd", 323),
        ("perf_event_open", 298),
        ("reboot", 169),
        ("open_tree", 428),
        ("add_key", 248),
    ];
    for (name, number) in refused {
        assert_eq!(run(&program, X86_64.audit, number, 0), RET_EPERM, "{name}");
    }
    assert_eq!(run(&program, X86_64.audit, 435, 0), RET_ENOSYS, "clone3");
    assert_eq!(run(&program, I386.audit, 21, 0), RET_EPERM, "mount of i386");
}
