// Package keycote manages API keys in both directions: access keys, which a host's clients present to it, and
// credentials, which the host presents to somebody else's endpoint.
//
// # A tour
//
// A [Manager] stands over a [Store], which keeps bytes, and a [KEK], which is kept elsewhere:
//
//	kek, err := keycote.LocalKEK("/etc/myapp/kek.json") // or NewKEK(id, any Tink AEAD): a KMS, Vault, an HSM
//	keys, err := keycote.New(ctx, store, kek, nil)
//
// An access key is issued once, shown once, and verified on every request:
//
//	key, secret, err := keys.Issue(ctx, keycote.IssueParams{Name: "ci", Scopes: []string{"orders:read"}})
//	grant, err := keys.Verify(ctx, token, keycote.Request{Scopes: []string{"orders:read"}, Addr: client})
//
// Of its value the store holds a keyed digest: who reads the database can verify nothing and guess nothing. A value of
// issued form that was not made here is refused without asking the store at all.
//
// A credential is typed in by a person, sealed under its tenant's keyring, and opened only for its own endpoint:
//
//	key, err := keys.Add(ctx, keycote.AddParams{Name: "dify", Endpoint: "https://api.example.com", Secret: typed})
//	grant, secret, err := keys.Use(ctx, key.ID, keycote.Request{Endpoint: "https://api.example.com/v1/run"})
//
// Both kinds share one life: Add or Issue, then Use or Verify, [Manager.Rotate] with an overlap, [Manager.Update],
// [Manager.Disable] and [Manager.Enable], expiry, [Manager.Revoke], [Manager.Delete]; [Manager.DisableAll] and
// [Manager.RevokeAll] end many keys at once. [Manager.Get], [Manager.List] and [Manager.Page] show what may be known about
// a key without knowing it; [Manager.Events] tells who did what.
//
// # Who calls
//
// A context without an [Actor] is the host itself. With [WithActor] every change is signed with who made it, and no actor
// can grant more than his MaxScopes. [Options.Authorize] decides who may do what; [ByRole] is a ready one. Once it is set,
// a management call without an actor is refused, so that a forgotten one is noticed.
//
// Keys belong to tenants. [Manager.Tenant] gives a view that cannot leave its tenant, Verify included; the Manager that
// New returns is the unnamed tenant's, and verifies issued keys of all tenants.
//
// # Errors
//
// Each failure is a [Code], which errors.Is finds, inside an [*Error] or, for input that breaks rules, a
// [*ValidationError] with every rule it breaks. Verify's refusals of identity all match [ErrUnauthenticated], which is
// all that a client may be told. An outage is [ErrUnavailable] and never reads as an unknown key. [Message] says a
// failure in the reader's language.
//
// # What holds
//
// Every decision is taken on a sealed record. Somebody who can write to the database can destroy keys, but cannot mint
// one, widen a scope, move a credential to his own endpoint, or swap two values: such a record is [ErrTampered], alone,
// while the others work. A change and its event are committed together or not at all. Revoking is honoured on the next
// call in the same process, and within [Options.MaxStale] in others; at its default of 0 each Verify reads the store, in
// one statement. No value, digest or key stands in an error, a log,
// or anything else this package prints; a [Secret] shows itself to nobody but who calls Reveal.
//
// # What does not
//
// Somebody who has the KEK and the database has everything. With an older copy of a row, who can write to the database
// can put back that earlier state of that one key, until its record is compared with its last event. Memory is not
// wiped: Go gives no means to. SECURITY.md says this at length.
package keycote
