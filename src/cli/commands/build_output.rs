//! `-o`: where a build's result goes.

use std::path::PathBuf;

use crate::api::{Output, OutputKind};
use crate::cli::error::Error;
use crate::cli::terminal;

/// Reads every `-o`; `load` adds the image store.
pub(crate) fn parse_all(texts: &[String], load: bool) -> Result<Vec<Output>, Error> {
    let mut outputs = texts.iter().map(|text| parse(text)).collect::<Result<Vec<_>, _>>()?;
    if load && !outputs.is_empty() && !outputs.iter().any(|output| output.kind == OutputKind::Image) {
        outputs.push(Output { kind: OutputKind::Image, destination: None });
    }
    let to_stdout = outputs.iter().filter(|output| goes_to_stdout(output)).count();
    if to_stdout > 1 {
        return Err(
            Error::usage("only one output can go to standard output").hint("give the others a `dest=`")
        );
    }
    if to_stdout == 1 {
        terminal::refuse_archive("use `dest=FILE`, or redirect")?;
    }
    Ok(outputs)
}

fn goes_to_stdout(output: &Output) -> bool {
    output.destination.is_none()
        && matches!(output.kind, OutputKind::Oci | OutputKind::Docker | OutputKind::Tar)
}

/// Reads one `-o`: `type=KIND,dest=PATH`, or in short a directory or `-`.
fn parse(text: &str) -> Result<Output, Error> {
    if !text.contains('=') {
        return match text {
            "" => Err(Error::usage("`--output` needs a value")),
            "-" => Ok(Output { kind: OutputKind::Tar, destination: None }),
            directory => Ok(Output { kind: OutputKind::Local, destination: Some(absolute(directory)?) }),
        };
    }
    let (mut kind, mut destination) = (None, None);
    for field in text.split(',') {
        let (key, value) = field.split_once('=').unwrap_or((field, ""));
        match key.trim().to_ascii_lowercase().as_str() {
            "type" => kind = Some(parse_kind(value)?),
            "dest" | "destination" if value == "-" => destination = None,
            "dest" | "destination" => destination = Some(absolute(value)?),
            "name" | "push" | "compression" | "compression-level" | "force-compression"
            | "oci-mediatypes" | "rewrite-timestamp" | "unpack" | "store" | "annotation"
            | "platform-split" | "tar" | "context" | "mode" => {
                return Err(Error::usage(format!("`{key}` in `--output` is not supported yet")));
            }
            _ => return Err(Error::usage(format!("unknown key `{key}` in `--output {text}`"))),
        }
    }
    let kind = kind.ok_or_else(|| Error::usage(format!("`--output {text}` needs a `type=`")))?;
    if kind == OutputKind::Local && destination.is_none() {
        return Err(Error::usage("`--output type=local` needs a `dest=DIRECTORY`"));
    }
    if kind == OutputKind::Image && destination.is_some() {
        return Err(Error::usage("`--output type=image` has no `dest=`").hint("use `-t NAME`, or type=oci"));
    }
    Ok(Output { kind, destination })
}

fn parse_kind(text: &str) -> Result<OutputKind, Error> {
    match text {
        "image" => Ok(OutputKind::Image),
        "oci" => Ok(OutputKind::Oci),
        "docker" => Ok(OutputKind::Docker),
        "tar" => Ok(OutputKind::Tar),
        "local" => Ok(OutputKind::Local),
        "registry" | "cacheonly" => Err(Error::usage(format!("`--output type={text}` is not supported yet"))),
        other => Err(Error::usage(format!("unknown output type `{other}`"))
            .hint("it may be image, oci, docker, tar or local")),
    }
}

fn absolute(path: &str) -> Result<PathBuf, Error> {
    if path.is_empty() {
        return Err(Error::usage("`dest=` in `--output` is empty"));
    }
    std::path::absolute(path).map_err(|error| Error::usage(format!("cannot use the path `{path}`: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_read_in_every_form() {
        for (text, kind, destination) in [
            ("-", OutputKind::Tar, None),
            ("/out", OutputKind::Local, Some("/out")),
            ("type=local,dest=/out", OutputKind::Local, Some("/out")),
            ("type=oci,dest=/x.tar", OutputKind::Oci, Some("/x.tar")),
            ("dest=/x.tar,type=docker", OutputKind::Docker, Some("/x.tar")),
            ("type=tar,dest=-", OutputKind::Tar, None),
            ("type=image", OutputKind::Image, None),
        ] {
            let expected = Output { kind, destination: destination.map(PathBuf::from) };
            assert_eq!(parse(text).ok(), Some(expected), "{text}");
        }
    }

    #[test]
    fn outputs_that_cannot_be_are_refused() {
        for text in [
            "",
            "type=local",
            "type=zip",
            "dest=/x",
            "type=oci,compression=zstd",
            "type=oci,foo=1",
            "type=image,dest=/x",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
