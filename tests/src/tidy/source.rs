//! Rust text with everything blanked that is not code, lines and columns kept.

/// What is compiled into the product: without comments, strings, and items under `#[cfg(test)]`.
#[must_use]
pub fn product_code(text: &str) -> String {
    without_tests(&code_only(text))
}

/// The text with comments and the insides of literals replaced by blanks.
#[must_use]
pub fn code_only(text: &str) -> String {
    let mut scanner = Scanner {
        rest: text,
        out: String::with_capacity(text.len()),
    };
    while !scanner.rest.is_empty() {
        scanner.step();
    }
    scanner.out
}

/// Whether `word` stands in a line as a whole path segment or call: `rand` is found in
/// `rand::fill()`, not in `brand` or `rand_core`.
#[must_use]
pub fn has_word(line: &str, word: &str) -> bool {
    word_ends(line, word).next().is_some()
}

/// The rest of the line after each place where `word` stands as a whole.
pub fn word_ends<'a>(line: &'a str, word: &str) -> impl Iterator<Item = &'a str> {
    let found: Vec<usize> = line.match_indices(word).map(|(at, _)| at).collect();
    let length = word.len();
    found.into_iter().filter_map(move |at| {
        let (before, rest) = line.split_at(at);
        let after = &rest[length..];
        let apart = |character: Option<char>| character.is_none_or(|it| !is_identifier(it));
        (apart(before.chars().next_back()) && apart(after.chars().next())).then_some(after)
    })
}

/// Whether a character can be part of a name.
#[must_use]
pub fn is_identifier(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

struct Scanner<'a> {
    rest: &'a str,
    out: String,
}

impl Scanner<'_> {
    fn step(&mut self) {
        let rest = self.rest;
        if rest.starts_with("//") {
            self.blank(rest.find('\n').unwrap_or(rest.len()));
        } else if rest.starts_with("/*") {
            self.blank(block_comment(rest));
        } else if let Some(length) = self.raw_string() {
            self.blank(length);
        } else if rest.starts_with('"') {
            self.blank(string(rest));
        } else if rest.starts_with('\'') {
            match character(rest) {
                Some(length) => self.blank(length),
                None => self.keep(1), // a lifetime
            }
        } else {
            self.keep(rest.chars().next().map_or(1, char::len_utf8));
        }
    }

    /// `r"…"`, `br#"…"#`, `cr"…"`: the length, if one begins here and no name ends in that `r`.
    fn raw_string(&self) -> Option<usize> {
        if self.out.chars().next_back().is_some_and(is_identifier) {
            return None;
        }
        let prefix = ["r", "br", "cr"].into_iter().find(|prefix| {
            let after = self.rest.strip_prefix(prefix).unwrap_or("");
            after.trim_start_matches('#').starts_with('"')
        })?;
        let hashes = self.rest[prefix.len()..]
            .bytes()
            .take_while(|&byte| byte == b'#')
            .count();
        let opening = prefix.len() + hashes + 1;
        let closing = format!("\"{}", "#".repeat(hashes));
        let body = &self.rest[opening..];
        Some(
            body.find(&closing)
                .map_or(self.rest.len(), |at| opening + at + closing.len()),
        )
    }

    fn blank(&mut self, length: usize) {
        let (gone, rest) = self.rest.split_at(length);
        self.out.extend(
            gone.chars()
                .map(|character| if character == '\n' { '\n' } else { ' ' }),
        );
        self.rest = rest;
    }

    fn keep(&mut self, length: usize) {
        let (kept, rest) = self.rest.split_at(length);
        self.out.push_str(kept);
        self.rest = rest;
    }
}

/// Comments nest in Rust.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a character literal; none if this quote begins a lifetime.
fn character(text: &str) -> Option<usize> {
    let mut inside = text.char_indices().skip(1);
    let (_, first) = inside.next()?;
    if first == '\\' {
        let escaped = inside.next()?.0; // whatever is escaped, a quote included
        return inside
            .find(|&(at, it)| at > escaped && it == '\'')
            .map(|(at, _)| at + 1);
    }
    let (at, second) = inside.next()?;
    (second == '\'').then_some(at + 1)
}

/// Blanks each item under `#[cfg(test)]`, to its closing brace or semicolon. Expects code only.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find(MARK) {
        out.push_str(&rest[..at]);
        let length = at + MARK.len() + item(&rest[at + MARK.len()..]);
        out.extend(
            rest[at..length]
                .chars()
                .map(|character| if character == '\n' { '\n' } else { ' ' }),
        );
        rest = &rest[length..];
    }
    out.push_str(rest);
    out
}

fn item(code: &str) -> usize {
    let mut depth = 0_usize;
    for (at, character) in code.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str, expected: &str) {
        assert_eq!(code_only(source), expected, "{source}");
        assert_eq!(code_only(source).chars().count(), source.chars().count());
    }

    #[test]
    fn comments_and_strings_are_blanked_and_code_is_not() {
        check("a // b\nc", "a     \nc");
        check("a /* b /* c */ d */ e", "a                   e");
        check(r#"f("x // \" y", z)"#, "f(           , z)");
        check(r##"f(r#"a "quoted" b"#, z)"##, "f(                 , z)");
        check("f(b\"x\", br\"y\", c)", "f(b   ,      , c)");
        check("let r = 1; for\"x\"", "let r = 1; for   ");
    }

    #[test]
    fn characters_are_blanked_and_lifetimes_are_not() {
        check("x == '\"' && y", "x ==     && y");
        check(r"x == '\'' && y", "x ==      && y");
        check(r"x == '\u{1b}' && y", "x ==          && y");
        check("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)");
    }

    #[test]
    fn items_under_cfg_test_are_blanked_and_what_follows_is_not() {
        let code = product_code(
            "use a;\n#[cfg(test)]\nmod tests { fn f() { b } }\nuse c;\n#[cfg(test)]\nmod more;\nuse d;",
        );
        assert_eq!(
            code.split_whitespace().collect::<Vec<_>>(),
            ["use", "a;", "use", "c;", "use", "d;"]
        );
    }

    #[test]
    fn a_word_is_found_only_whole() {
        assert!(has_word("rand::fill()", "rand"));
        assert!(!has_word("brand::fill()", "rand") && !has_word("rand_core::x", "rand"));
        assert!(has_word("brand + rand", "rand"));
    }
}
