//! A filter in the words of the runtime-spec, `linux.seccomp`, for runtimes that compile it themselves.

use serde_json::{Value, json};

use super::profile::{BadProfile, Profile, is_arch, is_at_least};
use super::{AARCH64, NAMESPACE_FLAGS, PERSONALITIES, Rule, TABLE, arches, gated, row};
use crate::runtime::spec::Capabilities;

/// Families below these two, between and beyond them: a rule has one condition for each argument.
const OTHER_FAMILIES: [(&str, u32); 3] = [("SCMP_CMP_LT", 38), ("SCMP_CMP_EQ", 39), ("SCMP_CMP_GT", 40)];

/// Returns the default filter for a process with `capabilities`.
pub fn default_document(capabilities: Capabilities) -> Value {
    let mut allowed = Vec::new();
    let mut absent = Vec::new();
    let mut rules = Vec::new();
    for (name, rule) in TABLE.lines().filter_map(row) {
        let mut on = |op: &str, value: u32, second: u32| {
            let condition = json!({"index": 0, "value": value, "valueTwo": second, "op": op});
            rules.push(json!({"names": [name], "action": "SCMP_ACT_ALLOW", "args": [condition]}));
        };
        match gated(name, rule, capabilities) {
            Rule::Allow => allowed.push(name),
            Rule::NoSys => absent.push(name),
            // The default is EPERM already.
            Rule::Deny => {}
            Rule::Clone => on("SCMP_CMP_MASKED_EQ", NAMESPACE_FLAGS, 0),
            Rule::Socket => OTHER_FAMILIES.iter().for_each(|(op, family)| on(op, *family, 0)),
            Rule::Personality => PERSONALITIES.iter().for_each(|domain| on("SCMP_CMP_EQ", *domain, 0)),
        }
    }
    rules.push(json!({"names": allowed, "action": "SCMP_ACT_ALLOW"}));
    rules.push(json!({"names": absent, "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ENOSYS}));
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": libc::EPERM,
        "architectures": architectures(),
        "syscalls": rules,
    })
}

/// Returns what a profile in docker's JSON says for such a process on this machine, whose kernel is `release`.
pub fn profile_document(json: &str, capabilities: Capabilities, release: &str) -> Result<Value, BadProfile> {
    let profile: Profile = serde_json::from_str(json)?;
    let mut rules = Vec::new();
    for syscalls in &profile.syscalls {
        let (includes, excludes) = (&syscalls.includes, &syscalls.excludes);
        let is_here = |name: &String| is_arch(name, arches()[0]);
        let is_excluded = excludes.caps.iter().any(|name| capabilities.has(name))
            || excludes.arches.iter().any(is_here)
            || excludes.min_kernel.as_deref().is_some_and(|least| is_at_least(release, least));
        let is_included = includes.caps.iter().all(|name| capabilities.has(name))
            && (includes.arches.is_empty() || includes.arches.iter().any(is_here))
            && includes.min_kernel.as_deref().is_none_or(|least| is_at_least(release, least));
        if is_excluded || !is_included {
            continue;
        }
        let names: Vec<&str> = std::iter::once(syscalls.name.as_str())
            .chain(syscalls.names.iter().map(String::as_str))
            .filter(|name| !name.is_empty())
            .collect();
        let mut rule = json!({"names": names, "action": syscalls.action, "args": syscalls.args});
        if let Some(errno) = syscalls.errno_ret {
            rule["errnoRet"] = errno.into();
        }
        rules.push(rule);
    }
    let mut document = json!({
        "defaultAction": profile.default_action,
        "architectures": architectures(),
        "syscalls": rules,
    });
    if let Some(errno) = profile.default_errno_ret {
        document["defaultErrnoRet"] = errno.into();
    }
    Ok(document)
}

fn architectures() -> &'static [&'static str] {
    match arches()[0].column == AARCH64.column {
        true => &["SCMP_ARCH_AARCH64"],
        false => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actions(document: &Value, name: &str) -> Vec<String> {
        let rules = document["syscalls"].as_array().unwrap();
        let of_name = rules.iter().filter(|rule| rule["names"].as_array().unwrap().contains(&name.into()));
        of_name
            .map(|rule| rule["action"].as_str().unwrap().trim_start_matches("SCMP_ACT_").to_owned())
            .collect()
    }

    #[test]
    fn the_default_says_what_the_table_says() {
        let document = default_document(Capabilities::default());
        assert_eq!(actions(&document, "read"), ["ALLOW"]);
        assert_eq!(actions(&document, "clone3"), ["ERRNO"]);
        assert!(actions(&document, "mount").is_empty());
        assert_eq!(actions(&document, "socket").len(), 3);
        let all = default_document(Capabilities::ALL);
        assert_eq!(actions(&all, "mount"), ["ALLOW"]);
    }

    #[test]
    fn conditions_of_a_profile_are_decided() {
        let profile = r#"{"defaultAction": "SCMP_ACT_KILL", "syscalls": [
            {"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_BPF"]}},
            {"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5, "excludes": {"minKernel": "7.0"},
             "args": [{"index": 1, "value": 2, "op": "SCMP_CMP_EQ"}]}]}"#;
        let document = profile_document(profile, Capabilities::default(), "6.1.0").unwrap();
        assert_eq!(document["defaultAction"], "SCMP_ACT_KILL");
        assert!(actions(&document, "bpf").is_empty());
        let read = &document["syscalls"][0];
        assert_eq!((read["errnoRet"].as_u64(), read["args"][0]["index"].as_u64()), (Some(5), Some(1)));
        assert!(profile_document("{}", Capabilities::NONE, "6.1").is_err());
    }
}
