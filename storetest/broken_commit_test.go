package storetest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/keycote/keycote"
)

// alter lets a store keep something other than it was given.
func alter(change func(r *keycote.Record)) func(*broken) {
	return func(s *broken) {
		s.commit = func(ctx context.Context, b keycote.Batch) error {
			b.Insert, b.Update = slices.Clone(b.Insert), slices.Clone(b.Update)
			for i := range b.Insert {
				change(&b.Insert[i])
			}
			for i := range b.Update {
				change(&b.Update[i])
			}
			return s.Store.Commit(ctx, b)
		}
	}
}

// recast lets a store take another Batch for the one that it was given.
func recast(change func(ctx context.Context, s *broken, b *keycote.Batch)) func(*broken) {
	return func(s *broken) {
		s.commit = func(ctx context.Context, b keycote.Batch) error {
			b.Insert, b.Update, b.Delete = slices.Clone(b.Insert), slices.Clone(b.Update), slices.Clone(b.Delete)
			b.Items, b.Events, b.Uses = slices.Clone(b.Items), slices.Clone(b.Events), slices.Clone(b.Uses)
			change(ctx, s, &b)
			return s.Store.Commit(ctx, b)
		}
	}
}

// refuse lets a store answer something of its own before anything else is judged.
func refuse(judge func(ctx context.Context, s *broken, b keycote.Batch) error) func(*broken) {
	return func(s *broken) {
		s.commit = func(ctx context.Context, b keycote.Batch) error {
			if err := judge(ctx, s, b); err != nil {
				return err
			}
			return s.Store.Commit(ctx, b)
		}
	}
}

// answer lets a store say something other than what went wrong.
func answer(change func(err error) error) func(*broken) {
	return func(s *broken) {
		s.commit = func(ctx context.Context, b keycote.Batch) error {
			if err := s.Store.Commit(ctx, b); err != nil {
				return change(err)
			}
			return nil
		}
	}
}

func nameTaken() error { return keycote.Violation{Field: "name", Code: keycote.ErrExists} }

func secretTaken() error { return keycote.Violation{Field: "secret", Code: keycote.ErrExists} }

// allOf returns all records of a tenant.
func allOf(ctx context.Context, s *broken, tenant string) []keycote.Record {
	records, _ := s.Store.List(ctx, keycote.Query{Tenant: tenant, Limit: 1000})
	return records
}

// splits takes a Batch apart, one entry each.
func splits(b keycote.Batch) (parts []keycote.Batch) {
	for _, r := range b.Delete {
		parts = append(parts, keycote.Batch{Delete: []keycote.RecordRef{r}})
	}
	for _, r := range b.Update {
		parts = append(parts, update(r))
	}
	for _, r := range b.Insert {
		parts = append(parts, insert(r))
	}
	for _, i := range b.Items {
		parts = append(parts, keycote.Batch{Items: []keycote.Item{i}})
	}
	return append(parts, keycote.Batch{Events: b.Events}, keycote.Batch{Redact: b.Redact, Uses: b.Uses, Prune: b.Prune})
}

var brokenCommits = []breakage{
	{"not atomic", []string{"BatchIsAtomic", "Model"}, func(s *broken) {
		s.commit = func(ctx context.Context, b keycote.Batch) error {
			if err := s.Store.Commit(ctx, keycote.Batch{Expect: b.Expect}); err != nil {
				return err
			}
			for _, part := range splits(b) {
				if err := s.Store.Commit(ctx, part); err != nil {
					return err
				}
			}
			return nil
		}
	}},
	{"events before the rest", []string{"BatchIsAtomic", "RaceOfUpdates"}, func(s *broken) {
		s.commit = func(ctx context.Context, b keycote.Batch) error {
			if err := s.Store.Commit(ctx, keycote.Batch{Events: b.Events}); err != nil {
				return err
			}
			b.Events = nil
			return s.Store.Commit(ctx, b)
		}
	}},
	{
		"ignores Expect",
		[]string{
			"ExpectHoldsTheBatch",
			"KeyringRewrapped",
			"KeyringShredded",
			"KeyringKeyDropped",
			"RaceOfExpectAndItem",
			"BatchIsAtomic",
		},
		recast(func(_ context.Context, _ *broken, b *keycote.Batch) { b.Expect = nil }),
	},
	{
		"Expect of absence holds always",
		[]string{"ExpectHoldsTheBatch", "KeyringRewrapped"},
		recast(func(_ context.Context, _ *broken, b *keycote.Batch) {
			b.Expect = slices.DeleteFunc(slices.Clone(b.Expect), func(r keycote.ItemRef) bool { return r.Revision == 0 })
		}),
	},
	{"ignores Batch.ID", []string{"BatchRepeated", "RaceOfOneBatch", "ContextEndsMeanwhile", "Model"}, recast(
		func(_ context.Context, _ *broken, b *keycote.Batch) { b.ID = "" })},
	{
		"judges a known Batch again",
		[]string{"BatchRepeated"},
		refuse(func(ctx context.Context, s *broken, b keycote.Batch) error {
			return s.Store.Commit(ctx, keycote.Batch{Expect: b.Expect})
		}),
	},
	{"folds Batch.ID", []string{"BatchRepeated"}, recast(func(_ context.Context, _ *broken, b *keycote.Batch) {
		b.ID = strings.ToLower(strings.TrimSpace(b.ID))
	})},
	{
		"forgets Batches of use counts alone",
		[]string{"BatchRepeated"},
		recast(func(_ context.Context, _ *broken, b *keycote.Batch) {
			if len(b.Uses) > 0 && len(b.Insert)+len(b.Update)+len(b.Items)+len(b.Events) == 0 {
				b.ID = ""
			}
		}),
	},
	{"remembers a failed Batch", []string{"BatchFailedIsNotRemembered"}, func(s *broken) {
		known := map[string]bool{}
		s.commit = func(ctx context.Context, b keycote.Batch) error {
			if b.ID != "" && known[b.ID] {
				return nil
			}
			known[b.ID] = true
			return s.Store.Commit(ctx, b)
		}
	}},
	{"remembers an empty ID", []string{"BatchWithoutID"}, recast(func(_ context.Context, _ *broken, b *keycote.Batch) {
		if b.ID == "" {
			b.ID = "none"
		}
	})},
	{
		"has no room for a large Batch",
		[]string{"BatchLarge"},
		refuse(func(_ context.Context, _ *broken, b keycote.Batch) error {
			if len(b.Insert) > 500 {
				return errors.New("too many parameters")
			}
			return nil
		}),
	},
	{"updates whatever the revision", []string{"RevisionOfUpdate", "RaceOfUpdates", "BatchIsAtomic", "Model"}, recast(
		func(ctx context.Context, s *broken, b *keycote.Batch) {
			for i, r := range b.Update {
				if old, err := s.Store.Get(ctx, r.Tenant, r.ID); err == nil {
					b.Update[i].Revision = old.Revision + 1
				}
			}
		})},
	{
		"deletes whatever the revision",
		[]string{"RevisionOfDelete"},
		recast(func(ctx context.Context, s *broken, b *keycote.Batch) {
			for i, r := range b.Delete {
				if old, err := s.Store.Get(ctx, r.Tenant, r.ID); err == nil {
					b.Delete[i].Revision = old.Revision
				}
			}
		}),
	},
	{
		"deletes what is gone",
		[]string{"RevisionOfDelete", "RecordOfAnotherTenant"},
		recast(func(ctx context.Context, s *broken, b *keycote.Batch) {
			b.Delete = slices.DeleteFunc(b.Delete, func(r keycote.RecordRef) bool {
				_, err := s.Store.Get(ctx, r.Tenant, r.ID)
				return err != nil
			})
		}),
	},
	{
		"inserts over what is there",
		[]string{"InsertOfWhatIsThere"},
		recast(func(ctx context.Context, s *broken, b *keycote.Batch) {
			b.Insert = slices.DeleteFunc(b.Insert, func(r keycote.Record) bool {
				old, err := s.Store.Get(ctx, r.Tenant, r.ID)
				if err == nil {
					r.Revision = old.Revision + 1
					b.Update = append(b.Update, r)
				}
				return err == nil
			})
		}),
	},
	{
		"the last item wins",
		[]string{"ItemRevisions", "RaceOfItems", "KeyringShredded"},
		recast(func(ctx context.Context, s *broken, b *keycote.Batch) {
			for i, it := range b.Items {
				old, _ := s.Store.Items(ctx, keycote.ItemQuery{Tenant: it.Tenant, Space: it.Space, Name: it.Name, Limit: 1})
				b.Items[i].Revision = 1
				if len(old) == 1 {
					b.Items[i].Revision = old[0].Revision + 1
				}
			}
		}),
	},
	{
		"keeps an item that was emptied",
		[]string{"ItemRevisions"},
		recast(func(_ context.Context, _ *broken, b *keycote.Batch) {
			for i := range b.Items {
				if len(b.Items[i].Body) == 0 {
					b.Items[i].Body = []byte{0}
				}
			}
		}),
	},
	{
		"an empty name is a name",
		[]string{"NameEmptyIsNotUnique"},
		refuse(func(ctx context.Context, s *broken, b keycote.Batch) error {
			for _, r := range b.Insert {
				if r.Name == "" &&
					slices.ContainsFunc(allOf(ctx, s, r.Tenant), func(o keycote.Record) bool { return o.Name == "" }) {
					return nameTaken()
				}
			}
			return nil
		}),
	},
	{
		"names are judged before the Batch",
		[]string{"NameFreedInTheSameBatch"},
		refuse(func(ctx context.Context, s *broken, b keycote.Batch) error {
			for _, r := range b.Insert {
				if r.Name != "" &&
					slices.ContainsFunc(
						allOf(ctx, s, r.Tenant),
						func(o keycote.Record) bool { return o.Kind == r.Kind && o.Name == r.Name },
					) {
					return nameTaken()
				}
			}
			return nil
		}),
	},
	{"digests are judged before the Batch", []string{"DigestMovesInOneBatch", "RaceOfReaders"}, refuse(holderRefuses)},
	{"secret before revision and name", []string{"ErrorsRank"}, refuse(holderRefuses)},
	{
		"updates keep the old digests",
		[]string{"RecordUpdateReplacesEverything", "LookupFollowsDigests", "DigestUnique"},
		recast(
			func(ctx context.Context, s *broken, b *keycote.Batch) {
				for i, r := range b.Update {
					if old, err := s.Store.Get(ctx, r.Tenant, r.ID); err == nil {
						b.Update[i].Digests = old.Digests
					}
				}
			}),
	},
	{"updates only add digests", []string{"DigestFreed", "LookupFollowsDigests", "FeedShowsDigestsBeforeAndAfter"}, recast(
		func(ctx context.Context, s *broken, b *keycote.Batch) {
			for i, r := range b.Update {
				if old, err := s.Store.Get(ctx, r.Tenant, r.ID); err == nil {
					b.Update[i].Digests = slices.Concat(old.Digests, r.Digests)
				}
			}
		})},
	{
		"updates merge labels",
		[]string{"RecordUpdateReplacesEverything"},
		recast(func(ctx context.Context, s *broken, b *keycote.Batch) {
			for i, r := range b.Update {
				if old, err := s.Store.Get(ctx, r.Tenant, r.ID); err == nil {
					maps.Copy(orEmpty(old.Labels), r.Labels)
					b.Update[i].Labels = old.Labels
				}
			}
		}),
	},
	{
		"says conflict for what is taken",
		[]string{"NameUnique", "DigestUnique", "RaceOfNames", "RaceOfDigests"},
		answer(func(err error) error {
			if errors.Is(err, keycote.ErrExists) {
				return keycote.ErrConflict
			}
			return err
		}),
	},
	{"does not say which field", []string{"NameUnique", "RaceOfNames"}, answer(func(err error) error {
		if errors.Is(err, keycote.ErrExists) {
			return keycote.ErrExists
		}
		return err
	})},
	{"says name for a digest", []string{"DigestUnique", "RaceOfDigests"}, answer(func(err error) error {
		if errors.Is(err, keycote.ErrExists) {
			return nameTaken()
		}
		return err
	})},
	{"says conflict for what is gone", []string{"RevisionOfUpdate"}, answer(func(err error) error {
		if errors.Is(err, keycote.ErrNotFound) {
			return keycote.ErrConflict
		}
		return err
	})},
	{"says conflict for an ended context", []string{"ContextEndedBefore"}, answer(func(err error) error {
		if errors.Is(err, context.Canceled) {
			return errors.Join(err, keycote.ErrConflict)
		}
		return err
	})},
	{"an ended context is ignored", []string{"ContextEndedBefore"}, func(s *broken) {
		s.commit = func(ctx context.Context, b keycote.Batch) error { return s.Store.Commit(context.WithoutCancel(ctx), b) }
	}},
	{"an ended context leaves half", []string{"ContextEndedBefore"}, func(s *broken) {
		s.commit = func(ctx context.Context, b keycote.Batch) error {
			if ctx.Err() != nil {
				_ = s.Store.Commit(context.WithoutCancel(ctx), keycote.Batch{Insert: b.Insert})
			}
			return s.Store.Commit(ctx, b)
		}
	}},
	{"a context that ends leaves half", []string{"ContextEndsMeanwhile"}, func(s *broken) {
		s.commit = func(ctx context.Context, b keycote.Batch) error {
			half := b
			half.ID, half.Items = "", nil
			_ = s.Store.Commit(context.WithoutCancel(ctx), half)
			<-ctx.Done()
			return ctx.Err()
		}
	}},
	{"times have milliseconds", []string{"RecordRoundTrip", "ListFilters"}, alter(func(r *keycote.Record) {
		r.CreatedAt, r.ExpiresAt = r.CreatedAt.Truncate(time.Millisecond), r.ExpiresAt.Truncate(time.Millisecond)
	})},
	{"never is a moment", []string{"RecordRoundTrip", "ListFilters"}, alter(func(r *keycote.Record) {
		if r.ExpiresAt.IsZero() {
			r.ExpiresAt = time.Unix(0, 0)
		}
	})},
	{
		"bodies are cut at 64 KiB",
		[]string{"RecordLarge"},
		alter(func(r *keycote.Record) { r.Body = r.Body[:min(len(r.Body), 1<<16)] }),
	},
	{
		"bodies are text",
		[]string{"RecordRoundTrip"},
		alter(func(r *keycote.Record) { r.Body = []byte(strings.ToValidUTF8(string(r.Body), "\ufffd")) }),
	},
	{"one label only", []string{"RecordRoundTrip"}, alter(func(r *keycote.Record) {
		for name := range r.Labels {
			r.Labels = map[string]string{name: r.Labels[name]}
		}
	})},
}

func holderRefuses(ctx context.Context, s *broken, b keycote.Batch) error {
	for _, r := range slices.Concat(b.Insert, b.Update) {
		for _, d := range r.Digests {
			if old, err := s.Store.Lookup(ctx, [][]byte{d}); err == nil && (old.Tenant != r.Tenant || old.ID != r.ID) {
				return secretTaken()
			}
		}
	}
	return nil
}
