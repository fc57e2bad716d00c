//! Who a process runs as: docker's rules for `name|uid[:group|gid]`, answered from the image's own files.

use super::error::StartError;
use super::inroot::Root;

/// The largest `/etc/passwd` or `/etc/group` that is read.
const FILE_BYTES: u64 = 4 << 20;

/// A resolved user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The user's number.
    pub uid: u32,
    /// The main group's number.
    pub gid: u32,
    /// The main group and further ones, without repeats.
    pub groups: Vec<u32>,
    /// The home folder; `/` when the user isn't in the file.
    pub home: String,
}

/// Looks `user` and the further `groups` up below `root`.
pub fn look_up(root: &Root<'_>, user: &str, groups: &[String]) -> Result<User, StartError> {
    let read = |path: &str| -> Result<String, StartError> {
        let bytes = root.read(path, FILE_BYTES).map_err(|error| {
            StartError::new("user", format!("cannot read `{path}` of the image: {error}"))
        })?;
        Ok(String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned())
    };
    resolve(user, groups, &read("/etc/passwd")?, &read("/etc/group")?)
}

struct PasswdLine<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct GroupLine<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

fn passwd_lines(text: &str) -> impl Iterator<Item = PasswdLine<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let (name, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let (uid, gid) = (uid.trim().parse().ok()?, gid.trim().parse().ok()?);
        Some(PasswdLine { name, uid, gid, home: fields.nth(1).unwrap_or("") })
    })
}

fn group_lines(text: &str) -> impl Iterator<Item = GroupLine<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let (name, _, gid) = (fields.next()?, fields.next()?, fields.next()?);
        Some(GroupLine { name, gid: gid.trim().parse().ok()?, members: fields.next().unwrap_or("") })
    })
}

/// A number as the kernel and docker take it: 0 to 2147483647.
fn number(text: &str) -> Option<u32> {
    text.parse::<u32>().ok().filter(|&number| i32::try_from(number).is_ok())
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn resolve(spec: &str, extra: &[String], passwd: &str, group: &str) -> Result<User, StartError> {
    let (name, group_name) = spec.split_once(':').unwrap_or((spec, ""));
    let wanted = if name.is_empty() { Some(0) } else { number(name) };
    let line =
        passwd_lines(passwd).find(|line| (!name.is_empty() && line.name == name) || Some(line.uid) == wanted);
    let mut user = match (&line, wanted) {
        (Some(line), _) => {
            let home = if line.home.is_empty() { "/" } else { line.home };
            User { uid: line.uid, gid: line.gid, groups: Vec::new(), home: home.to_owned() }
        }
        (None, Some(uid)) => User { uid, gid: 0, groups: Vec::new(), home: "/".into() },
        (None, None) if is_digits(name) => return Err(out_of_range("uid", name)),
        (None, None) => {
            let text = format!("unable to find user {name}: no matching entries in passwd file");
            return Err(StartError::new("user", text));
        }
    };
    if !group_name.is_empty() {
        user.gid = resolve_group(group_name, group)?;
    } else if let Some(line) = &line {
        let is_member = |members: &str| members.split(',').any(|member| member.trim() == line.name);
        user.groups
            .extend(group_lines(group).filter(|group| is_member(group.members)).map(|group| group.gid));
    }
    for name in extra {
        user.groups.push(resolve_group(name, group)?);
    }
    // First its own: a group that isn't among them could be left by a set-group-id program, and what is denied to it
    // would be open again (CVE-2022-36109).
    user.groups.insert(0, user.gid);
    let mut seen = std::collections::BTreeSet::new();
    user.groups.retain(|gid| seen.insert(*gid));
    Ok(user)
}

fn resolve_group(name: &str, group: &str) -> Result<u32, StartError> {
    let wanted = number(name);
    let line = group_lines(group).find(|line| line.name == name || Some(line.gid) == wanted);
    match (line, wanted) {
        (Some(line), _) => Ok(line.gid),
        (None, Some(gid)) => Ok(gid),
        (None, None) if is_digits(name) => Err(out_of_range("gid", name)),
        (None, None) => Err(StartError::new(
            "user",
            format!("unable to find group {name}: no matching entries in group file"),
        )),
    }
}

fn out_of_range(what: &str, text: &str) -> StartError {
    StartError::new("user", format!("{what} {text} is out of range: it must be from 0 to 2147483647"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nweb:x:33:44:Web:/srv/web:/bin/sh\nbroken\nodd:x:9:9::\n";
    const GROUP: &str = "root:x:0:\nadm:x:4:root,web\nweb:x:44:\nmedia:x:70:web, odd\n";

    fn user(spec: &str) -> Result<(u32, u32, Vec<u32>, String), String> {
        resolve(spec, &[], PASSWD, GROUP)
            .map(|user| (user.uid, user.gid, user.groups, user.home))
            .map_err(|error| error.message)
    }

    #[test]
    fn users_are_found_as_docker_finds_them() {
        let cases = [
            ("", (0, 0, vec![0, 4], "/root")),
            ("root", (0, 0, vec![0, 4], "/root")),
            ("0", (0, 0, vec![0, 4], "/root")),
            ("web", (33, 44, vec![44, 4, 70], "/srv/web")),
            ("33", (33, 44, vec![44, 4, 70], "/srv/web")),
            ("web:adm", (33, 4, vec![4], "/srv/web")),
            ("web:77", (33, 77, vec![77], "/srv/web")),
            ("1000", (1000, 0, vec![0], "/")),
            ("1000:1000", (1000, 1000, vec![1000], "/")),
            (":adm", (0, 4, vec![4], "/root")),
            ("odd", (9, 9, vec![9, 70], "/")),
        ];
        for (spec, (uid, gid, groups, home)) in cases {
            assert_eq!(user(spec), Ok((uid, gid, groups, home.to_owned())), "{spec}");
        }
    }

    #[test]
    fn unknown_names_and_large_numbers_are_refused() {
        assert_eq!(
            user("nobody2").unwrap_err(),
            "unable to find user nobody2: no matching entries in passwd file"
        );
        assert_eq!(
            user("web:nope").unwrap_err(),
            "unable to find group nope: no matching entries in group file"
        );
        assert!(user("4294967295").unwrap_err().contains("out of range"));
        assert!(user("0:2147483648").unwrap_err().contains("out of range"));
        assert!(user("-1").is_err());
    }

    #[test]
    fn further_groups_are_names_or_numbers() {
        let groups = ["media".to_owned(), "5".to_owned(), "5".to_owned()];
        assert_eq!(resolve("web", &groups, PASSWD, GROUP).unwrap().groups, [44, 4, 70, 5]);
    }

    #[test]
    fn no_files_at_all_give_root() {
        let user = resolve("", &[], "", "").unwrap();
        assert_eq!((user.uid, user.gid, user.home.as_str()), (0, 0, "/"));
    }
}
