//! Flags of `kiln create` and `run`: where a container's output goes.

use crate::api::CreateRequest;
use crate::cli::error::Error;

/// Where a container's output goes.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Logging {
    /// What keeps the output: json-file, local, journald or none
    #[arg(long, value_name = "DRIVER")]
    log_driver: Option<String>,
    /// Option of the log driver (max-size=10m, max-file=3, mode=non-blocking, …)
    #[arg(long, value_name = "KEY=VALUE")]
    log_opt: Vec<String>,
}

impl Logging {
    /// Puts it into the request.
    pub(super) fn fill(&self, request: &mut CreateRequest) -> Result<(), Error> {
        if let Some(driver) = self.log_driver.as_ref().filter(|driver| !driver.is_empty()) {
            request.log.driver.clone_from(driver);
        }
        for text in &self.log_opt {
            let Some((key, value)) = text.split_once('=') else {
                return Err(Error::usage(format!("invalid value `{text}` for `--log-opt`"))
                    .hint("write it as `key=value`"));
            };
            request.log.options.insert(key.to_owned(), value.to_owned());
        }
        Ok(())
    }
}
