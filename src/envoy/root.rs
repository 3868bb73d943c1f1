//! One configuration in one worker.

use std::cell::OnceCell;
use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;

use super::abi;
use super::host::{Envoy, root_id};
use super::stream::Stream;
use crate::config::Config;
use crate::filter::Filter;
use crate::host::{Direction, Host};
use crate::worker::Worker;

/// A root context: a configuration, and the filter that it becomes on the first request.
pub(super) struct Root {
    worker: Rc<Worker>,
    installed: Option<Rc<Installed>>,
}

/// A configuration that was accepted.
pub(super) struct Installed {
    config: Config,
    /// The configuration at work, for each [`Direction`]. Envoy gives listeners of both directions one root context if
    /// their configurations are equal, and a request is the first to know its direction.
    filters: [OnceCell<Filter>; 3],
    worker: Rc<Worker>,
}

impl Root {
    pub(super) fn new(worker: Rc<Worker>) -> Self {
        Self { worker, installed: None }
    }

    /// Reads the configuration that is being installed; the error is for the operator.
    fn read() -> Result<Config, String> {
        let bytes = abi::plugin_configuration().map_err(|status| format!("host call failed with status {status}"))?;
        Config::parse(&bytes.unwrap_or_default()).map_err(|error| error.to_string())
    }
}

impl Context for Root {}

impl RootContext for Root {
    /// Compiles the configuration and takes it up only if all of it is good. Runs in throw-away machines too, so it
    /// touches no shared state.
    fn on_configure(&mut self, _size: usize) -> bool {
        match Self::read() {
            Ok(config) => {
                self.installed = Some(Rc::new(Installed::new(config, Rc::clone(&self.worker))));
                true
            }
            Err(error) => {
                log::error!("configuration refused: {error}");
                self.worker.trouble.config_rejected(&Envoy);
                false
            }
        }
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream::new(self.installed.clone(), Rc::clone(&self.worker))))
    }
}

impl Installed {
    fn new(config: Config, worker: Rc<Worker>) -> Self {
        if let Some(version) = &config.version
            && let Err(error) = worker.versions.taken_up(&Envoy, &worker.metrics, version)
        {
            worker.trouble.host_error(&Envoy, error);
        }
        Self { config, filters: Default::default(), worker }
    }

    /// The direction of the current request as far as it matters: asked for only where it decides over the scope of
    /// something shared.
    pub(super) fn direction(&self) -> Direction {
        if self.config.scope.is_some() || self.config.limits.is_empty() {
            return Direction::Unspecified;
        }
        Envoy.direction().unwrap_or_else(|error| {
            self.worker.trouble.host_error(&Envoy, error);
            Direction::Unspecified
        })
    }

    /// The filter for requests of the direction.
    pub(super) fn filter(&self, direction: Direction) -> &Filter {
        let [unspecified, inbound, outbound] = &self.filters;
        let filter = match direction {
            Direction::Unspecified => unspecified,
            Direction::Inbound => inbound,
            Direction::Outbound => outbound,
        };
        filter.get_or_init(|| Filter::new(&self.config, &format!("{}/{}", root_id(), direction.as_str())))
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        if let Some(version) = &self.config.version
            && let Err(error) = self.worker.versions.given_up(&Envoy, &self.worker.metrics, version)
        {
            self.worker.trouble.host_error(&Envoy, error);
        }
    }
}
