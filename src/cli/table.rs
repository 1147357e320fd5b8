//! Tables for people.

use comfy_table::{ContentArrangement, Table, presets};

/// Renders rows under a header; wide cells are wrapped to the terminal, or to 140 columns in a pipe.
pub(super) fn render(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if table.width().is_none() {
        table.set_width(140);
    }
    table.set_header(header.iter().copied());
    table.set_style(comfy_table::TableComponent::HeaderLines, '─');
    for row in rows {
        table.add_row(row);
    }
    table.to_string()
}

/// Columns of the terminal; 110 in a pipe.
pub(super) fn width() -> usize {
    Table::new().width().map_or(110, usize::from)
}

/// A share as a percentage.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}
