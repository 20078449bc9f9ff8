//! How method names become names on the wire.

use syn::LitStr;

/// A rule for all methods of a component.
#[derive(Clone, Copy)]
pub(crate) enum RenameRule {
    Lower,
    Upper,
    Camel,
    Pascal,
    Snake,
    ScreamingSnake,
    Kebab,
}

const RULES: [(&str, RenameRule); 7] = [
    ("lowercase", RenameRule::Lower),
    ("UPPERCASE", RenameRule::Upper),
    ("camelCase", RenameRule::Camel),
    ("PascalCase", RenameRule::Pascal),
    ("snake_case", RenameRule::Snake),
    ("SCREAMING_SNAKE_CASE", RenameRule::ScreamingSnake),
    ("kebab-case", RenameRule::Kebab),
];

impl RenameRule {
    pub(crate) fn parse(text: &LitStr) -> syn::Result<Self> {
        let value = text.value();
        let rule = RULES.iter().find(|(name, _)| *name == value);
        rule.map(|(_, rule)| *rule).ok_or_else(|| {
            let names: Vec<_> = RULES.iter().map(|(name, _)| *name).collect();
            syn::Error::new(text.span(), format!("expected one of {}", names.join(", ")))
        })
    }

    /// Applies the rule to a method's name, which is in snake case.
    pub(crate) fn apply(self, name: &str) -> String {
        let words = || name.split('_').filter(|word| !word.is_empty());
        match self {
            Self::Lower => words().map(str::to_lowercase).collect(),
            Self::Upper => words().map(str::to_uppercase).collect(),
            Self::Pascal => words().map(capitalized).collect(),
            Self::Camel => {
                let mut words = words();
                let first = words.next().unwrap_or_default().to_lowercase();
                first + &words.map(capitalized).collect::<String>()
            }
            Self::Snake => name.to_lowercase(),
            Self::ScreamingSnake => name.to_uppercase(),
            Self::Kebab => words().map(str::to_lowercase).collect::<Vec<_>>().join("-"),
        }
    }
}

fn capitalized(word: &str) -> String {
    let mut chars = word.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + chars.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_does_what_its_name_shows() {
        let cases = ["findmatch", "FINDMATCH", "findMatch", "FindMatch", "find_match", "FIND_MATCH", "find-match"];
        for ((name, rule), expected) in RULES.iter().zip(cases) {
            assert_eq!(rule.apply("find_match"), expected, "{name}");
        }
    }
}
