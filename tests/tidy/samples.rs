//! Bad samples: each rule is shown to be able to fail, and not to fail on what only looks bad.

use super::rust::{Source, mask};
use super::tree::{Problem, hold};
use super::{
    CODE_LINES_MAX, EXCEPTIONS, MACHINE_PATHS, code_length, ignored_tests, layer_of, layers, line_count, machine_paths,
    migration_numbers, module_names, module_text, path_names, purity, sleeps, sql_comments, unfinished, unwraps,
};

fn lines(problems: &[Problem]) -> Vec<usize> {
    problems.iter().map(|problem| problem.line).collect()
}

fn found(rule: fn(&Source) -> Vec<Problem>, path: &str, text: &str) -> Vec<usize> {
    lines(&rule(&Source::new(path, text)))
}

#[test]
fn masking_keeps_lines_and_hides_comments_and_strings() {
    let text = "a // x\n/* b /* c */ d */ e \"f // \\\" g\" 'h' '\\'' '\"' &'i r#\"j \" k\"# br\"\\\" l r#m\n// n";
    let masked = mask(text);
    let words: String = masked.chars().filter(|c| c.is_alphabetic()).collect();
    assert_eq!(words, "aeirbrlrm");
    assert_eq!(masked.lines().count(), text.lines().count());
    assert_eq!(mask("/* never closed"), " ".repeat(15));
    assert_eq!(mask("\"never closed").matches('"').count(), 12);
}

#[test]
fn a_problem_reads_as_file_line_what_remedy() {
    assert_eq!(Problem::new("src/a.rs", 3, "is bad", "do good").to_string(), "src/a.rs:3: is bad, do good");
}

#[test]
#[should_panic(expected = "src/a.rs:3: is bad, do good")]
fn a_problem_fails_the_test() {
    hold(&[Problem::new("src/a.rs", 3, "is bad", "do good")]);
}

#[test]
fn module_text_is_asked_for() {
    assert_eq!(found(module_text, "src/a.rs", "use std::fmt;\n//! late"), [1]);
    assert_eq!(found(module_text, "src/a.rs", ""), [1]);
    assert!(found(module_text, "src/a.rs", "//! Text.").is_empty());
}

#[test]
fn code_lines_are_counted_without_blanks_and_comments() {
    let padding = "\n// comment\n/* more\n\nof it */\n".repeat(400);
    let fits = "let a = 1; // one\n".repeat(CODE_LINES_MAX) + &padding;
    assert!(found(code_length, "src/a.rs", &fits).is_empty());
    assert_eq!(found(code_length, "src/a.rs", &(fits + "let b = \"\n// text of a string\n\";")), [1]);
}

#[test]
fn empty_names_are_found() {
    let paths = ["src/store/utils.rs", "tests/it/helpers/mod.rs", "src/utility.rs"].map(str::to_owned);
    assert_eq!(path_names(&paths).len(), 2);
    assert_eq!(found(module_names, "src/a.rs", "// mod misc\npub mod common;\nmod commons;\nmod helper {}"), [2, 4]);
}

#[test]
fn layers_are_held() {
    let text = "// crate::server\nuse crate::domain::ids;\nuse crate::store::Store;\nuse crate::{\n    \
                domain::{job, ids},\n    config::Config,\n    judge::{a, b},\n};\nlet a = crate::CONST;\n\
                let b = crate::my_macro!();";
    assert_eq!(found(layers, "src/judge/panel.rs", text), [3, 6]);
    assert_eq!(found(layers, "src/domain/ids.rs", "use crate::{checks, stats::mean};"), [1, 1]);
    assert_eq!(found(layers, "src/llm/client.rs", "use crate::runtime::http;\nuse crate::store::Store;"), [2]);
    assert_eq!(found(layers, "src/runtime/cpu.rs", "use crate::llm::Client;"), [1]);
    assert_eq!(found(layers, "src/config/mod.rs", "use crate::runtime::http;"), [1]);
    assert_eq!(found(layers, "src/store/jobs.rs", "use crate::app::App;\nuse crate::pipeline::claim;"), [1, 2]);
    assert_eq!(found(layers, "src/server/routes.rs", "use crate::cli::Cli;\nuse crate::pipeline::claim;"), [1]);
    assert!(found(layers, "src/cli/serve.rs", "use crate::{app::App, server, config};").is_empty());
    assert!(found(layers, "src/lib.rs", "use crate::cli;").is_empty());
    assert_eq!(found(layers, "src/gadgets/mod.rs", ""), [1]);
    assert_eq!(found(layers, "src/app.rs", "use crate::gadgets::Gadget;"), [1]);
}

#[test]
fn exceptions_are_within_a_layer_and_have_reasons() {
    for (who, whom, why) in EXCEPTIONS {
        assert!(layer_of(whom).is_some() && !why.is_empty(), "{whom} has no layer, or its exception no reason");
        assert!(*who == "*" || layer_of(who) == layer_of(whom), "{who} -> {whom} needs no exception");
    }
}

#[test]
fn low_layers_are_pure() {
    let text =
        "// tokio::spawn\npub async fn a() {}\ntokio::spawn(a());\nmy_sqlx::b();\nuse sqlx::PgPool;\nreqwest::get(c);";
    assert_eq!(found(purity, "src/stats/mean.rs", text), [2, 3, 5, 6]);
    assert_eq!(found(purity, "src/domain/ids.rs", text), [2, 3, 5, 6]);
    assert!(found(purity, "src/store/jobs.rs", text).is_empty());
    assert!(found(purity, "src/lib.rs", text).is_empty());
}

#[test]
fn sleeping_ignoring_and_leaving_are_found() {
    let text = "tokio::time::sleep(a);\nasleep();\nlet s = \"sleep(\";\nthread::sleep(b);\nsleep_until(c);";
    assert_eq!(found(sleeps, "tests/it/stop.rs", text), [1, 4, 5]);
    assert!(found(sleeps, "tests/it/support/wait.rs", text).is_empty());
    assert_eq!(found(ignored_tests, "tests/it/stop.rs", "#[ignore]\n#[ignore = \"slow\"]\n// #[ignore]"), [1, 2]);
    assert_eq!(found(unfinished, "src/a.rs", "todo!()\nunimplemented!(\"b\")\n// todo!()"), [1, 2]);
}

#[test]
fn unwrapping_is_for_tests() {
    let shipped = "a.unwrap();\n#[cfg(test)]\nuse b::c;\nd.unwrap();\n// e.unwrap()\n#[cfg(test)]\nmod tests {\n    \
                   fn f() { g.unwrap(); }\n}\nh.unwrap_or(1);\ni.unwrap();";
    assert_eq!(lines(&unwraps(&[Source::new("src/a.rs", shipped)])), [1, 4, 11]);
    let parent = Source::new(
        "src/dialect/mod.rs",
        "#[cfg(test)]\nmod tests;\n#[cfg(test)]\n#[rustfmt::skip]\npub(crate) mod builders;",
    );
    let of_tests = ["src/dialect/tests.rs", "src/dialect/builders/span.rs"].map(|p| Source::new(p, "a.unwrap();"));
    let shipped = Source::new("src/dialect/tests_of_ours.rs", "\na.unwrap();");
    let problems = unwraps(&[vec![parent, shipped], of_tests.to_vec()].concat());
    assert_eq!(lines(&problems), [2]);
}

#[test]
fn migrations_out_of_order_are_found() {
    let named =
        |names: &[&str]| migration_numbers(&names.iter().map(|n| format!("migrations/{n}")).collect::<Vec<_>>());
    assert!(named(&["0001_main_job.sql", "0002_labels.sql"]).is_empty());
    assert_eq!(named(&["0001_main_job.sql", "0003_labels.sql"]).len(), 1);
    assert_eq!(named(&["0001_main.sql", "0001_other.sql"]).len(), 1);
    for bad in ["1_main.sql", "0001.sql", "0001_Main.sql", "0001_main.txt", "0001_main.down.sql", "README.md"] {
        assert_eq!(named(&[bad]).len(), 1, "{bad}");
    }
}

#[test]
fn tables_and_columns_without_comment_are_found() {
    let sql = "-- CREATE TABLE none (a text);\nCREATE TABLE jobs (\n    id uuid PRIMARY KEY,\n    \
               state text NOT NULL CHECK (state IN ('a;', 'b''')),\n    left_over numeric(3, 2),\n    \
               PRIMARY KEY (id, state)\n);\nCOMMENT ON COLUMN jobs.id IS 'It''s; COMMENT ON COLUMN jobs.left_over IS x';\n\
               CREATE INDEX i ON jobs (id);";
    let file = |name: &str, text: &str| (format!("migrations/{name}"), text.to_owned());
    let missing = sql_comments(&[file("0001_a.sql", sql)]);
    assert_eq!(lines(&missing), [2, 4, 5], "{missing:?}");
    let comments =
        "COMMENT ON TABLE jobs IS 'a';\nCOMMENT ON COLUMN jobs.state IS 'b';\nCOMMENT ON COLUMN jobs.left_over IS 'c';";
    assert!(sql_comments(&[file("0001_a.sql", sql), file("0002_b.sql", comments)]).is_empty());
    let later =
        "\nALTER TABLE jobs ADD COLUMN a text,\n    ADD COLUMN IF NOT EXISTS b text;\nCREATE UNLOGGED TABLE t ();";
    let problems = sql_comments(&[file("0003_c.sql", later)]);
    let text: Vec<String> = problems.iter().map(Problem::to_string).collect();
    assert_eq!(lines(&problems), [2, 2, 4]);
    assert!(text[0].contains("COLUMN jobs.a ") && text[1].contains("COLUMN jobs.b ") && text[2].contains("TABLE t "));
}

#[test]
fn long_or_missing_pages_are_found() {
    assert!(line_count("a", &"b\n".repeat(59), 59).is_empty());
    assert_eq!(lines(&line_count("a", &"b\n".repeat(60), 59)), [60]);
    assert_eq!(lines(&line_count("a", "", 59)), [1]);
}

#[test]
fn places_of_one_machine_are_found() {
    let text = format!("cd {}main\nnetwork/ homework/x\n# {}.cargo", MACHINE_PATHS[0], MACHINE_PATHS[1]);
    assert_eq!(lines(&machine_paths("Makefile", &text)), [1, 3]);
    assert_eq!(lines(&machine_paths("docs/a.md", MACHINE_PATHS[2])), [1]);
}
