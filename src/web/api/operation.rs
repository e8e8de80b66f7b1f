//! Operations of the API, and their OpenAPI document: made of the same types that handlers take and give.

use axum::response::IntoResponse;
use std::future::Future;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::routing::{MethodFilter, on};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use serde_json::{Map, json};

use crate::domain::permission::Permission;
use crate::web::api::call::{Call, Reply};
use crate::web::problem::Problem;
use crate::web::state::Web;

pub const PREFIX: &str = "/api/v1";

/// One operation.
#[derive(Debug, Clone)]
pub struct Operation {
    /// Its method.
    pub method: Method,
    /// Its whole path, with parts in braces.
    pub path: String,
    /// What it needs in one shop at least.
    pub needs: Permission,
    document: Json,
}

/// A list of operations in construction.
pub struct Routes {
    pub router: Router<Web>,
    pub operations: Vec<Operation>,
    requests: SchemaGenerator,
    answers: SchemaGenerator,
}

/// The description of an operation besides its types.
#[derive(Clone, Copy)]
pub struct About {
    /// What it needs.
    pub needs: Permission,
    /// The status of success.
    pub status: StatusCode,
    /// What it does, in a few words.
    pub summary: &'static str,
}

impl About {
    /// An operation that answers 200.
    pub const fn new(needs: Permission, summary: &'static str) -> Self {
        Self { needs, status: StatusCode::OK, summary }
    }
}

pub fn generator() -> SchemaSettings {
    SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    })
}

impl Routes {
    pub fn empty() -> Self {
        Self {
            router: Router::new(),
            operations: Vec::new(),
            requests: generator().into_generator(),
            answers: generator().for_serialize().into_generator(),
        }
    }

    /// Adds an operation; its types describe input and output.
    pub fn add<P, Q, B, R, F, Fut>(
        mut self,
        method: &Method,
        path: &str,
        about: About,
        handler: F,
    ) -> Self
    where
        P: DeserializeOwned + JsonSchema + Send + 'static,
        Q: DeserializeOwned + JsonSchema + Send + 'static,
        B: DeserializeOwned + JsonSchema + Send + 'static,
        R: Serialize + JsonSchema + 'static,
        F: Fn(Web, Call<P, Q, B>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<Reply<R>, Problem>> + Send + 'static,
    {
        let needs = about.needs;
        let run = move |State(web): State<Web>, request: Request| {
            let handler = handler.clone();
            async move {
                let call = Call::read(&web, needs, request).await?;
                Ok::<_, Problem>(handler(web, call).await?.into_response())
            }
        };
        let parameters = [self.parameters::<P>("path"), self.parameters::<Q>("query")].concat();
        let body = self.requests.subschema_for::<B>();
        let takes_nothing =
            std::any::TypeId::of::<B>() == std::any::TypeId::of::<crate::web::api::call::Nothing>();
        let content = json!({"application/json": {"schema": body}});
        let answer = json!({"application/json": {"schema": self.answers.subschema_for::<R>()}});
        let request = (!takes_nothing).then(|| json!({"content": content}));
        self.note(method, path, &about, parameters, request, &answer);
        let filter = MethodFilter::try_from(method.clone()).unwrap_or(MethodFilter::GET);
        self.router = self.router.route(&format!("{PREFIX}{path}"), on(filter, run));
        self
    }

    /// Adds an operation that reads its body by itself.
    pub fn add_raw<T: JsonSchema, R: JsonSchema>(
        mut self,
        (method, path, about): (&Method, &str, About),
        kinds: &[&str],
        route: axum::routing::MethodRouter<Web>,
    ) -> Self {
        let schema = self.requests.subschema_for::<T>();
        let of = |kind: &&str| match kind.contains("ndjson") {
            true => ((*kind).to_owned(), json!({"schema": {"type": "string"}})),
            false => ((*kind).to_owned(), json!({"schema": schema})),
        };
        let content: Map<String, Json> = kinds.iter().map(of).collect();
        let request = Some(json!({"content": content, "required": true}));
        let answer = json!({"application/json": {"schema": self.answers.subschema_for::<R>()}});
        self.note(method, path, &about, Vec::new(), request, &answer);
        self.router = self.router.route(&format!("{PREFIX}{path}"), route);
        self
    }

    /// The properties of an object as parameters.
    fn parameters<T: JsonSchema>(&mut self, place: &str) -> Vec<Json> {
        let schema = self.requests.root_schema_for::<T>().to_value();
        let required = schema.get("required").and_then(Json::as_array).cloned().unwrap_or_default();
        let properties = schema.get("properties").and_then(Json::as_object).cloned();
        let parameter = |(name, mut schema): (String, Json)| {
            let description =
                schema.as_object_mut().and_then(|schema| schema.remove("description"));
            let is_required = place == "path" || required.contains(&Json::from(name.as_str()));
            let mut parameter = json!({
                "name": name, "in": place, "required": is_required, "schema": schema,
            });
            if let Some(description) = description {
                parameter["description"] = description;
            }
            parameter
        };
        properties.unwrap_or_default().into_iter().map(parameter).collect()
    }

    fn note(
        &mut self,
        method: &Method,
        path: &str,
        about: &About,
        mut parameters: Vec<Json>,
        request: Option<Json>,
        answer: &Json,
    ) {
        if matches!(*method, Method::POST | Method::PUT | Method::PATCH) {
            parameters.push(json!({"$ref": "#/components/parameters/IdempotencyKey"}));
        }
        let mut document = json!({
            "summary": about.summary,
            "description": format!("Needs `{}`.", about.needs.as_str()),
            "operationId": operation_id(method, path),
            "parameters": parameters,
            "responses": {
                about.status.as_str(): {"description": "Done", "content": answer},
                "default": {"$ref": "#/components/responses/Problem"},
            },
        });
        if let Some(request) = request {
            document["requestBody"] = request;
        }
        let path = format!("{PREFIX}{path}");
        self.operations.push(Operation {
            method: method.clone(),
            path,
            needs: about.needs,
            document,
        });
    }

    /// The OpenAPI 3.1 document.
    pub fn document(&mut self) -> Json {
        let mut paths = Map::new();
        for operation in &self.operations {
            let path = paths.entry(operation.path.clone()).or_insert_with(|| json!({}));
            path[operation.method.as_str().to_ascii_lowercase()] = operation.document.clone();
        }
        let problem = self.answers.subschema_for::<Problem>();
        let mut schemas = self.requests.take_definitions(true);
        schemas.extend(self.answers.take_definitions(true));
        json!({
            "openapi": "3.1.0",
            "info": {
                "title": "order-relay",
                "version": env!("CARGO_PKG_VERSION"),
                "description": "Transfer of orders to the ERP. docs/api.md describes how to use it.",
                "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
            },
            "security": [{"token": []}, {"session": [], "csrf": []}],
            "paths": paths,
            "components": {
                "schemas": schemas,
                "parameters": {"IdempotencyKey": idempotency_key()},
                "responses": {"Problem": {
                    "description": "What is wrong (RFC 9457)",
                    "content": {"application/problem+json": {"schema": problem}},
                }},
                "securitySchemes": {
                    "token": {"type": "http", "scheme": "bearer"},
                    "session": {"type": "apiKey", "in": "cookie", "name": "order_relay_session"},
                    "csrf": {"type": "apiKey", "in": "header", "name": "X-CSRF-Token"},
                },
            },
        })
    }
}

pub fn idempotency_key() -> Json {
    json!({
        "name": "Idempotency-Key",
        "in": "header",
        "required": false,
        "description": "For 24 hours the same key with the same request gets the first answer again.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    })
}

pub fn operation_id(method: &Method, path: &str) -> String {
    let words = path.split(['/', '{', '}', '-', '_']).filter(|word| !word.is_empty());
    let words = words.map(|word| {
        let mut letters = word.chars();
        let first = letters.next().map(|first| first.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    });
    format!("{}{}", method.as_str().to_ascii_lowercase(), words.collect::<String>())
}
