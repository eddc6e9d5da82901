//! `Link: <…>; rel="next"`: where the next page of a list is.

use http::{HeaderMap, header};
use oci::{Digest, RepositoryPath};
use url::Url;

use super::{
    error::{Flaw, Forbidden, Kind, Pointer, UpstreamError},
    origin::{Origin, shown_host},
};

/// The next page after `page`: on the upstream's own origin and of the same repository, or not at all.
pub(super) fn next_page(
    what: Kind,
    headers: &HeaderMap,
    page: &Url,
    own: &Origin,
    repository: &RepositoryPath,
) -> Result<Option<Url>, UpstreamError> {
    let malformed = || UpstreamError::Malformed { what, why: Flaw::Header("link") };
    for value in headers.get_all(header::LINK) {
        let text = value.to_str().map_err(|_| malformed())?;
        let Some(reference) = next_reference(text).map_err(|()| malformed())? else { continue };
        let mut url = page.join(reference).map_err(|_| malformed())?;
        url.set_fragment(None);
        return match forbidden(&url, own, repository) {
            None => Ok(Some(url)),
            Some(why) => Err(UpstreamError::Misdirected { what: Pointer::NextPage, host: shown_host(&url), why }),
        };
    }
    Ok(None)
}

fn forbidden(url: &Url, own: &Origin, repository: &RepositoryPath) -> Option<Forbidden> {
    if !url.username().is_empty() || url.password().is_some() {
        return Some(Forbidden::UserInformation);
    }
    if Origin::of(url).as_ref() != Some(own) {
        return Some(Forbidden::OtherHost);
    }
    // The parser has resolved `..`; what is still escaped could be read otherwise by the other side, and is no list.
    let rest = url.path().strip_prefix("/v2/").and_then(|path| path.strip_prefix(repository.as_str()));
    let is_list = |rest: &str| {
        let subject = rest.strip_prefix("/referrers/");
        rest == "/tags/list" || subject.is_some_and(|subject| subject.parse::<Digest>().is_ok())
    };
    (!rest.is_some_and(is_list)).then_some(Forbidden::OtherRepository)
}

/// The URI reference of the first link whose relation is `next`.
fn next_reference(text: &str) -> Result<Option<&str>, ()> {
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (reference, after) = rest.strip_prefix('<').and_then(|rest| rest.split_once('>')).ok_or(())?;
        let (parameters, others) = split_unquoted(after, ',');
        if has_relation_next(parameters) {
            return Ok(Some(reference));
        }
        rest = others.trim();
    }
    Ok(None)
}

fn has_relation_next(parameters: &str) -> bool {
    let mut rest = parameters;
    while !rest.is_empty() {
        let (parameter, others) = split_unquoted(rest, ';');
        rest = others;
        if let Some((name, value)) = parameter.split_once('=')
            && name.trim().eq_ignore_ascii_case("rel")
        {
            let mut relations = value.trim().trim_matches('"').split_ascii_whitespace();
            // Of several `rel` in one link the first one counts.
            return relations.any(|relation| relation.eq_ignore_ascii_case("next"));
        }
    }
    false
}

/// Splits at the first `separator` outside quotes; all and nothing where there is none.
pub(super) fn split_unquoted(text: &str, separator: char) -> (&str, &str) {
    let mut is_quoted = false;
    let mut is_escaped = false;
    for (at, character) in text.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ if character == separator && !is_quoted => {
                let (before, after) = text.split_at(at);
                return (before, after.trim_start_matches(separator));
            }
            _ => {}
        }
    }
    (text, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(link: &str) -> Result<Option<String>, UpstreamError> {
        let page: Url = "https://cgr.dev/v2/a/b/tags/list?n=2".parse().unwrap();
        let own = Origin::of(&page).unwrap();
        let headers = HeaderMap::from_iter([(header::LINK, link.parse().unwrap())]);
        next_page(Kind::Tags, &headers, &page, &own, &"a/b".parse().unwrap()).map(|url| url.map(Into::into))
    }

    #[test]
    fn the_next_page_is_found_among_other_links() {
        let want = "https://cgr.dev/v2/a/b/tags/list?n=2&last=x";
        for link in [
            r#"</v2/a/b/tags/list?n=2&last=x>; rel="next""#,
            r"</v2/a/b/tags/list?n=2&last=x>;rel=next",
            r#"<https://cgr.dev/v2/a/b/tags/list?n=2&last=x>; title="a, b; rel=prev"; REL="prefetch NEXT""#,
            r#"<https://evil.example/>; rel="prev", <https://CGR.dev:443/v2/a/b/tags/list?n=2&last=x#f>; rel="next""#,
            "<?n=2&last=x>; rel=next",
        ] {
            assert_eq!(next(link).unwrap().as_deref(), Some(want), "{link}");
        }
        for link in [
            r#"</v2/a/b/tags/list>; rel="prev""#,
            "</v2/a/b/tags/list>",
            "</x>; rel=prev; rel=next",
            r#"<x>; title="rel=next""#,
        ] {
            assert_eq!(next(link).unwrap(), None, "{link}");
        }
    }

    #[test]
    fn a_next_page_elsewhere_is_refused() {
        for (link, want) in [
            ("<https://evil.example/v2/a/b/tags/list>; rel=next", Forbidden::OtherHost),
            ("<//evil.example/v2/a/b/tags/list>; rel=next", Forbidden::OtherHost),
            ("<https://cgr.dev.evil.example/v2/a/b/tags/list>; rel=next", Forbidden::OtherHost),
            ("<http://cgr.dev/v2/a/b/tags/list>; rel=next", Forbidden::OtherHost),
            ("<https://cgr.dev:8443/v2/a/b/tags/list>; rel=next", Forbidden::OtherHost),
            ("<file:///v2/a/b/tags/list>; rel=next", Forbidden::OtherHost),
            ("<https://u@cgr.dev/v2/a/b/tags/list>; rel=next", Forbidden::UserInformation),
            ("</v2/a/bb/tags/list>; rel=next", Forbidden::OtherRepository),
            ("</v2/a/b/../c/tags/list>; rel=next", Forbidden::OtherRepository),
            ("</v2/a/b/%2e%2e/c/tags/list>; rel=next", Forbidden::OtherRepository),
            ("</v2/a/b/referrers/..%2f..%2fc>; rel=next", Forbidden::OtherRepository),
            ("</v2/a/b/blobs/x>; rel=next", Forbidden::OtherRepository),
            ("</v2/a/b/referrers/>; rel=next", Forbidden::OtherRepository),
            ("</v2/a/b/referrers//tags/list>; rel=next", Forbidden::OtherRepository),
            ("</admin>; rel=next", Forbidden::OtherRepository),
        ] {
            let Err(UpstreamError::Misdirected { what: Pointer::NextPage, why, .. }) = next(link) else {
                panic!("{link} was followed");
            };
            assert_eq!(why, want, "{link}");
        }
    }

    #[test]
    fn a_link_that_does_not_parse_is_not_an_end_of_the_list() {
        for link in ["next", "</v2/a/b", "<https://[>; rel=next"] {
            assert!(matches!(next(link), Err(UpstreamError::Malformed { .. })), "{link}");
        }
    }
}
