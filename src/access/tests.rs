//! Keys: shown once, compared by digest, revoked at once; who may enter without one.

use super::*;
use crate::clock::Clock;
use crate::config;

async fn access(admin_key: &str, is_loopback: bool) -> (Access, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let settings = config::Store {
        url: format!("sqlite://{}/t.db", dir.path().display()).into(),
        max_connections: 2,
        slow: "1s".parse().unwrap(),
        batch: 16,
    };
    let store = Store::open(&settings, Clock::system()).await.unwrap();
    (Access::new(store, admin_key, is_loopback), dir)
}

#[tokio::test]
async fn a_server_is_open_on_loopback_until_its_first_key() {
    let (access, _dir) = access("", true).await;
    assert!(access.anonymous().await.unwrap().unwrap().may(Scope::Admin));
    let key = NewKey::make("ci".to_owned(), vec![Scope::Enqueue]);
    assert!(access.create(&key, None).await.unwrap().is_none());
    assert_eq!(access.anonymous().await.unwrap(), None);
    assert!(access.revoke(&key.id).await.unwrap());
    assert_eq!(access.anonymous().await.unwrap(), None, "revoking does not open it again");
}

#[tokio::test]
async fn outside_loopback_or_with_a_bootstrap_key_nobody_is_let_in_without_one() {
    assert_eq!(access("", false).await.0.anonymous().await.unwrap(), None);
    let (access, _dir) = access("correct horse", true).await;
    assert_eq!(access.anonymous().await.unwrap(), None);
    assert!(access.verify("correct horse").await.unwrap().unwrap().may(Scope::Admin));
    assert_eq!(access.verify("correct hors").await.unwrap(), None);
}

#[tokio::test]
async fn a_key_has_its_scopes_and_ends_when_it_is_revoked() {
    let (access, _dir) = access("", true).await;
    let key = NewKey::make("ci".to_owned(), vec![Scope::Enqueue]);
    assert!(access.create(&key, None).await.unwrap().is_none());
    let principal = access.verify(&key.text()).await.unwrap().unwrap();
    assert!(principal.may(Scope::Read) && principal.may(Scope::Enqueue));
    assert!(!principal.may(Scope::Operate) && !principal.may(Scope::Admin));
    for wrong in ["", "otk_", "otk__", &format!("{}x", key.text()), &format!("otk_{}_", key.id), "otk_1_2"] {
        assert_eq!(access.verify(wrong).await.unwrap(), None, "{wrong}");
    }
    assert!(access.revoke(&key.id).await.unwrap());
    assert!(!access.revoke(&key.id).await.unwrap());
    assert_eq!(access.verify(&key.text()).await.unwrap(), None);
    assert!(access.list().await.unwrap()[0].revoked_at_ms.is_some());
}

/// The same idempotency key, for this request.
fn asked(fingerprint: &str) -> idempotency::Key {
    idempotency::Key { principal: "admin".into(), key: "k".into(), fingerprint: fingerprint.into() }
}

/// A death after the commit, or another server: whoever comes with the key again makes no second one.
#[tokio::test]
async fn under_an_idempotency_key_one_key_is_made() {
    let (access, _dir) = access("", true).await;
    let answer = |key: &NewKey| StoredAnswer { status: 201, body: key.id.clone(), location: None };
    let keys = [(); 3].map(|()| NewKey::make("ci".to_owned(), vec![Scope::Admin]));
    assert!(access.create(&keys[0], Some((asked("a"), answer(&keys[0])))).await.unwrap().is_none());
    let again = access.create(&keys[1], Some((asked("a"), answer(&keys[1])))).await.unwrap();
    assert!(matches!(again, Some(Before::Same(stored)) if stored == answer(&keys[0])));
    let other = access.create(&keys[2], Some((asked("b"), answer(&keys[2])))).await.unwrap();
    assert!(matches!(other, Some(Before::Reused)));
    assert_eq!(access.list().await.unwrap().len(), 1);
    assert!(access.verify(&keys[0].text()).await.unwrap().is_some());
}

#[tokio::test]
async fn a_key_that_was_not_made_closes_no_server() {
    let (access, _dir) = access("", true).await;
    let answer = StoredAnswer { status: 200, body: "{}".to_owned(), location: None };
    idempotency::claim(&access.store, &asked("a wish")).await.unwrap();
    idempotency::keep(&access.store, &asked("a wish"), &answer).await.unwrap();
    let new = NewKey::make("ci".to_owned(), vec![Scope::Admin]);
    assert!(matches!(access.create(&new, Some((asked("a key"), answer))).await.unwrap(), Some(Before::Reused)));
    assert!(access.anonymous().await.unwrap().is_some());
}
