package keycote_test

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/keytest"
)

// What the format's documentation calls the fields that these tests touch.
const (
	fieldVersions = 17
	fieldRevision = 21
	fieldNew      = 99
)

type bodyEdit = func(body []keycote.BodyField) []keycote.BodyField

// rewrite puts a body with other fields into the store, sealed, as a later Keycote would have written it at the record's
// next revision.
func rewrite(t *testing.T, env *keytest.Env, id string, change bodyEdit, format byte) {
	t.Helper()
	row, err := env.Store.Get(t.Context(), "", id)
	require.NoError(t, err)
	row.Revision++
	fields := keycote.SplitBody(row.Body[1:])
	for i := range fields {
		if fields[i].Key == fieldRevision<<1 {
			fields[i].Data = binary.BigEndian.AppendUint64(nil, uint64(row.Revision))
		}
	}
	body := append([]byte{format}, keycote.JoinBody(change(fields)...)...)
	row = keycote.SealedAgain(env.Manager, row, body)
	require.NoError(t, env.Store.Commit(t.Context(), keycote.Batch{ID: "later " + id, Update: []keycote.Record{row}}))
}

func asItIs(body []keycote.BodyField) []keycote.BodyField { return body }

func withField(key uint64) bodyEdit {
	return func(body []keycote.BodyField) []keycote.BodyField {
		return append(body, keycote.BodyField{Key: key, Data: []byte("from later")})
	}
}

func inVersion(do bodyEdit) bodyEdit {
	return func(body []keycote.BodyField) []keycote.BodyField {
		i := slices.IndexFunc(body, func(f keycote.BodyField) bool { return f.Key == fieldVersions<<1 })
		body[i].Data = keycote.JoinBody(do(keycote.SplitBody(body[i].Data))...)
		return body
	}
}

// TestMadeByANewerKeycote: what this version must not pass over keeps every verb from the record, Delete included, and
// neither reads as tampered nor as an unknown key. The records around it go on.
func TestMadeByANewerKeycote(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		format byte
		do     bodyEdit
	}{
		{"a later format", 2, asItIs},
		{"a field", 1, withField(fieldNew << 1)},
		{"a field in a version", 1, inVersion(withField(fieldNew << 1))},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			env := keytest.New(t, nil)
			keys, ctx := env.Manager, t.Context()
			access, token, err := keys.Issue(ctx, keycote.IssueParams{Name: "a", RequestID: "once"})
			require.NoError(t, err)
			credential, err := keys.Add(ctx, keycote.AddParams{
				Name: "c", Endpoint: "https://api.example.com", Secret: keycote.NewSecret("5f4dcc3b5aa765d61d83"),
			})
			require.NoError(t, err)
			other := env.Issue()
			rewrite(t, env, access.ID, c.do, c.format)
			rewrite(t, env, credential.ID, c.do, c.format)

			for verb, call := range map[string]func(ctx context.Context, id string) error{
				"get": func(ctx context.Context, id string) error { _, err := keys.Get(ctx, id); return err },
				"use": func(ctx context.Context, id string) error {
					_, _, err := keys.Use(ctx, id, keycote.Request{})
					return err
				},
				"reveal": func(ctx context.Context, id string) error { _, err := keys.Reveal(ctx, id, "why"); return err },
				"rotate": func(ctx context.Context, id string) error {
					_, _, err := keys.Rotate(ctx, id, keycote.RotateParams{})
					return err
				},
				"update": func(ctx context.Context, id string) error {
					_, err := keys.Update(ctx, id, keycote.Patch{})
					return err
				},
				"disable": func(ctx context.Context, id string) error { _, err := keys.Disable(ctx, id, ""); return err },
				"enable":  func(ctx context.Context, id string) error { _, err := keys.Enable(ctx, id, ""); return err },
				"revoke":  func(ctx context.Context, id string) error { _, err := keys.Revoke(ctx, id, ""); return err },
				"delete":  func(ctx context.Context, id string) error { return keys.Delete(ctx, id, "") },
				"verify": func(ctx context.Context, _ string) error {
					_, err := keys.Verify(ctx, token.Reveal(), keycote.Request{})
					return err
				},
				"issue": func(ctx context.Context, _ string) error { // the retry leads to the record
					_, _, err := keys.Issue(ctx, keycote.IssueParams{Name: "a", RequestID: "once"})
					return err
				},
			} {
				for _, id := range []string{access.ID, credential.ID} {
					err := call(ctx, id)
					require.ErrorIs(t, err, keycote.ErrUnavailable, verb)
					require.NotErrorIs(t, err, keycote.ErrUnauthenticated, verb)
					require.NotErrorIs(t, err, keycote.ErrTampered, verb)
					require.ErrorContains(t, err, "made by a newer Keycote", verb)
				}
			}

			states := map[string]keycote.State{}
			for key, err := range keys.List(ctx, keycote.Filter{}) {
				require.NoError(t, err)
				states[key.ID] = key.State
			}
			require.Len(t, states, 3)
			require.Equal(t, keycote.StateUnreadable, states[access.ID])
			require.Equal(t, keycote.StateUnreadable, states[credential.ID])
			page, err := keys.Page(ctx, keycote.Filter{}, "", 2)
			require.NoError(t, err)
			require.Equal(t, keycote.StateUnreadable, page.Keys[0].State)
			require.NotEmpty(t, page.Next)

			_, err = keys.Verify(ctx, other, keycote.Request{})
			require.NoError(t, err, "the other keys go on")
		})
	}
}

// TestFieldsOfANewerKeycoteAreKept: an older process that works beside a newer one must not lose what the newer one has
// written, whichever verb it writes with.
func TestFieldsOfANewerKeycoteAreKept(t *testing.T) {
	t.Parallel()
	env := keytest.New(t, nil)
	keys, ctx := env.Manager, t.Context()
	key, token, err := keys.Issue(ctx, keycote.IssueParams{Name: "a"})
	require.NoError(t, err)
	rewrite(t, env, key.ID, func(body []keycote.BodyField) []keycote.BodyField {
		return withField(fieldNew<<1 | 1)(inVersion(withField(fieldNew<<1 | 1))(body))
	}, 1)
	grant, err := keys.Verify(ctx, token.Reveal(), keycote.Request{})
	require.NoError(t, err)

	name := "b"
	for _, step := range []struct {
		verb string
		call func() error
	}{
		{"update", func() error { _, err := keys.Update(ctx, grant.KeyID, keycote.Patch{Name: &name}); return err }},
		{"disable", func() error { _, err := keys.Disable(ctx, grant.KeyID, ""); return err }},
		{"enable", func() error { _, err := keys.Enable(ctx, grant.KeyID, ""); return err }},
		{"rotate", func() (err error) {
			_, token, err = keys.Rotate(ctx, grant.KeyID, keycote.RotateParams{Overlap: time.Hour, UntilUsed: true})
			return err
		}},
		{"the mark of the first use", func() error {
			_, err := keys.Verify(ctx, token.Reveal(), keycote.Request{})
			return err
		}},
		{"revoke", func() error { _, err := keys.Revoke(ctx, grant.KeyID, ""); return err }},
	} {
		before, err := env.Store.Get(ctx, "", grant.KeyID)
		require.NoError(t, err)
		require.NoError(t, step.call(), step.verb)
		after, err := env.Store.Get(ctx, "", grant.KeyID)
		require.NoError(t, err)
		require.Greater(t, after.Revision, before.Revision, step.verb)
		requireNewFields(t, after, step.verb)
	}
}

func requireNewFields(t *testing.T, row keycote.Record, verb string) {
	t.Helper()
	fields := keycote.SplitBody(row.Body[1:])
	want := keycote.BodyField{Key: fieldNew<<1 | 1, Data: []byte("from later")}
	require.Equal(t, want, fields[len(fields)-1], verb)
	i := slices.IndexFunc(fields, func(f keycote.BodyField) bool { return f.Key == fieldVersions<<1 })
	first := keycote.SplitBody(fields[i].Data)
	require.Equal(t, want, first[len(first)-1], verb)
}

// TestEventsOfANewerKeycote: one that cannot be read does not hide those behind it.
func TestEventsOfANewerKeycote(t *testing.T) {
	t.Parallel()
	env := keytest.New(t, nil)
	env.Issue()
	rows, err := env.Store.Events(t.Context(), keycote.EventQuery{Limit: 1})
	require.NoError(t, err)
	require.Len(t, rows, 1)
	later := keycote.EventSealedAgain(env.Manager, rows[0], append([]byte{2}, rows[0].Body[1:]...))
	later.ID = "evt_00000000000000000000000000"
	require.NoError(t, env.Store.Commit(t.Context(), keycote.Batch{ID: "later", Events: []keycote.EventRecord{later}}))

	var good, newer int
	for event, err := range env.Manager.Events(t.Context(), keycote.EventFilter{}) {
		var code keycote.Code
		switch {
		case err == nil:
			require.Equal(t, keycote.ActionIssue, event.Action)
			good++
		case errors.As(err, &code):
			require.Equal(t, keycote.ErrUnavailable, code)
			require.ErrorContains(t, err, "made by a newer Keycote")
			newer++
		}
	}
	require.Equal(t, 1, good)
	require.Equal(t, 1, newer)
}
