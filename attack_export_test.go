package keycote

import (
	"bytes"
	"context"
	"time"

	"github.com/tink-crypto/tink-go/v2/keyset"
)

// What the tests of package keycote_test need of the inside, to play somebody who holds more than the database, or a
// later Keycote that does what this one cannot yet.

// SealedValue is the current version's sealed value.
func SealedValue(row Record) string {
	rec, err := decodeRecord(row.Body)
	if err != nil {
		panic(err)
	}
	return rec.current().sealed
}

// Forge puts another sealed value or endpoint into a row and seals it again, as nobody can without the seal key: what
// must fail then is held by the associated data alone.
func Forge(m *Manager, row Record, sealed, endpoint string) Record {
	rec, err := decodeRecord(row.Body)
	if err != nil {
		panic(err)
	}
	if sealed != "" {
		rec.current().sealed = sealed
	}
	if endpoint != "" {
		rec.endpoint = endpoint
	}
	out, _, err := sealRecord(m.rings.roots.Load(), rec)
	if err != nil {
		panic(err)
	}
	out.Uses = row.Uses
	return out
}

// NextKeyring is item at its next revision, as the keyring rotation of a later Keycote leaves it: change works on the
// keyset, and wraps says for which KEKs it is wrapped.
func NextKeyring(ctx context.Context, item Item, from KEK, change func(*keyset.Manager) error, to ...KEK) (Item, error) {
	wraps, _, err := decodeRing(item.Body)
	if err != nil {
		return Item{}, err
	}
	handle, err := unwrap(ctx, from, wraps[0], ItemRef{item.Tenant, item.Space, item.Name, item.Revision})
	if err != nil {
		return Item{}, err
	}
	if change != nil {
		keys := keyset.NewManagerFromHandle(handle)
		if err := change(keys); err != nil {
			return Item{}, err
		}
		if handle, err = keys.Handle(); err != nil {
			return Item{}, err
		}
	}
	item.Revision++
	wraps = nil
	for _, kek := range to {
		var buf bytes.Buffer
		ad := keyringAD(item.Tenant, item.Name, item.Revision)
		if err := handle.WriteWithContext(ctx, keyset.NewBinaryWriter(&buf), kek, ad); err != nil {
			return Item{}, err
		}
		wraps = append(wraps, wrap{kek.ID(), buf.String()})
	}
	item.Body = encodeRing(wraps, time.Time{})
	return item, nil
}

// Tombstone is item at its next revision, shredded.
func Tombstone(item Item, at time.Time) Item {
	item.Revision++
	item.Body = encodeRing(nil, at)
	return item
}

// PrimaryIndexKey is the id of the key that m makes tokens with.
func PrimaryIndexKey(m *Manager) uint32 { return m.rings.roots.Load().index.primary }

// MadeUpToken is a value of issued form with a right checksum, that names an index key and has no right tag.
func MadeUpToken(prefix string, indexKey uint32, seed byte) string {
	t := issued{prefix: prefix}
	for i := range t.number {
		t.number[i] = seed + byte(i)
	}
	t.number[0], t.number[1], t.number[2], t.number[3] =
		byte(indexKey>>24), byte(indexKey>>16), byte(indexKey>>8), byte(indexKey)
	return t.String()
}
