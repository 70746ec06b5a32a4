//! Refusals, worded as the service words them (facts §5.5, §6): JSON body, explanation in the reason phrase.

use serde_json::json;

use super::ids::Ids;
use super::reply::{Reply, reason};

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No route is like this: 404 from the web framework.
    NoRoute,
    /// 401 with challenges, with a text for the reason phrase.
    Unauthenticated(String),
    /// 203 or 302 instead of 401: a browser is believed to ask.
    SignIn,
    /// 403.
    Forbidden(String),
    /// 404 about a feed, a view, a package or a version.
    NotFound { message: String, type_key: &'static str },
    /// 405.
    Method,
    /// 409 or 403 on publication, 400 on nonsense.
    Refused { status: u16, message: String, type_key: &'static str },
}

/// What the wording of a refusal needs to know beside the refusal.
#[derive(Clone, Debug)]
pub(crate) struct RefusalContext<'a> {
    pub(crate) ids: Ids,
    /// Scheme, authority, path and query of the request.
    pub(crate) url: &'a str,
    /// The tenant's GUID, when the organisation is known.
    pub(crate) tenant: Option<String>,
    pub(crate) sign_in: SignIn,
}

/// How `_apis` routes answer a credential that is not valid, unless `X-TFS-FedAuthRedirect: Suppress` was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SignIn {
    /// 203 with an HTML page.
    #[default]
    Page203,
    /// 302 to the sign-in host.
    Redirect302,
}

/// The 404 about a feed.
pub(crate) fn no_feed(feed: &str) -> Refusal {
    Refusal::NotFound {
        message: format!("The feed with ID '{feed}' doesn't exist."),
        type_key: "FeedIdNotFoundException",
    }
}

/// The 404 about a view.
pub(crate) fn no_view(view: &str, feed: &str) -> Refusal {
    Refusal::NotFound {
        message: format!("The view '{view}' of feed '{feed}' doesn't exist."),
        type_key: "FeedViewNotFoundException",
    }
}

/// The 404 about a package or one version of it.
pub(crate) fn no_package(package: &str, feed: &str) -> Refusal {
    Refusal::NotFound {
        message: format!("Cannot find the package '{package}' in feed '{feed}'"),
        type_key: "PackageNotFoundException",
    }
}

// === impl Refusal ===

impl Refusal {
    pub(crate) fn refused(status: u16, type_key: &'static str, message: impl Into<String>) -> Self {
        Self::Refused { status, message: message.into(), type_key }
    }

    pub(crate) fn into_reply(self, context: &RefusalContext<'_>) -> Reply {
        match self {
            Self::NoRoute => no_route(context.url),
            Self::Unauthenticated(message) => unauthenticated(&message, context),
            Self::SignIn => sign_in(context),
            Self::Forbidden(message) => service_error(403, &message, "InvalidAccessException", context),
            Self::NotFound { message, type_key } => service_error(404, &message, type_key, context),
            Self::Method => method_not_allowed(),
            Self::Refused { status, message, type_key } => service_error(status, &message, type_key, context),
        }
    }
}

/// The body and the reason phrase of §5.5.
fn service_error(status: u16, message: &str, type_key: &str, context: &RefusalContext<'_>) -> Reply {
    let activity = context.ids.activity.to_string().to_uppercase();
    let phrase = format!("{} - {message} (DevOps Activity ID: {activity})", reason(status));
    Reply::new(status, "application/json; charset=utf-8", body(message, type_key)).reason(phrase)
}

/// The JSON of an error.
pub(crate) fn body(message: &str, type_key: &str) -> String {
    let library = "Microsoft.VisualStudio.Services.Feed.WebApi";
    json!({
        "$id": "1",
        "innerException": null,
        "message": message,
        "typeName": format!("{library}.{type_key}, {library}"),
        "typeKey": type_key,
        "errorCode": 0,
        "eventId": 3000,
    })
    .to_string()
}

fn no_route(url: &str) -> Reply {
    let message = format!("No HTTP resource was found that matches the request URI '{url}'.");
    let body = json!({ "count": 1, "value": { "Message": message } });
    Reply::new(404, "application/json; charset=utf-8", body.to_string())
}

fn method_not_allowed() -> Reply {
    let body = json!({ "count": 1, "value": { "Message": "The requested resource does not support this http method." } });
    Reply::new(405, "application/json; charset=utf-8", body.to_string()).header("Allow", "GET")
}

/// Three challenges on three lines, and the headers by which the credential provider knows the hosted service.
fn unauthenticated(message: &str, context: &RefusalContext<'_>) -> Reply {
    let mut phrase = "Unauthorized".to_owned();
    if !message.is_empty() {
        phrase = format!("Unauthorized - {message} (DevOps Activity ID: {})", context.ids.activity);
    }
    let text = "TF400813: The user '' is not authorized to access this resource.";
    let tenant = context.tenant.clone().unwrap_or_else(|| "00000000-0000-0000-0000-000000000000".to_owned());
    Reply::new(401, "application/json; charset=utf-8", body(text, "UnauthorizedRequestException"))
        .reason(phrase)
        .header("WWW-Authenticate", format!("Bearer authorization_uri=https://login.windows.net/{tenant}"))
        .header("WWW-Authenticate", "Basic realm=\"https://pkgsprodsim.app.pkgs.visualstudio.com/\"")
        .header("WWW-Authenticate", "TFS-Federated")
        .header("X-VSS-ResourceTenant", tenant)
        .header("X-VSS-AuthorizationEndpoint", "https://vssps.dev.azure.com/simulated/")
}

/// The sign-in page, in one of its two forms.
pub(crate) fn sign_in(context: &RefusalContext<'_>) -> Reply {
    match context.sign_in {
        SignIn::Page203 => {
            let page = "<!DOCTYPE html><html><head><title>Azure DevOps Services | Sign In</title></head><body>Sign in to continue</body></html>\n";
            Reply::new(203, "text/html; charset=utf-8", page)
        }
        SignIn::Redirect302 => {
            let target = "https://spsprodsim1.vssps.visualstudio.com/_signin?realm=pkgs.dev.azure.com";
            let location = format!("{target}&reply_to={}", context.url.replace('&', "%26"));
            let page = format!(
                "<html><head><title>Object moved</title></head><body>\n<h2>Object moved to <a href=\"{target}\">here</a>.</h2>\n</body></html>\n"
            );
            Reply::new(302, "text/html; charset=utf-8", page).header("Location", location)
        }
    }
}
