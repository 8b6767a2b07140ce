//! All routes, and the OpenAPI document that describes them: both from the same list.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi as OpenApiDocument, Ref, RefOr, ResponseBuilder};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::SwaggerUi;

use super::problem::{Code, ProblemBody};
use super::{
    AppState, claims, cloudpayments, dedupe, deliveries, files, flows, health, jobs, keys, locks, mailbox, metrics,
    orders, pickup, queues, requests, sagas, schedulers, slots, videos,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Onetake",
        description = "Ask for the same thing a thousand times: it is made once, and everyone who asked gets it.\n\n\
            Errors are problem documents (RFC 9457) with a stable `code`. Lists go on with the `next` of the page \
            before, as `cursor` (`start` where jobs are counted, `after` for payments). Every POST, PUT and DELETE takes an `Idempotency-Key`, but for a payment provider's notifications, which \
            are repeatable as they are. The same key with another body is refused (`idempotency_key_reused`), except where \
            it only names what was granted: in claims, and for fast locks."
    ),
    components(schemas(ProblemBody, Code)),
    modifiers(&Bearer)
)]
struct Described;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, openapi: &mut OpenApiDocument) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("An API key, `otk_...`. Not needed on loopback while there are no keys."))
            .build();
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// The routes, with `/openapi.json` and a page at `/docs` to try them, which needs no other server.
pub(super) fn routes() -> Router<AppState> {
    let (router, openapi) = OpenApiRouter::with_openapi(Described::openapi())
        .routes(routes!(videos::create))
        .routes(routes!(videos::import))
        .routes(routes!(orders::create, orders::list))
        .routes(routes!(orders::show))
        .routes(routes!(orders::cancel))
        .routes(routes!(orders::refund))
        .routes(routes!(orders::payments))
        .routes(routes!(cloudpayments::notify))
        .routes(routes!(sagas::list))
        .routes(routes!(sagas::show))
        .routes(routes!(sagas::resolve))
        .routes(routes!(requests::list))
        .routes(routes!(requests::show, requests::leave))
        .routes(routes!(requests::events))
        .routes(routes!(mailbox::list))
        .routes(routes!(files::show))
        .routes(routes!(deliveries::list))
        .routes(routes!(deliveries::show))
        .routes(routes!(deliveries::replay))
        .routes(routes!(dedupe::list))
        .routes(routes!(dedupe::show))
        .routes(routes!(dedupe::release))
        .routes(routes!(queues::list))
        .routes(routes!(queues::show))
        .routes(routes!(queues::pause))
        .routes(routes!(queues::resume))
        .routes(routes!(queues::retry))
        .routes(routes!(queues::promote))
        .routes(routes!(queues::drain))
        .routes(routes!(queues::clean))
        .routes(routes!(queues::obliterate))
        .routes(routes!(queues::trim_events))
        .routes(routes!(queues::set_concurrency, queues::clear_concurrency))
        .routes(routes!(queues::set_rate_limit, queues::clear_rate_limit))
        .routes(routes!(queues::remove_rate_limit))
        .routes(routes!(queues::list_groups))
        .routes(routes!(queues::show_group, queues::set_group, queues::forget_group))
        .routes(routes!(queues::pause_group))
        .routes(routes!(queues::resume_group))
        .routes(routes!(queues::workers, queues::set_workers))
        .routes(routes!(jobs::list, jobs::create))
        .routes(routes!(jobs::show, jobs::remove))
        .routes(routes!(flows::create))
        .routes(routes!(flows::tree))
        .routes(routes!(jobs::children))
        .routes(routes!(jobs::logs))
        .routes(routes!(jobs::retry))
        .routes(routes!(jobs::promote))
        .routes(routes!(jobs::change_delay))
        .routes(routes!(jobs::change_priority))
        .routes(routes!(jobs::update_data))
        .routes(routes!(claims::claim))
        .routes(routes!(claims::heartbeat))
        .routes(routes!(claims::complete))
        .routes(routes!(claims::fail))
        .routes(routes!(claims::delay))
        .routes(routes!(claims::children))
        .routes(routes!(jobs::cancel))
        .routes(routes!(schedulers::list))
        .routes(routes!(schedulers::show, schedulers::set, schedulers::remove))
        .routes(routes!(slots::list))
        .routes(routes!(slots::bookings))
        .routes(routes!(slots::book))
        .routes(routes!(slots::cancel))
        .routes(routes!(slots::sync))
        .routes(routes!(pickup::accept))
        .routes(routes!(pickup::issue))
        .routes(routes!(pickup::take_back))
        .routes(routes!(pickup::return_to_courier))
        .routes(routes!(pickup::orders))
        .routes(routes!(pickup::history))
        .routes(routes!(pickup::show))
        .routes(routes!(locks::list, locks::acquire_several))
        .routes(routes!(locks::show, locks::acquire))
        .routes(routes!(locks::renew))
        .routes(routes!(locks::release))
        .routes(routes!(locks::force_release))
        .routes(routes!(keys::create, keys::list))
        .routes(routes!(keys::revoke))
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(metrics::show))
        .split_for_parts();
    let openapi = in_full(openapi);
    router.merge(SwaggerUi::new("/docs").url("/openapi.json", openapi))
}

/// What all operations have in common: an id of their own, and problem documents for whatever they refuse.
fn in_full(mut openapi: OpenApiDocument) -> OpenApiDocument {
    let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let response = |description: &str| {
        ResponseBuilder::new().description(description).content("application/problem+json", problem.clone()).build()
    };
    let any = response("A refusal or an error; its `code` says which, and `field` where it lies.");
    for item in openapi.paths.paths.values_mut() {
        for operation in [&mut item.get, &mut item.post, &mut item.put, &mut item.delete].into_iter().flatten() {
            // Functions of several modules have one name.
            let tag = operation.tags.iter().flatten().next().map_or("", String::as_str);
            operation.operation_id = operation.operation_id.take().map(|name| format!("{tag}_{name}"));
            for (status, told) in &mut operation.responses.responses {
                let status = status.parse().ok().and_then(|status| StatusCode::from_u16(status).ok());
                let (Some(status), RefOr::T(told)) = (status, told) else { continue };
                let reason = status.canonical_reason().unwrap_or_default();
                if !status.is_success() && told.content.is_empty() {
                    *told = response(reason);
                } else if told.description.is_empty() {
                    reason.clone_into(&mut told.description);
                }
            }
            operation.responses.responses.entry("default".to_owned()).or_insert_with(|| any.clone().into());
        }
    }
    openapi
}

/// What a process answers that only runs jobs.
pub(super) fn probes() -> Router<AppState> {
    Router::new()
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(metrics::show))
}
