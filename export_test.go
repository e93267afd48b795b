package keycote

import "context"

// NewValidatorWithoutStrength leaves out the strength estimate, which takes longer than all the rest of Add.
func NewValidatorWithoutStrength() *Validator {
	v := NewValidator(nil)
	v.skipStrength = true
	return v
}

// Follow is one step of Run: it reads the feed from position on.
func (m *Manager) Follow(ctx context.Context, position string) string { return m.follow(ctx, position) }
