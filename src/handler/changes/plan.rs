//! What to do with a token or a batch of changes: pure.

use crate::{
    document::changes::{Batch, Change, Token},
    ident::FeedRef,
    route::{Effect, Subject},
};

/// What to do after the service told its latest token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plan {
    /// Nothing changed.
    Rest,
    /// Read the changes after this token.
    Read(Token),
    /// Nothing was ever read: what is stored came without being followed.
    Begin,
    /// The token is of another history (a feed that was restored): what changed cannot be told.
    StartOver,
}

/// What to do after a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// Go on from this token.
    More(Token),
    /// Everything was read, up to this token.
    CaughtUp(Token),
    /// Going on would never end.
    Lost,
}

/// Compares what was read with what there is.
pub(super) fn plan(read: Option<Token>, latest: Token) -> Plan {
    match read {
        None => Plan::Begin,
        Some(read) if read == latest => Plan::Rest,
        Some(read) if read < latest => Plan::Read(read),
        Some(_) => Plan::StartOver,
    }
}

/// What to do after `batch`, which was asked for with `from`.
pub(super) fn after(batch: &Batch, from: Token, latest: Token) -> After {
    if batch.next < from || batch.next == from && batch.count > 0 {
        After::Lost
    } else if batch.next >= latest || batch.next == from {
        // Nothing after `from` although the latest token is another: what is to come comes with the next poll.
        After::CaughtUp(batch.next)
    } else {
        After::More(batch.next)
    }
}

/// What changes make old, one effect for each package.
pub(super) fn effects(feed: &FeedRef, changes: &[Change]) -> Vec<Effect> {
    let mut effects: Vec<Effect> = Vec::new();
    let mut seen = std::collections::HashMap::new();
    for Change { subject, removes } in changes {
        let index = *seen.entry(subject).or_insert_with(|| {
            effects.push(effect(feed, subject.clone(), false));
            effects.len() - 1
        });
        effects[index].bytes |= removes;
    }
    effects
}

/// The effect on all of a feed; with `removes`, versions may be gone.
pub(super) fn whole(feed: &FeedRef, removes: bool) -> Effect {
    effect(feed, Subject::Feed, removes)
}

fn effect(feed: &FeedRef, subject: Subject, bytes: bool) -> Effect {
    Effect { feed: Some(feed.clone()), subject, bytes, identity: false }
}

#[cfg(test)]
mod tests {
    use super::{After, Plan, after, effects, plan};
    use crate::{
        document::changes::{Batch, Change, Token},
        ident::{FeedRef, Name, NpmName},
        route::Subject,
    };

    #[test]
    fn a_token_is_gone_on_with_unless_it_is_of_another_history() {
        let rows = [
            (None, 5, Plan::Begin),
            (Some(5), 5, Plan::Rest),
            (Some(4), 5, Plan::Read(Token(4))),
            (Some(0), i64::MAX, Plan::Read(Token(0))),
            (Some(6), 5, Plan::StartOver),
        ];
        for (read, latest, expected) in rows {
            assert_eq!(plan(read.map(Token), Token(latest)), expected, "{read:?} {latest}");
        }
    }

    #[test]
    fn reading_ends_when_caught_up_and_never_goes_round() {
        let rows = [
            // next, changes in the batch
            (3, 1, After::More(Token(3))),
            // All changes of these tokens were overtaken by later ones.
            (3, 0, After::More(Token(3))),
            (9, 1, After::CaughtUp(Token(9))),
            (10, 2, After::CaughtUp(Token(10))),
            (2, 0, After::CaughtUp(Token(2))),
            (2, 1, After::Lost),
            (1, 0, After::Lost),
        ];
        for (next, count, expected) in rows {
            let batch = Batch { next: Token(next), changes: Vec::new(), count };
            assert_eq!(after(&batch, Token(2), Token(9)), expected, "{next} {count}");
        }
    }

    #[test]
    fn a_package_is_made_old_once_and_removed_if_any_version_was() {
        let name = |text: &str| Name::parse(text).unwrap();
        let feed = FeedRef::new(name("contoso"), None, name("main"), None).identified("contoso/-/guid");
        let npm = |text: &str| Subject::Npm(NpmName::parse(text).unwrap());
        let change = |text: &str, removes| Change { subject: npm(text), removes };
        let changes = [change("a", false), change("b", false), change("a", true), change("a", false)];
        let effects: Vec<_> =
            effects(&feed, &changes).into_iter().map(|effect| (effect.subject, effect.bytes)).collect();
        assert_eq!(effects, [(npm("a"), true), (npm("b"), false)]);
    }
}
