//! Arguments whose rules are checked before the handler is called.

use crate::config::{Preset, Setting};

/// Whether [`Valid`] checks (K80). The Go servers check nothing unless told to.
pub static STRUCT_VALIDATION: Setting<bool> = Setting::new(
    "pitaya.defaultpipelines.structvalidation.enabled",
    true,
    "Whether arguments of the type Valid<T> are checked against the rules of T before their handler is called.",
)
.presets(&[(Preset::GoV2, false), (Preset::GoV3, false)]);

#[cfg(feature = "validate")]
mod checked {
    use std::sync::Arc;

    use garde::{Report, Validate};

    use super::STRUCT_VALIDATION;
    use crate::{Error, FromRequest, Needs, Request, Result};

    /// A payload that keeps the rules of its type: `Valid<Json<T>>`, `Valid<Protobuf<T>>`.
    ///
    /// The rules are those of the crate [`garde`]. A payload that breaks one is answered with `PIT-400`, which names the
    /// fields, and the handler is not called. The setting [`STRUCT_VALIDATION`] switches the check off.
    ///
    /// ```
    /// use garde::Validate;
    /// use pitaya_core::{Json, extract::Valid};
    /// use serde::Deserialize;
    ///
    /// #[derive(Deserialize, Validate)]
    /// struct Join {
    ///     #[garde(length(min = 1, max = 20))]
    ///     name: String,
    ///     #[garde(skip)]
    ///     color: u32,
    /// }
    ///
    /// async fn join(Valid(Json(join)): Valid<Json<Join>>) -> Json<String> {
    ///     Json(join.name)
    /// }
    /// # let _ = join;
    /// ```
    ///
    /// A payload type of your own can be checked, too, when it implements `garde::Validate`.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
    pub struct Valid<P>(pub P);

    /// So many broken rules are told, to bound the answer to a long list of wrong items.
    const TOLD: usize = 8;

    impl<P, C> FromRequest<C> for Valid<P>
    where
        P: FromRequest<C> + Validate<Context: Default> + Send,
        C: Send + Sync,
    {
        type Takes = P::Takes;

        fn needs(needs: &mut Needs) {
            P::needs(needs);
        }

        fn is_absent(request: &Request) -> bool {
            P::is_absent(request)
        }

        async fn from_request(request: &mut Request, component: &Arc<C>) -> Result<Self> {
            let payload = P::from_request(request, component).await?;
            if request.parts.app.config().get(&STRUCT_VALIDATION) {
                payload.validate().map_err(|report| broken(&report))?;
            }
            Ok(Self(payload))
        }
    }

    #[cold]
    fn broken(report: &Report) -> Error {
        let rule = |(path, error): &(garde::Path, garde::Error)| {
            if path.is_empty() { error.to_string() } else { format!("{path}: {error}") }
        };
        let mut rules: Vec<_> = report.iter().take(TOLD).map(rule).collect();
        let more = report.iter().count() - rules.len();
        if more > 0 {
            rules.push(format!("and {more} more"));
        }
        Error::bad_request(rules.join("; "))
    }
}

#[cfg(feature = "validate")]
pub use checked::Valid;
