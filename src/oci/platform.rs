//! What an image runs on, and which entry of an index fits best.

use std::fmt;
use std::str::FromStr;

use super::{Descriptor, ImageConfig};

/// What an image runs on; always in normal form when made by this module.
///
/// Normal form: Go's names (`amd64`, not `x86_64`), `arm` always with its variant, `arm64` v8 and
/// `amd64` v1 without, because those are what the bare names mean.
/// Source: containerd, platforms/database.go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`.
    pub architecture: String,
    /// `v7`.
    pub variant: Option<String>,
}

/// Why a text names no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// It has the wrong number of parts or strange characters.
    #[error("`{0}` is not a platform of the form `os/architecture[/variant]`, such as `linux/arm64`")]
    Form(String),
    /// Its only part is neither an operating system nor an architecture.
    #[error("`{0}` is neither a known operating system nor a known architecture")]
    Unknown(String),
}

impl Platform {
    /// Returns the platform of these names, in normal form.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let os = match os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let variant = variant.unwrap_or_default().to_ascii_lowercase();
        let (architecture, variant) = normalise(&architecture.to_ascii_lowercase(), &variant);
        Self { os, architecture, variant: (!variant.is_empty()).then_some(variant) }
    }

    /// Returns the platform that this machine runs natively.
    pub fn host() -> Self {
        Self::new(std::env::consts::OS, std::env::consts::ARCH, None)
    }

    /// Returns the platform that `config` is for.
    pub fn of_config(config: &ImageConfig) -> Self {
        Self::new(&config.os, &config.architecture, config.variant.as_deref())
    }

    /// Returns the platform that an index gives for `descriptor`.
    pub fn of_descriptor(descriptor: &Descriptor) -> Option<Self> {
        let platform = descriptor.platform().as_ref()?;
        let (os, architecture) = (platform.os().to_string(), platform.architecture().to_string());
        Some(Self::new(&os, &architecture, platform.variant().as_deref()))
    }

    /// Tells whether an image for `image` runs on this platform.
    pub fn matches(&self, image: &Self) -> bool {
        self.distance(image).is_some()
    }

    /// Returns how far `image` is below what this platform can run: 0 is exact, `None` doesn't run.
    fn distance(&self, image: &Self) -> Option<u32> {
        if (&self.os, &self.architecture) != (&image.os, &image.architecture) {
            return None;
        }
        if self.variant == image.variant {
            return Some(0);
        }
        let (own, other) = (self.level()?, image.level()?);
        own.checked_sub(other)
    }

    /// Returns the variant as a number (tenths for `v8.2`), what the bare name means included.
    fn level(&self) -> Option<u32> {
        let bare = match self.architecture.as_str() {
            "arm64" => "v8",
            "amd64" => "v1",
            _ => return self.variant.as_deref().and_then(level),
        };
        level(self.variant.as_deref().unwrap_or(bare))
    }
}

/// Reads `v8` as 80 and `v8.2` as 82.
fn level(variant: &str) -> Option<u32> {
    let (major, minor) = match variant.strip_prefix('v')?.split_once('.') {
        Some((major, minor)) => (major, minor.parse::<u32>().ok().filter(|minor| *minor < 10)?),
        None => (variant.strip_prefix('v')?, 0),
    };
    major.parse::<u32>().ok().filter(|major| *major < 100).map(|major| major * 10 + minor)
}

fn normalise(architecture: &str, variant: &str) -> (String, String) {
    let (architecture, variant) = match (architecture, variant) {
        ("i386" | "i686" | "x86", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "" | "v1" | "1") => ("amd64", ""),
        ("x86_64" | "x86-64" | "amd64", other) => ("amd64", other),
        ("aarch64" | "arm64", "" | "8" | "v8") => ("arm64", ""),
        ("aarch64" | "arm64", other) => ("arm64", other),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "") => ("arm", "v7"),
        ("powerpc64le" | "ppc64el", other) => ("ppc64le", other),
        ("powerpc64", other) => ("ppc64", other),
        ("mipsel", other) => ("mipsle", other),
        ("mips64el", other) => ("mips64le", other),
        ("loongarch64", other) => ("loong64", other),
        same => same,
    };
    let bare_number = variant.starts_with(|first: char| first.is_ascii_digit());
    let variant = if bare_number { format!("v{variant}") } else { variant.to_owned() };
    (architecture.to_owned(), variant)
}

const SYSTEMS: &[&str] = &[
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "illumos",
    "ios",
    "js",
    "linux",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "wasip1",
    "windows",
];

const ARCHITECTURES: &[&str] = &[
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le",
    "riscv64", "s390x", "wasm",
];

impl FromStr for Platform {
    type Err = PlatformError;

    /// Parses `os/arch`, `os/arch/variant`, or one of os and arch with the machine's own other part.
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let shown = || text.chars().take(100).collect::<String>();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        let parts: Vec<&str> = text.split('/').collect();
        if parts.iter().any(|part| part.is_empty() || !part.chars().all(plain)) {
            return Err(PlatformError::Form(shown()));
        }
        match parts[..] {
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, Some(variant))),
            [one] => {
                let host = Self::host();
                let as_os = Self::new(one, &host.architecture, host.variant.as_deref());
                let as_architecture = Self::new(&host.os, one, None);
                if SYSTEMS.contains(&as_os.os.as_str()) {
                    Ok(as_os)
                } else if ARCHITECTURES.contains(&as_architecture.architecture.as_str()) {
                    Ok(as_architecture)
                } else {
                    Err(PlatformError::Unknown(shown()))
                }
            }
            _ => Err(PlatformError::Form(shown())),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

impl serde::Serialize for Platform {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Platform {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Returns the entry of an index that fits `platform` best: the nearest variant, the first among equals.
///
/// Attestations are no images. An entry without a platform is taken only if nothing names a platform
/// at all and it is alone; its config will tell.
pub fn choose<'a>(manifests: &'a [Descriptor], platform: &Platform) -> Option<&'a Descriptor> {
    let images = || manifests.iter().filter(|entry| !is_attestation(entry));
    let ranked = images().filter_map(|entry| {
        let distance = platform.distance(&Platform::of_descriptor(entry)?)?;
        Some((distance, entry))
    });
    if let Some((_, best)) = ranked.min_by_key(|(distance, _)| *distance) {
        return Some(best);
    }
    let mut images = images();
    match (images.next(), images.next()) {
        (Some(only), None) if only.platform().is_none() => Some(only),
        _ => None,
    }
}

/// Tells whether an index's entry is an attestation (provenance, SBOM), which BuildKit lists as `unknown/unknown`.
pub fn is_attestation(entry: &Descriptor) -> bool {
    let unknown = Platform::of_descriptor(entry).is_some_and(|platform| {
        (platform.os.as_str(), platform.architecture.as_str()) == ("unknown", "unknown")
    });
    let annotated = entry
        .annotations()
        .as_ref()
        .and_then(|annotations| annotations.get("vnd.docker.reference.type"))
        .is_some_and(|kind| kind == "attestation-manifest");
    unknown || annotated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_to_normal_form() {
        for (text, normal) in [
            ("linux/x86_64", "linux/amd64"),
            ("Linux/AMD64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm64/8", "linux/arm64"),
            ("linux/arm64/v9", "linux/arm64/v9"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/i386", "linux/386"),
            ("macos/arm64", "darwin/arm64"),
            ("windows/amd64", "windows/amd64"),
        ] {
            let platform: Platform = text.parse().unwrap();
            assert_eq!(platform.to_string(), normal, "{text}");
            assert_eq!(normal.parse(), Ok(platform), "{text}");
        }
    }

    #[test]
    fn one_word_is_completed_by_the_machine() {
        let host = Platform::host();
        assert_eq!("linux".parse::<Platform>().unwrap().architecture, host.architecture);
        assert_eq!("arm64".parse::<Platform>().unwrap().os, host.os);
        assert_eq!("hal9000".parse::<Platform>(), Err(PlatformError::Unknown("hal9000".into())));
    }

    #[test]
    fn malformed_platforms_are_refused() {
        for text in ["", "/", "linux/", "linux//v7", "linux/amd64/v1/x", "linux/amd 64", "linux/\u{e9}"] {
            assert!(matches!(text.parse::<Platform>(), Err(PlatformError::Form(_))), "{text}");
        }
    }

    fn entry(platform: &str, name: char) -> String {
        let digest = format!("sha256:{}", name.to_string().repeat(64));
        let platform = match platform.split('/').collect::<Vec<_>>()[..] {
            [os, architecture] => {
                format!(r#","platform":{{"os":"{os}","architecture":"{architecture}"}}"#)
            }
            [os, architecture, variant] => {
                format!(
                    r#","platform":{{"os":"{os}","architecture":"{architecture}","variant":"{variant}"}}"#
                )
            }
            _ => String::new(),
        };
        format!(r#"{{"mediaType":"m","size":1,"digest":"{digest}"{platform}}}"#)
    }

    fn chosen(entries: &[(&str, char)], want: &str) -> Option<char> {
        let manifests: Vec<Descriptor> = entries
            .iter()
            .map(|(platform, name)| serde_json::from_str(&entry(platform, *name)).unwrap())
            .collect();
        let best = choose(&manifests, &want.parse().unwrap())?;
        best.digest().to_string().chars().last()
    }

    #[test]
    fn the_nearest_variant_is_chosen() {
        let arm =
            [("linux/arm/v5", 'a'), ("linux/arm/v7", 'b'), ("linux/arm/v6", 'c'), ("linux/arm64/v8", 'd')];
        assert_eq!(chosen(&arm, "linux/arm/v7"), Some('b'));
        assert_eq!(chosen(&arm, "linux/arm/v8"), Some('b'));
        assert_eq!(chosen(&arm, "linux/arm/v6"), Some('c'));
        assert_eq!(chosen(&arm, "linux/arm64"), Some('d'));
        assert_eq!(chosen(&arm, "linux/amd64"), None);
        let amd = [("linux/amd64/v3", 'a'), ("linux/amd64", 'b')];
        assert_eq!(chosen(&amd, "linux/amd64"), Some('b'));
        assert_eq!(chosen(&amd, "linux/amd64/v2"), Some('b'));
        assert_eq!(chosen(&amd, "linux/amd64/v4"), Some('a'));
        assert_eq!(chosen(&amd[..1], "linux/amd64"), None);
    }

    #[test]
    fn attestations_are_never_chosen() {
        let entries = [("unknown/unknown", 'a'), ("linux/amd64", 'b')];
        assert_eq!(chosen(&entries, "linux/amd64"), Some('b'));
        assert_eq!(chosen(&entries[..1], "linux/amd64"), None);
        assert_eq!(chosen(&[("", 'c'), ("unknown/unknown", 'a')], "linux/amd64"), Some('c'));
    }
}
