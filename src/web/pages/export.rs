//! Exports: rows as CSV, streamed page by page, safe to open in a spreadsheet.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::response::Response;
use futures_util::stream;

use crate::domain::csv_cell::cell;
use crate::domain::lifecycle::transitions::OrderRecord;
use crate::domain::order_filter::{OrderFilter, Sort};
use crate::ops::principal::Principal;
use crate::ops::refusal::Refusal;
use crate::ops::verbs::Ops;
use crate::views::orders::{OrderView, export_columns};
use crate::web::html::context::download;

const PAGE: u32 = 500;

/// Every order that matches.
pub fn orders_csv(ops: Arc<Ops>, person: Principal, filter: OrderFilter) -> Response {
    let pages = move |after: Option<String>| {
        let (ops, person, filter) = (ops.clone(), person.clone(), filter.clone());
        async move {
            let page = ops.page(&person, &filter, Sort::default(), after.as_deref(), PAGE).await?;
            Ok((page.orders.iter().map(order_cells).collect(), page.next))
        }
    };
    let columns = export_columns().map(|(name, _)| name);
    csv("orders.csv", &columns, pages)
}

fn order_cells(order: &OrderRecord) -> Vec<String> {
    let view = OrderView::of(order);
    export_columns().iter().map(|(_, show)| show(&view)).collect()
}

/// A file that is streamed page by page; if a page fails, the connection is closed, so that a
/// partial file is not mistaken for a complete one.
pub fn csv<F, P>(name: &str, columns: &[&str], pages: F) -> Response
where
    F: Fn(Option<String>) -> P + Send + Sync + 'static,
    P: Future<Output = Result<(Vec<Vec<String>>, Option<String>), Refusal>> + Send,
{
    let head = line(columns.iter().copied());
    let state = (pages, Some((Some(head), None::<String>)));
    let chunks = stream::unfold(state, |(pages, place)| async move {
        let (head, after) = place?;
        match pages(after).await {
            Ok((rows, next)) => {
                let mut text = head.unwrap_or_default();
                for row in rows {
                    text.push_str(&line(row.iter().map(String::as_str)));
                }
                let place = next.map(|next| (None, Some(next)));
                Some((Ok(Bytes::from(text)), (pages, place)))
            }
            Err(error) => {
                tracing::warn!(%error, "export.cut");
                Some((Err(std::io::Error::other("the export was aborted")), (pages, None)))
            }
        }
    });
    download(name, "text/csv; charset=utf-8", Body::from_stream(chunks))
}

fn line<'a>(cells: impl Iterator<Item = &'a str>) -> String {
    let mut csv = csv::Writer::from_writer(Vec::new());
    let cells: Vec<String> = cells.map(cell).collect();
    // Writing into memory cannot fail.
    csv.write_record(&cells).unwrap_or_default();
    csv.into_inner().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
