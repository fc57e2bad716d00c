//! Where a copy goes: docker's rules, which are those of `cp -a`.

use std::path::{Component, Path, PathBuf};

/// A path as it was typed, without `.`, `..` and doubled slashes in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Typed {
    /// Absolute if what it was typed for was.
    pub(super) path: PathBuf,
    /// It ends with `/` or `/.`: it must be a folder, and a link at its end is followed.
    pub(super) is_folder: bool,
    /// It ends with `/.`: not the folder itself is meant, but what is in it.
    pub(super) contents: bool,
}

impl Typed {
    /// Reads a path; `..` takes the name before it away, as docker has it.
    pub(super) fn parse(text: &str) -> Self {
        let mut path = PathBuf::new();
        for part in Path::new(text).components() {
            match part {
                Component::CurDir | Component::Prefix(_) => {}
                Component::ParentDir
                    if matches!(path.components().next_back(), Some(Component::Normal(_))) =>
                {
                    path.pop();
                }
                Component::ParentDir if path.has_root() => {}
                part => path.push(part),
            }
        }
        let is_root = path == Path::new("/");
        let contents = text == "." || text.ends_with("/.") || text.is_empty();
        if path.as_os_str().is_empty() {
            path.push(".");
        }
        Self { path, is_folder: contents || is_root || text.ends_with('/'), contents: contents || is_root }
    }

    /// As [`Typed::parse`], from the container's root.
    pub(super) fn in_container(text: &str) -> Self {
        Self::parse(&format!("/{text}"))
    }

    /// The last name; none for a root or a path that ends with `..`.
    pub(super) fn name(&self) -> Option<&std::ffi::OsStr> {
        self.path.file_name()
    }

    /// The folder that it is in.
    pub(super) fn parent(&self) -> &Path {
        match self.path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            Some(_) => Path::new("."),
            None => &self.path,
        }
    }
}

/// What is at the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Folder,
    Other,
    Nothing,
}

/// How the copy is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    /// Into the target, by the source's name.
    Source,
    /// Into the target, what is in the source.
    Contents,
    /// Beside the target, by its name.
    Target,
}

/// Returns how the copy of a source is named, or docker's reason for none.
pub(super) fn named(
    source_is_folder: bool,
    source: &Typed,
    target: &Typed,
    found: Target,
) -> Result<Named, &'static str> {
    match found {
        Target::Folder if source.contents && source_is_folder => Ok(Named::Contents),
        Target::Folder => Ok(Named::Source),
        Target::Other if source_is_folder => Err("cannot copy directory"),
        Target::Other if target.is_folder => Err("not a directory"),
        Target::Nothing if target.is_folder && !source_is_folder => Err("no such directory"),
        Target::Other | Target::Nothing => Ok(Named::Target),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_and_keep_what_their_end_says() {
        for (text, path, is_folder, contents) in [
            ("a", "/a", false, false),
            ("/a//b/./c", "/a/b/c", false, false),
            ("/a/../b/", "/b", true, false),
            ("/a/.", "/a", true, true),
            ("/../..", "/", true, true),
            ("", "/", true, true),
        ] {
            let typed = Typed { path: path.into(), is_folder, contents };
            assert_eq!(Typed::in_container(text), typed, "{text}");
        }
        assert_eq!(Typed::parse("../x").path, Path::new("../x"));
        assert_eq!(Typed::parse("../../x/..").path, Path::new("../.."));
        assert_eq!(Typed::parse(".").parent(), Path::new("."));
        assert_eq!(Typed::parse("x").parent(), Path::new("."));
    }

    #[test]
    fn copies_are_named_as_docker_names_them() {
        use Named::{Contents, Source};
        let cases = [
            // (source is a folder, source, target, what is there, result)
            (false, "f", "/t", Target::Nothing, Ok(Named::Target)),
            (false, "f", "/t/", Target::Nothing, Err("no such directory")),
            (false, "f", "/t", Target::Other, Ok(Named::Target)),
            (false, "f", "/t", Target::Folder, Ok(Source)),
            (true, "d", "/t", Target::Nothing, Ok(Named::Target)),
            (true, "d", "/t/", Target::Nothing, Ok(Named::Target)),
            (true, "d/.", "/t", Target::Nothing, Ok(Named::Target)),
            (true, "d", "/t", Target::Other, Err("cannot copy directory")),
            (true, "d", "/t", Target::Folder, Ok(Source)),
            (true, "d/.", "/t", Target::Folder, Ok(Contents)),
        ];
        for (is_folder, source, target, found, expected) in cases {
            let name = named(is_folder, &Typed::parse(source), &Typed::parse(target), found);
            assert_eq!(name, expected, "{source} to {target}");
        }
    }
}
